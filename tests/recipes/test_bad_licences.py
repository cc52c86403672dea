"""Licences that cannot be, each with the line that it gives, and what is said of those that are."""

import json
from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line
from tests.recipes.test_bad_recipes import expected

RECIPE = """\
name: licences
stages:
  tokenizer: {stage: tokenizer, data: [{task: arithmetic}], vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: [{task: arithmetic}]
    tokens: 20k
    sequence_length: 512
  rm: {stage: reward_model, model: $base, data: {file: pairs.jsonl, holdout: 0.2}}
  sampled: {stage: generate, model: $base, prompts: {task: arithmetic}, max_new_tokens: 8}
  ppo:
    stage: ppo
    model: $base
    prompts: [{task: arithmetic}]
    reward:
      - {model: $rm, licence: {file: pairs.jsonl, holdout: 0.2, pairs: 50}}
      - {verify: all}
  questions: {stage: judgements, data: {file: pairs.jsonl, holdout: 0.2}}
  judge: {stage: sft, model: $base, data: $questions}
  ranked:
    stage: label
    data: $sampled
    judge: {model: $judge, licence: {file: pairs.jsonl, holdout: 0.2}}
"""
OF_JUDGE = "licence: {file: pairs.jsonl, holdout: 0.2}}"
LICENCE = "licence: {file: pairs.jsonl, holdout: 0.2, pairs: 50}"
VERIFY = "{verify: all}"
# Part of RECIPE, what stands there instead, what must be said of it.
EDITS = [
    (LICENCE, "licence: ‸on", "`licence` is `on`, not `off`"),
    (LICENCE, "licence: {‸fil: pairs.jsonl}", "unknown key `fil`; did you mean `file`"),
    (LICENCE, "licence: {file: pairs.jsonl, pairs: ‸0}", "`pairs` is 0; it must be above 0"),
    (LICENCE, "licence: {file: pairs.jsonl, weight: ‸2}", "`weight` has no meaning for a `lic"),
    (LICENCE, "licence: {file: pairs.jsonl, form: ‸chat}", "`form` is chat, and a licence takes"),
    (LICENCE, "licence: {task: facts, split: ‸train}", "`split` train is what models learn from"),
    (LICENCE, "licence: {task: facts, split: ‸dev}", "a task has no split `dev`"),
    (LICENCE, "licence: ‸$nowhere", "there is no stage `nowhere`"),
    (LICENCE, "licence: ‸$sampled", "`$sampled` makes rows of the form prompt_completion"),
    (LICENCE, "licence: {file: ‸none.jsonl}", "`none.jsonl` does not exist"),
    (LICENCE, "licence: ‸{file: pairs.jsonl}", "`$rm` learnt from these pairs, and is examined"),
    (LICENCE, "licence: {file: pairs.jsonl, columns: {‸bad: x}}", "`bad` is no column name of"),
    (OF_JUDGE, "licence: ‸{file: pairs.jsonl}}", "`$judge` learnt from these pairs, and is exam"),
    (VERIFY, "{verify: all, licence: ‸off}", "`licence` is for a `model`; what is computed takes"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good recipe and its pairs."""
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    pair = {"chosen": "Yes.", "rejected": "No."}
    rows = [{"prompt": f"Is it {number}?", **pair} for number in range(40)]
    (tmp_path / "pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return tmp_path


@pytest.mark.parametrize(("old", "new", "words"), EDITS, ids=[case[1] for case in EDITS])
def test_a_bad_licence_gives_one_line_that_points_at_its_place(
    folder: Path, posttrain: Command, old: str, new: str, words: str
) -> None:
    assert RECIPE.count(old) == 1
    marked = RECIPE.replace(old, new)
    (folder / "recipe.yaml").write_text(marked.replace("‸", ""))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, expected(marked, words)), line


def test_check_reads_every_row_of_an_exam(folder: Path, posttrain: Command) -> None:
    said = posttrain("check", "recipe.yaml")
    assert said.code == 0, said
    assert "ppo: pairs.jsonl: " in said.out
    pairs = folder / "people.jsonl"
    asked = {"input": "Hi", "output_1": "Hello.", "output_2": "No."}
    pairs.write_text("\n".join(json.dumps({**asked, "label": label}) for label in (1, 2, 3)))
    (folder / "recipe.yaml").write_text(RECIPE.replace(LICENCE, "licence: {file: people.jsonl}"))
    line = the_line(posttrain("check", "recipe.yaml"))
    assert line.startswith("people.jsonl:3: `label` is 3, not 1 or 2"), line


def test_an_exam_that_is_waived_is_remarked_upon(folder: Path, posttrain: Command) -> None:
    (folder / "recipe.yaml").write_text(RECIPE.replace(LICENCE, "licence: off"))
    for command in ("plan", "check"):
        said = posttrain(command, "recipe.yaml")
        assert said.code == 0, said
        assert "`rm` takes no exam (`licence: off`)" in said.out


def test_a_licence_is_part_of_what_is_computed_and_none_leaves_a_fingerprint_alone(
    folder: Path, posttrain: Command
) -> None:
    from pipeline.plan.plan import make
    from pipeline.recipe.load import load
    from pipeline.store.store import Store

    def fingerprint(text: str) -> str:
        (folder / "recipe.yaml").write_text(RECIPE.replace(LICENCE, text))
        return make(load(folder / "recipe.yaml"), Store(folder / "runs")).stage("ppo").fingerprint

    found = [fingerprint(text) for text in (LICENCE, "licence: off", "weight: 1.0")]
    assert len(set(found)) == 3
    (folder / "pairs.jsonl").write_text((folder / "pairs.jsonl").read_text().replace("Yes", "Oui"))
    assert fingerprint(LICENCE) != found[0]
