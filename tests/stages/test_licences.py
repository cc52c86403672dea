"""A reward model is examined before a policy learns from it, on pairs that people labelled."""

import json
import random
from pathlib import Path

import pytest

from reward.judges.probes import PROBES
from tests.forked import Ended, run_forked, warm
from tests.small_model import save_model

RECIPE = """\
name: tiny
seed: 3
stages:
  rm:
    stage: reward_model
    model: ./model
    data: {file: pairs.jsonl, holdout: 0.25}
    batch_size: 8
    training_args: {learning_rate: 3e-3, num_train_epochs: 4}
  ppo:
    stage: ppo
    model: ./model
    prompts: {file: prompts.jsonl}
    reward: {model: $rm}
    batch_size: 2
    best_of: 0
    training_args: {max_completion_length: 4, total_episodes: 2, num_ppo_epochs: 1}
"""
GOOD, BAD = ("sun", "hat", "sea", "oak"), ("mud", "rot", "ash", "rag")


def pairs(seed: int, n: int) -> list[dict]:
    """Pairs of equal length that differ in words: what is learnt is no matter of length."""
    draw = random.Random(seed)
    return [
        {
            "prompt": [{"role": "user", "content": f"Word {seed} {number}?"}],
            "chosen": " ".join(draw.choice(GOOD) for _ in range(3)),
            "rejected": " ".join(draw.choice(BAD) for _ in range(3)),
        }
        for number in range(n)
    ]


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, a store with its reward model, and files of pairs to be examined on."""
    warm()
    folder = tmp_path_factory.mktemp("licences")
    save_model(folder / "model")
    write(folder / "pairs.jsonl", pairs(1, 160))
    write(folder / "prompts.jsonl", [{"prompt": row["prompt"]} for row in pairs(2, 8)])
    write(
        folder / "people.jsonl",
        [
            {
                "input": row["prompt"][0]["content"],
                "output_1": row["chosen"],
                "output_2": row["rejected"],
                "label": 1,
            }
            for row in pairs(3, 60)
        ],
    )
    upside_down = [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in pairs(4, 60)
    ]
    write(folder / "upside_down.jsonl", upside_down)
    longer = [{**row, "chosen": f"{row['chosen']} {GOOD[0]}"} for row in pairs(5, 60)]
    write(folder / "longer.jsonl", longer)
    (folder / "recipe.yaml").write_text(RECIPE)
    ended = run_forked(folder / "recipe.yaml", folder / "runs", until="rm")
    assert ended.code == 0, ended.output
    return folder


def run(folder: Path, *overrides: str) -> tuple[Ended, dict]:
    ended = run_forked(folder / "recipe.yaml", folder / "runs", overrides=overrides)
    artifact = folder / "runs/tiny/ppo/artifact.json"
    return ended, json.loads(artifact.read_text())["metrics"] if artifact.is_file() else {}


def licensed(text: str) -> str:
    return f"stages.ppo.reward={{model: $rm, licence: {text}}}"


def test_without_pairs_what_its_own_stage_kept_out_is_the_exam(folder):
    ended, metrics = run(folder)
    assert ended.code == 0, ended.output
    found = metrics["licences"]["rm"]
    rm = json.loads((folder / "runs/tiny/rm/artifact.json").read_text())["metrics"]
    assert found["state"] == "admitted"
    assert found["pairs_of"] == "the held-out pairs of the stage that trained it"
    assert (found["accuracy"], found["n"]) == (rm["held_out_accuracy"], rm["held_out_pairs"])
    assert found["accuracy_low"] > 0.5
    assert found["above_longer_low"] > 0
    assert {name: one["asked"] for name, one in metrics["probes"]["rm"].items()} == dict.fromkeys(
        PROBES, 2
    )  # a rollout has two prompts
    assert metrics["probes"]["rm"]["colon"]["answered"] == 2


def test_named_pairs_are_read_in_the_form_of_llmbar(folder):
    ended, metrics = run(folder, licensed("{file: people.jsonl, pairs: 50}"))
    assert ended.code == 0, ended.output
    found = metrics["licences"]["rm"]
    assert (found["state"], found["pairs_of"], found["n"]) == ("admitted", "people.jsonl", 50)
    assert found["accuracy"] > 0.9
    assert found["longer_accuracy"] == 0.5
    assert "first_place" not in found


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("upside_down.jsonl", "worse than chance (0.50)"),
        ("longer.jsonl", "may be no better than length: `the longer one` is right on 1.00"),
    ],
)
def test_what_pairs_speak_against_is_refused_before_the_policy_is_loaded(folder, file, why):
    ended, _ = run(folder, licensed(f"{{file: {file}}}"), "stages.ppo.seed=9")
    assert ended.code == 2, ended.output
    (line,) = [line for line in ended.output.splitlines() if "has no licence" in line]
    assert "ppo: the reward model `rm` has no licence: it is right on" in line
    assert why in line
    assert "of 60 labelled pairs" in line
    assert line.endswith("look at its data and train it longer, or write `licence: off` beside it")


def test_a_penalty_is_examined_with_its_sign(folder):
    term = "stages.ppo.reward=[{model: $rm, weight: -1, licence: {file: upside_down.jsonl}}]"
    ended, metrics = run(folder, term)
    assert ended.code == 0, ended.output
    assert metrics["licences"]["rm"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("override", "state"),
    [(licensed("off"), "off"), ("stages.ppo.reward_gate=off", "off")],
)
def test_an_exam_that_was_waived_stands_in_the_metrics(folder, override, state):
    ended, metrics = run(folder, override)
    assert ended.code == 0, ended.output
    assert metrics["licences"]["rm"] == {"kind": "reward model", "state": state, "pairs_of": ""}


def test_a_reward_model_of_which_nothing_is_known_is_not_examined(folder):
    ended, metrics = run(folder, f"stages.ppo.reward.model={_without_record(folder)}")
    assert ended.code == 0, ended.output
    (found,) = metrics["licences"].values()
    assert found["state"] == "not examined"


def _without_record(folder: Path) -> str:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    path = folder / "elsewhere"
    if not path.is_dir():
        made = folder / "runs/tiny/rm"
        AutoModelForSequenceClassification.from_pretrained(made).save_pretrained(path)
        AutoTokenizer.from_pretrained(made).save_pretrained(path)
    return "./elsewhere"
