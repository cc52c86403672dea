"""What would be one row of results is refused: both would be measured as one, or one be lost."""

from pathlib import Path

import pytest

from tests.command import Command, is_like, the_line

RECIPE = """\
name: twice
stages:
  tokenizer: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $tokenizer, hidden_size: 32, num_hidden_layers: 2}
    data: {task: facts}
    tokens: 20k
    sequence_length: 64
  asked: {stage: evaluate, model: $base, ASKED}
"""
REFUSED = {
    "texts: [{file: a.jsonl}, {file: a.jsonl, rows: 1}]": "`texts` has two of the name `a.jsonl`",
    "texts: [{hub: o/n, subset: a}, {hub: o/n, subset: b}]": "`texts` has two of the name `o/n`",
    "prompts: [{file: a.jsonl}, {file: a.jsonl}]": "`prompts` has two of the name `a.jsonl`",
    "tasks: [multiple_choice(test=a.jsonl), multiple_choice(test=b.jsonl)]": (
        "`tasks` has two of the name `multiple_choice`"
    ),
    "tasks: [facts, logic, facts]": "`tasks` has two of the name `facts`",
}
ACCEPTED = (
    "texts: [{file: a.jsonl}, {file: b.jsonl}]",
    "tasks: [arithmetic(max_digits=2), arithmetic(max_digits=3)]",
    "tasks: ['qa(file=a.jsonl, match=exact)', 'qa(file=b.jsonl, match=exact)']",
    "tasks: facts, texts: {task: facts}, prompts: {task: facts}",
)


def _recipe(folder: Path, asked: str) -> str:
    (folder / "recipe.yaml").write_text(RECIPE.replace("ASKED", asked))
    for name in ("a", "b"):
        (folder / f"{name}.jsonl").write_text('{"question": "Who?", "answer": "I."}\n')
    return "recipe.yaml"


@pytest.mark.parametrize("asked", REFUSED)
def test_two_of_one_name_are_refused(posttrain: Command, tmp_path: Path, asked: str):
    line = the_line(posttrain("plan", _recipe(tmp_path, asked)))
    assert is_like(line, f"recipe.yaml:10:...{REFUSED[asked]}, ...; measure them in two stages")


@pytest.mark.parametrize("asked", ACCEPTED)
def test_two_of_different_names_are_not(posttrain: Command, tmp_path: Path, asked: str):
    said = posttrain("plan", _recipe(tmp_path, asked))
    assert said.code == 0, said.err
