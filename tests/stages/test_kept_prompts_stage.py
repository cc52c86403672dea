"""Prompts of `grpo` that are read from kept files, and those that cannot be written into any."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.forked import run_forked, warm
from tests.kills import hashes
from tests.trained import Trained

ROWS = [
    {"prompt": [{"role": "user", "content": f"What is {n} + {n % 7}?"}], "n": n} for n in range(60)
]
REWARD = """
from datetime import datetime

def length(completions, n, when=None, **_):
    assert all(isinstance(number, int) for number in n)
    assert when is None or all(isinstance(each, datetime) for each in when)
    return [float(len(str(each)) + number) for each, number in zip(completions, n)]
"""
RECIPE = """\
name: tiny
stages:
  asked:
    stage: grpo
    model: {model}
    prompts: {{file: {file}{more}}}
    reward: {{use: reward:length}}
    batch_size: 8
    best_of: 2
    training_args: {{max_steps: 2, num_generations: 4, max_completion_length: 8,
      learning_rate: 1e-3{evaluating}}}
"""


HOLDOUT, EVALUATING = ", holdout: 0.2", ", eval_strategy: steps, eval_steps: 1"


def ask(
    trained: Trained, folder: Path, file: str, more: str = "", evaluating: str = ""
) -> dict[str, Any]:
    """Train on prompts of a file; return the metrics, and the hashes of what came of it."""
    model = (trained.runs / "tiny/sft").resolve()
    (folder / "reward.py").write_text(REWARD)
    path = folder / "tiny.yaml"
    path.write_text(RECIPE.format(model=model, file=file, more=more, evaluating=evaluating))
    warm()
    ended = run_forked(path, folder / "runs")
    assert ended.code == 0, ended.output
    metrics = json.loads((folder / "runs/tiny/asked/artifact.json").read_text())["metrics"]
    return {"metrics": metrics, "hashes": hashes(folder / "runs", "asked")}


def kept(folder: Path) -> set[str]:
    return {path.name for path in (folder / "runs/store/.encoded").iterdir()}


def test_prompts_are_kept_with_those_held_out_and_read_again_to_the_same_bytes(
    trained: Trained, tmp_path: Path
) -> None:
    lines = (json.dumps(row) for row in ROWS)
    (tmp_path / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    first = ask(trained, tmp_path, "rows.jsonl", HOLDOUT, EVALUATING)
    before = kept(tmp_path)
    (done,) = (tmp_path / "runs/store").glob("grpo-*")
    done.rename(tmp_path / "done")
    again = ask(trained, tmp_path, "rows.jsonl", HOLDOUT, EVALUATING)
    assert again["hashes"] == first["hashes"]
    assert kept(tmp_path) == before
    assert 0 < first["metrics"]["prompts_used"] < len(ROWS), "some are held out"


def test_prompts_that_cannot_be_written_down_train_to_the_bytes_of_those_that_can(
    trained: Trained, tmp_path: Path
) -> None:
    """A time of a zone would not come back as it was, and reward functions get it all the same."""
    of_text, of_times = tmp_path / "text", tmp_path / "times"
    of_text.mkdir()
    of_times.mkdir()
    pq.write_table(pa.Table.from_pylist(ROWS), of_text / "rows.parquet")
    timed = [{**row, "when": datetime(2026, 1, 2, tzinfo=UTC)} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(timed), of_times / "rows.parquet")
    expected = ask(trained, of_text, "rows.parquet")
    found = ask(trained, of_times, "rows.parquet")
    assert found["metrics"]["prompt_tokens"] == expected["metrics"]["prompt_tokens"]
    assert found["hashes"] == expected["hashes"]
