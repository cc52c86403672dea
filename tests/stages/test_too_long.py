"""Rows that are too long: what `check` and `run` say of them, and what is trained."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, command, the_line
from tests.forked import Ended, run_forked, warm
from tests.small_model import save_model

SETTINGS = "batch_size: 2, training_args: {max_length: 80, max_steps: 1, logging_steps: 1}"
RECIPE = f"""\
name: tiny
seed: 3
stages:
  sft: {{stage: sft, model: ./model, data: {{file: chats.jsonl}}, {SETTINGS}}}
  rm: {{stage: reward_model, model: ./model, data: {{file: pairs.jsonl}}, {SETTINGS}}}
  dpo: {{stage: dpo, model: ./model, data: {{file: pairs.jsonl}}, {SETTINGS}}}
  ppo:
    stage: ppo
    model: ./model
    prompts: {{file: prompts.jsonl}}
    reward: {{use: "shorter:shorter"}}
    batch_size: 2
    best_of: 0
    training_args: {{max_completion_length: 8, total_episodes: 2, num_ppo_epochs: 1}}
"""
REWARD = """\
def shorter(completions, **columns):
    return [-float(len(each[0]["content"])) for each in completions]
"""
LONG = "Once upon a time there was a dog. " * 4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe and a model of 256 positions."""
    warm()
    folder = tmp_path_factory.mktemp("long")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "shorter.py").write_text(REWARD)
    save_model(folder / "model")
    return folder


@pytest.fixture
def posttrain(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Command:
    """The command, in a copy of that folder with few long rows."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    rows(long=4, short=6)
    return command(monkeypatch, capsys)


def rows(*, long: int, short: int) -> None:
    """Write sources in which so many rows are longer than `max_length`, or leave no room."""
    answers = [LONG] * long + [f"A dog has {number} legs." for number in range(short)]
    turns = ({"role": "user", "content": "A dog?"},)
    write("chats", ({"messages": [*turns, reply(answer)]} for answer in answers))
    pairs = ({"prompt": "A dog?", "chosen": each, "rejected": "No."} for each in answers)
    write("pairs", pairs)
    asked = [LONG * 4] * long + [f"Tell me of {number} dogs." for number in range(short)]
    write("prompts", ({"prompt": [{"role": "user", "content": each}]} for each in asked))


def reply(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def write(name: str, lines: Iterable[Any]) -> None:
    Path(f"{name}.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in lines))


def run(*sets: str, only: str) -> Ended:
    return run_forked(Path("recipe.yaml"), Path("runs"), overrides=sets, only=only)


def metrics(stage: str) -> dict[str, Any]:
    return json.loads(Path("runs/tiny", stage, "artifact.json").read_text())["metrics"]


def test_check_counts_rows_as_their_stages_will_and_shows_how_long_they_are(
    posttrain: Command,
) -> None:
    said = posttrain("check", "recipe.yaml")
    assert said.code == 0, said
    lines = said.out.splitlines()
    assert "sft: warning: 10 of 10 rows trained, 4 of them cut to 80 tokens" in lines
    for stage in ("rm", "dpo"):
        told = f"{stage}: warning: 6 of 10 rows trained: 4 longer than 80"
        assert told in lines
    assert "ppo: warning: 6 of 10 prompts used: 4 longer than 248" in lines
    of_sft = lines[lines.index("sft: warning: 10 of 10 rows trained, 4 of them cut to 80 tokens") :]
    assert of_sft[1].startswith("tokens: ")
    (beyond,) = (line for line in of_sft[:8] if line.endswith("too long"))
    assert beyond.split()[3] == "4"


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("sft", {"rows": 10, "rows_used": 10, "rows_cut": 4, "longest_tokens": 80}),
        ("rm", {"rows": 10, "rows_used": 6, "rows_dropped_too_long": 4, "rows_cut": 0}),
        ("dpo", {"rows": 10, "rows_used": 6, "rows_dropped_too_long": 4, "rows_cut": 0}),
        ("ppo", {"prompts": 10, "prompts_used": 6, "prompts_dropped_too_long": 4}),
    ],
)
def test_a_stage_goes_on_without_what_is_too_long_and_says_so(
    posttrain: Command, stage: str, expected: dict[str, int]
) -> None:
    ended = run(only=stage)
    assert ended.code == 0, ended.output
    found = metrics(stage)
    assert {key: found[key] for key in expected} == expected
    assert "warning: " in ended.output
    again = posttrain("run", "recipe.yaml", "--stage", stage)
    assert again.code == 0, again


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        (
            "rm",
            "recipe.yaml:5:51: 6 of 10 pairs are longer than 80 tokens; raise `max_length` ",
        ),
        (
            "dpo",
            "recipe.yaml:6:43: 6 of 10 pairs are longer than 80 tokens; raise `max_length` ",
        ),
        ("ppo", "recipe.yaml:10:14: 6 of 10 prompts are longer than 248 tokens; lower `max_c"),
    ],
)
def test_that_most_rows_would_be_dropped_is_found_before_anything_runs(
    posttrain: Command, stage: str, line: str
) -> None:
    rows(long=6, short=4)
    others = [name for name in ("rm", "dpo", "ppo") if name != stage]
    sets = [each for name in others for each in ("--set", f"stages.{name}.too_long=truncate")]
    said = the_line(posttrain("check", "recipe.yaml", *sets))
    assert said.startswith(line), said
    ended = run(only=stage)
    assert ended.code == 2, ended.output
    assert ended.output.splitlines()[-1].startswith(line), ended.output
    assert not Path("runs/store").exists() or not list(Path("runs/store").glob("*/artifact.json"))
    ended = run(f"stages.{stage}.too_long=truncate", only=stage)
    assert ended.code == 0, ended.output
    found = metrics(stage)
    key = "prompts" if stage == "ppo" else "rows"
    assert (found[f"{key}_used"], found[f"{key}_cut"]) == (10, 6)


@pytest.mark.parametrize("stage", ["sft", "rm", "dpo", "ppo"])
def test_a_row_that_is_too_long_can_be_made_an_error(posttrain: Command, stage: str) -> None:
    said = the_line(posttrain("check", "recipe.yaml", "--set", f"stages.{stage}.too_long=error"))
    source = {"sft": "chats", "ppo": "prompts"}.get(stage, "pairs")
    assert said.startswith(f"{source}.jsonl:1: "), said
    assert "shorten it" in said


def test_more_rows_a_step_than_there_are_is_found_before_anything_runs(posttrain: Command) -> None:
    said = the_line(posttrain("check", "recipe.yaml", "--set", "stages.dpo.batch_size=7"))
    assert said.endswith("`batch_size` 7 is more than all 6 pairs; lower `batch_size`"), said


def test_without_a_length_rows_may_be_as_long_as_the_model_has_positions(
    posttrain: Command,
) -> None:
    said = posttrain("check", "recipe.yaml", "--set", "stages.sft.training_args={max_steps: 1}")
    assert "sft: 10 of 10 rows trained" in said.out.splitlines()
    ended = run("stages.sft.training_args={max_steps: 1}", only="sft")
    assert ended.code == 0, ended.output
    assert metrics("sft")["row_limit"] == 256
    assert metrics("sft")["rows_cut"] == 0


def test_rows_whose_tokenizer_is_not_made_yet_are_looked_at_as_soon_as_it_is(
    posttrain: Command,
) -> None:
    Path("recipe.yaml").write_text(
        """\
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
  dpo: {stage: dpo, model: $base, data: {file: pairs.jsonl}, batch_size: 2}
"""
    )
    rows(long=6, short=4)
    said = posttrain("check", "recipe.yaml")
    assert "dpo: how long its rows are is known once `words` has run" in said.out
    ended = run_forked(Path("recipe.yaml"), Path("runs"))
    assert ended.code == 2, ended.output
    assert "6 of 10 pairs are longer than 64 tokens" in ended.output.splitlines()[-1]
    assert not Path("runs/tiny/base").exists()


def test_a_prompt_without_room_for_a_sample_is_cut_for_it_and_counted(posttrain: Command) -> None:
    long = {"prompt": "A dog ran. " * 40, "chosen": "Yes.", "rejected": "No."}
    write("pairs", [long, {"prompt": "A dog?", "chosen": LONG[:60], "rejected": "No."}])
    settings = "{max_steps: 1, logging_steps: 1}"
    sets = ["too_long=truncate", "truncation_side=left", f"training_args={settings}"]
    ended = run(*(f"stages.dpo.{each}" for each in sets), only="dpo")
    assert ended.code == 0, ended.output
    assert metrics("dpo")["kl_prompts_cut"] == 1
    assert metrics("dpo")["kl_samples"] == 2
