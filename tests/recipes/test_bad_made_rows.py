"""Bad generate, label and best_of_n stages: exit code 2 and one line that points at its place.

The mark ‸ in a text is where its error must point; `...` in a sentence is anything.
"""

import json
from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line
from tests.recipes.test_bad_recipes import expected

RECIPE = """\
name: bad
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2,
            max_position_embeddings: 256}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 64
  sampled:
    stage: generate
    model: $base
    prompts: [{task: arithmetic}, {file: asked.jsonl}]
    num_samples: 4
    max_new_tokens: 32
  scored: {stage: label, data: $sampled, reward: [{verify: all}, {use: "mine:f"}]}
  pairs: {stage: label, data: {stage: $sampled}, reward: {verify: arithmetic}, pairs: best_worst}
  thumbs: {stage: label, data: [$sampled], reward: {use: "mine:f", on: asked.jsonl}, thumbs: 0.5}
  best: {stage: best_of_n, data: $scored, at_least: 1}
  own: {stage: label, data: {file: answers.jsonl}, reward: {use: "mine:f", on: anything}}
  sft: {stage: sft, model: $base, data: [$best, {task: facts}]}
  dpo: {stage: dpo, model: $sft, data: {stage: $pairs, holdout: 0.1}}
  kto: {stage: kto, model: $sft, data: $thumbs}
  chosen: {stage: sft, model: $base, data: {stage: $pairs, form: preference}}
  ppo: {stage: ppo, model: $base, prompts: $sampled, reward: {use: "mine:f"}}
"""
SAMPLES = "num_samples: 4"
PROMPTS = "[{task: arithmetic}, {file: asked.jsonl}]"
SCORED = 'data: $sampled, reward: [{verify: all}, {use: "mine:f"}]'
PAIRS = "data: {stage: $sampled}, reward: {verify: arithmetic}, pairs: best_worst"
THUMBS = 'data: [$sampled], reward: {use: "mine:f", on: asked.jsonl}, thumbs: 0.5'
BEST = "data: $scored, at_least: 1"
OWN = '{file: answers.jsonl}, reward: {use: "mine:f", on: anything}'
SFT = "[$best, {task: facts}]"
DPO = "data: {stage: $pairs, holdout: 0.1}"
READS_TEXT = "{stage: pretrain, model: $base, tokens: 9k, sequence_length: 64"

# Part of RECIPE, what stands there instead, what must be said of it.
EDITS = [
    (SAMPLES, "num_samples: ‸0", "`num_samples` is 0; it must be above 0"),
    (SAMPLES, "num_samples: 4\n    temperature: 0", "greedy responses are all the same; set `temp"),
    (SAMPLES, "‸samples: 4", "unknown key `samples`; did you mean `num_samples`?"),
    (SAMPLES, "max_new_token: 4\n    num_samples: 4", "did you mean `max_new_tokens`?"),
    (SAMPLES, "cut: ‸no", "`cut` is `no`, not `keep` or `drop`"),
    ("max_new_tokens: 32", "max_new_tokens: ‸256", "256 leaves no room in the 256 positions of `$"),
    (PROMPTS, "[{task: arithmetic, split: ‸test}]", "the split `test` is for evaluation only"),
    (PROMPTS, "[{file: asked.jsonl, form: ‸chat}]", "`form` chat is not what this stage reads"),
    (PROMPTS, "‸$base", "`$base` gives a model, here a set of rows is needed; that is"),
    (PROMPTS, "[{stage: ‸sampled}]", "`sampled` cannot be `stage`; write `$name` of a stage that"),
    (PROMPTS, "[‸{stage: $pairs, file: a.jsonl}]", "this has `file` and `stage`"),
    (PROMPTS, "[{stage: $pairs, split: ‸train}]", "`split` has no meaning for a `stage` source"),
    (PROMPTS, "$pairs", "the stages go in a circle: sampled -> pairs -> sampled"),
    (SCORED, 'data: ‸$smpled, reward: {use: "mine:f"}', "no stage `smpled`; did you mean `samp"),
    (SCORED, 'data: {task: ‸arithmetic}, reward: {use: "mine:f"}', "and a task has none; sample"),
    (SCORED, 'data: ‸$pairs, reward: {use: "mine:f"}', "makes rows of the form preference (prompt"),
    (SCORED, "data: $sampled, reward: {verify: ‸facts}", "`facts` is no task of these prompts"),
    (SCORED, "data: $sampled, reward: {verify: all, weight: ‸.inf}", "write a finite number"),
    (SCORED, 'data: $sampled, reward: {use: ‸"mine:g"}', "mine.py has no `g`"),
    (SCORED, 'data: $sampled, reward: [{verify: all}, ‸{verify: all}]', "two rewards are called"),
    (PAIRS, f"{PAIRS}, thumbs: ‸mean", "`thumbs` and `pairs` are two results; write two"),
    (PAIRS, PAIRS.replace("best_worst", "‸best"), "`pairs` is `best`, not"),
    (PAIRS, PAIRS.replace("best_worst", "{which: all, margin: ‸-1}"), "must be at least 0"),
    (THUMBS, THUMBS.replace("0.5", "‸median"), "`thumbs` is `median`, not"),
    (BEST, "data: ‸$sampled", "`$sampled` makes no column `score` (prompt, completion, source"),
    (BEST, "data: $scored, by: ‸completion", "`by` completion is a text; name the column"),
    (OWN, OWN.replace('use: "mine:f", on: anything', "verify: ‸all"), "nothing to verify; write"),
    (SFT, "‸$pairs", "and this stage reads chat or prompt_completion; write `{stage: $pairs, form"),
    (DPO, "data: ‸$sampled", "`$sampled` makes rows of the form prompt_completion (prompt, compl"),
    (SFT, "‸$thumbs", "`$thumbs` makes rows of the form unpaired_preference (prompt, comp"),
    ("model: $sft, data: $thumbs", "model: $sft, data: ‸$scored", "with `thumbs: mean` says"),
    (DPO, "data: ‸$scored", "reads preference; `stage: label` with `pairs: best_worst` makes pa"),
    (SFT, f"$best}}\n  more: {READS_TEXT}, data: ‸$best", "this stage reads text"),
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "mine.py").write_text("def f(completions, **rest):\n    return [0.0] * 9\n")
    asked = [{"prompt": f"Say {number}.", "id": number} for number in range(20)]
    (tmp_path / "asked.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in asked))
    rows = [{**row, "completion": "x"} for row in asked]
    (tmp_path / "answers.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


def test_the_recipe_that_the_cases_spoil_is_good(folder: Path, posttrain: Command) -> None:
    said = posttrain("check", "recipe.yaml")
    assert said.code == 0, said
    assert "sampled: asked.jsonl: 20 rows (prompt)" in said.out
    assert "own: answers.jsonl: 20 rows" in said.out
    assert posttrain("plan", "recipe.yaml").code == 0


@pytest.mark.parametrize(("old", "new", "words"), EDITS, ids=[case[1] for case in EDITS])
def test_a_bad_stage_gives_one_line_that_points_at_its_place(
    folder: Path, posttrain: Command, old: str, new: str, words: str
) -> None:
    assert old in RECIPE
    marked = RECIPE.replace(old, new, 1)
    (folder / "recipe.yaml").write_text(marked.replace("‸", ""))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, expected(marked, words)), line
