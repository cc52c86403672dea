"""A folder of task definitions for lm-evaluation-harness whose data are local files."""

import json
import random
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest

from eval.tasks import load

CHOICES = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}, cache_dir: {cache}}}
output_type: multiple_choice
test_split: test
fewshot_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
doc_to_choice: choices
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
metadata: {{version: 1.5}}
"""
LINES = """\
task: lines
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}, cache_dir: {cache}}}
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{{{question}}}}"
metric_list: [{{metric: word_perplexity}}, {{metric: bits_per_byte}}]
metadata: {{version: 1}}
"""
BOTH = """\
group: both
task: [capitals, currencies]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
metadata: {version: 2}
"""


def harness_tasks(folder: Path, gsm8k: Path | None = None) -> Path:
    """Write `capitals`, `currencies`, their group `both`, `lines`, and the harness's own gsm8k.

    gsm8k: a folder with its rows, for `local_gsm8k`, which writes 24 tokens after one
    demonstration. Skips the test where lm_eval is not installed.
    """
    spec = find_spec("lm_eval")
    if spec is None or spec.origin is None:
        pytest.skip("lm_eval is not installed")
    tasks, cache = folder / "tasks", folder / "cache"
    tasks.mkdir()
    examples = list(islice(load("facts").examples("test"), 400))
    for name, word in (("capitals", "capital of"), ("currencies", "currency of")):
        rows = folder / f"{name}.jsonl"
        lines: list[str] = []
        for example in [each for each in examples if word in each.document][:16]:
            choices = [text.strip() for text in (example.continuation, *example.distractors)]
            random.Random(example.id).shuffle(choices)
            answer = choices.index(example.continuation.strip())
            row = {"question": example.document, "choices": choices, "answer": answer}
            lines.append(json.dumps(row))
        rows.write_text("\n".join(lines))
        (tasks / f"{name}.yaml").write_text(CHOICES.format(name=name, rows=rows, cache=cache))
    (tasks / "lines.yaml").write_text(LINES.format(rows=folder / "capitals.jsonl", cache=cache))
    (tasks / "both.yaml").write_text(BOTH)
    if gsm8k is not None:
        definition = (Path(spec.origin).parent / "tasks/gsm8k/gsm8k.yaml").read_text()
        files = f"{{train: {gsm8k}/train.jsonl, test: {gsm8k}/test.jsonl}}"
        for old, new in (
            ("task: gsm8k\n", "task: local_gsm8k\n"),
            ("dataset_path: openai/gsm8k\n", "dataset_path: json\n"),
            (
                "dataset_name: main\n",
                f"dataset_kwargs: {{data_files: {files}, cache_dir: {cache}}}\n",
            ),
            ("  do_sample: false\n", "  do_sample: false\n  max_gen_toks: 24\n"),
            ("num_fewshot: 5\n", "num_fewshot: 1\n"),
        ):
            assert definition.count(old) == 1
            definition = definition.replace(old, new)
        (tasks / "gsm8k.yaml").write_text(definition)
    return tasks
