"""What would stop a stage that waits for others is found by `check`, with its place."""

import json
from pathlib import Path

import pytest

from tests.command import Command, command, the_line
from tests.small_model import save_model

RECIPE = """\
name: tiny
seed: 3
stages:
  words: {stage: tokenizer, data: {task: arithmetic}, vocab_size: 300}
  base:
    stage: pretrain
    model: {architecture: llama, tokenizer: $words, hidden_size: 32, num_hidden_layers: 2}
    data: {task: arithmetic}
    tokens: 4k
    sequence_length: 64
    batch_size: 8
  later: {stage: sft, model: $base, data: {task: arithmetic, rows: 8}, batch_size: 8}
  here: {stage: sft, model: ./model, data: {file: chats.jsonl}, batch_size: 2}
  asked: {stage: evaluate, model: $later, tasks: arithmetic, limit: 4}
  compared: {stage: compare, baseline: $base, candidates: $later, tasks: arithmetic, limit: 4}
"""


@pytest.fixture
def posttrain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    Path("chats.jsonl").write_text(f"{json.dumps({'messages': turns})}\n" * 4)
    save_model(Path("model"))
    capsys.readouterr()
    return command(monkeypatch, capsys)


def test_a_recipe_without_faults_passes(posttrain: Command) -> None:
    said = posttrain("check", "recipe.yaml")
    assert said.code == 0, said
    assert "here: 4 of 4 rows trained" in said.out


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        (
            "stages.later.lora={target_modules: [query]}",
            "Target modules {'query'} not found in the base model; name others in "
            "`target_modules`: there are down_proj, gate_proj, ",
        ),
        (
            "stages.here.lora={target_modules: [q_proj, nowhere]}",
            "`target_modules`: the model has no layer `nowhere`; there are down_proj, ",
        ),
        (
            "stages.here.lora={modules_to_save: [nowhere]}",
            "`modules_to_save`: the model has no module `nowhere`; there are down_proj, ",
        ),
        (
            "stages.later.lora={target_modules: [q_proj], layers_to_transform: [7]}",
            "not found in the base model among the layers [7] (`layers_to_transform`); name others",
        ),
        (
            "stages.later.training_args.report_to=wandb",
            "`report_to` names wandb, which is not installed; pip install wandb, or leave it out",
        ),
        ("stages.compared.candidates=[$later, $later]", "`$later` is named twice; name each"),
        ("stages.compared.tasks=[]", "there is nothing to ask the models; name `tasks`, "),
    ],
)
def test_it_is_found_by_check(posttrain: Command, setting: str, line: str) -> None:
    said = the_line(posttrain("check", "recipe.yaml", "--set", setting))
    assert line in said, said


def test_too_few_examples_to_show_are_found_by_check(posttrain: Command) -> None:
    for name, numbers in (("few", range(3)), ("asked", range(3, 9))):
        rows = ({"question": f"{n}?", "answer": str(n)} for n in numbers)
        Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    task = "qa(train=few.jsonl, test=asked.jsonl, match=exact)"
    sets = [f"stages.asked.tasks=['{task}']", "stages.asked.shots=5"]
    said = the_line(posttrain("check", "recipe.yaml", *(w for s in sets for w in ("--set", s))))
    assert said.startswith("--set stages.asked.tasks: a prompt of")
    assert "takes 1 to 3 demonstrations, not 5" in said, said


def test_a_model_of_documents_is_asked_by_documents_whatever_template_its_tokenizer_has(
    posttrain: Command,
) -> None:
    """A digit to go on with leaves room for 60 tokens of 64; the same question in chat does not."""
    shape = "{architecture: llama, tokenizer: ./model, hidden_size: 32, num_hidden_layers: 2}"
    drawn = f"{{stage: pretrain, model: {shape}, data: {{task: digits}}, tokens: 4k"
    paid = "{stage: grpo, model: $drawn, prompts: {task: digits, rows: 16}, reward: {verify: all}"
    said = posttrain(
        *("check", "recipe.yaml"),
        *("--set", f"stages.drawn={drawn}, sequence_length: 64, batch_size: 8}}"),
        *("--set", f"stages.paid={paid}, training_args: {{max_completion_length: 60}}}}"),
    )
    assert said.code == 0, said
    assert "paid: 16 of 16 prompts" in said.out
