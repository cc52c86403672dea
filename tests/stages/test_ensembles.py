"""Several reward models as one reward: in training, with a kill, in `label` and in `compare`."""

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from tests.command import Command, command, refuse_heavy_imports, the_line
from tests.conftest import TINY
from tests.forked import run_forked, warm
from tests.kills import kill_and_compare
from tests.trained import Trained

_RM = (
    "stage: reward_model, model: $sft_lora, lora: {r: 4}, batch_size: 8,"
    " eval_data: [{task: arithmetic, split: validation, rows: 40}]"
)
_SAVED = "training_args: {learning_rate: 1e-2}"
_RL = """\
    model: $sft_lora
    lora: {r: 4}
    prompts: [{task: arithmetic}]
    batch_size: 8
    best_of: 0
    reward_gate: off
"""
_ARGUMENTS = "learning_rate: 1e-3, per_device_train_batch_size: 8, max_completion_length: 8"
RECIPE = f"""\
{TINY}\
  sft_lora:
    {{stage: sft, model: $base, data: {{task: arithmetic, rows: 40}}, batch_size: 8,
     lora: {{r: 4}}, {_SAVED}}}
  a: {{{_RM}, data: {{task: arithmetic, rows: 40}}, seed: 1, {_SAVED}}}
  b: {{{_RM}, data: {{task: arithmetic, rows: 48}}, seed: 2, {_SAVED}}}
  grpo:
    stage: grpo
{_RL}\
    reward: {{model: [$a, $b], ensemble: worst, licence: "off"}}
    training_args: {{{_ARGUMENTS}, num_generations: 4, total_episodes: 64}}
  ppo:
    stage: ppo
{_RL}\
    reward: [{{model: [$a, $b], name: both, licence: "off"}}]
    critic: reward
    training_args: {{{_ARGUMENTS}, total_episodes: 16}}
  sampled: {{stage: generate, model: $sft_lora, prompts: {{task: arithmetic, rows: 12}},
            num_samples: 2, max_new_tokens: 8}}
  by_a: {{stage: label, data: $sampled, reward: {{model: $a, licence: "off"}}}}
  by_b: {{stage: label, data: $sampled, reward: {{model: $b, licence: "off"}}}}
  by_worst:
    {{stage: label, data: $sampled, reward: {{model: [$a, $b], ensemble: worst, licence: "off"}}}}
  by_mean: {{stage: label, data: $sampled, reward: {{model: [$a, $b], licence: "off"}}}}
  by_scale:
    {{stage: label, data: $sampled, reward: {{model: [$a, $b], scale: [[1, 2.0], [0.5, 4]],
     licence: "off"}}}}
"""


@pytest.fixture(scope="module")
def made(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the whole recipe has run."""
    folder = tmp_path_factory.mktemp("ensembles")
    warm()
    trained.copy(folder)
    (folder / "tiny.yaml").write_text(RECIPE)
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    return folder


def scores_of(folder: Path, stage: str) -> list[float]:
    lines = (folder / "runs/tiny" / stage / "rows.jsonl").read_text().splitlines()
    return [json.loads(line)["score"] for line in lines]


def scale_of(folder: Path, stage: str) -> tuple[float, float]:
    held_out = json.loads((folder / "runs/tiny" / stage / "held_out.json").read_text())
    said = held_out["scores"]
    return (said["chosen_mean"] + said["rejected_mean"]) / 2, said["score_sd"]


def test_label_takes_the_mean_or_the_worst_of_scores_on_one_scale(made: Path) -> None:
    (mean_a, sd_a), (mean_b, sd_b) = scale_of(made, "a"), scale_of(made, "b")
    a = [(score - mean_a) / sd_a for score in scores_of(made, "by_a")]
    b = [(score - mean_b) / sd_b for score in scores_of(made, "by_b")]
    both = list(zip(a, b, strict=True))
    assert len(both) > 12
    assert scores_of(made, "by_mean") == pytest.approx([fmean(pair) for pair in both])
    assert scores_of(made, "by_worst") == pytest.approx([min(pair) for pair in both])
    artifact = json.loads((made / "runs/tiny/by_mean/artifact.json").read_text())
    apart = fmean(abs(x - y) / 2 for x, y in both)
    assert artifact["metrics"]["score_spread/ensemble"] == pytest.approx(apart)
    assert any(x < y for x, y in both)
    assert any(x > y for x, y in both)
    given = [
        ((x - 1) / 2 + (y - 0.5) / 4) / 2
        for x, y in zip(scores_of(made, "by_a"), scores_of(made, "by_b"), strict=True)
    ]
    assert scores_of(made, "by_scale") == pytest.approx(given)


def lines_of(folder: Path, stage: str, file: str) -> list[dict[str, Any]]:
    lines = (folder / "runs/tiny" / stage / file).read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_training_logs_each_member_and_how_far_they_lie_apart(made: Path) -> None:
    for stage, term in (("grpo", "ensemble"), ("ppo", "both")):
        lines = [line for line in lines_of(made, stage, "metrics.jsonl") if "episode" in line]
        assert lines
        for line in lines:
            means = [line[f"rewards/{term}/{member}"] for member in ("a", "b")]
            assert line[f"rewards/{term}/spread"] > 0
            if stage == "ppo":
                assert line[f"rewards/{term}/mean"] == pytest.approx(fmean(means), abs=1e-5)
            else:
                assert line[f"rewards/{term}/mean"] <= min(means) + 1e-5
    logged = [line["logged"] for line in lines_of(made, "grpo", "samples.jsonl")]
    shown = [line["scores"]["ensemble"] for line in lines_of(made, "grpo", "samples.jsonl")]
    for members, score in zip(logged, shown, strict=True):
        assert score == pytest.approx(min(members["ensemble/a"], members["ensemble/b"]), abs=1e-4)


@pytest.mark.slow
def test_a_killed_stage_with_an_ensemble_ends_in_the_same_bytes(made: Path, tmp_path: Path) -> None:
    overrides = ["stages.grpo.training_args.save_steps=3"]
    trained = Trained(made / "tiny.yaml", made / "runs")
    tally = kill_and_compare(trained, tmp_path, "grpo", kills=1, seed=4, overrides=overrides)
    assert tally.differ == 0, tally.said


def test_the_card_of_what_an_ensemble_labelled_names_its_members(
    made: Path, tmp_path: Path, posttrain: Command
) -> None:
    runs = ("--runs", str(made / "runs"))
    said = posttrain("export", str(made / "tiny.yaml"), "by_worst", str(tmp_path / "out"), *runs)
    assert said.code == 0, said.err
    card = (tmp_path / "out/README.md").read_text()
    members = [
        json.loads((made / f"runs/tiny/{name}/artifact.json").read_text())["fingerprint"][:16]
        for name in ("a", "b")
    ]
    said_of = " the worst of the reward models of the stage "
    assert f"{said_of}{members[0]}, of the stage {members[1]}" in card.replace("\n", " ")


HEAD = """\
name: bad
stages:
  x: {stage: reward_model, model: ./policy, data: {task: arithmetic}}
  y: {stage: reward_model, model: ./policy, data: {file: pairs.jsonl}}
  z: {stage: reward_model, model: ./policy, data: {file: pairs.jsonl, holdout: 0.2}}
  rl:
    stage: grpo
    model: ./policy
    prompts: {task: arithmetic}
    reward:
"""
WRONG = [
    ("{model: []}", "`model`"),
    ("{model: [$x], ensemble: worst}", "`ensemble` is for several reward models"),
    ("{model: [$x, $x]}", "`model` names `$x` twice"),
    ("{model: $x, ensemble: worst}", "`ensemble` is for several reward models"),
    ("{use: 'mine:f', scale: [[0, 1]]}", "`scale` is for several reward models"),
    ("{model: [$x, $z], scale: [[0, 1]]}", "`scale` has 1 entries for 2 models"),
    ("{model: [$x, $z], scale: [[0, 1], [0, 0]]}", "it must be above 0"),
    ("{model: [$x, $y]}", "`$y` has no held-out pairs"),
    ("{model: [$x, owner/name]}", "`owner/name` has no held-out pairs"),
    ("{model: [$x, ./policy]}", "`./policy` is a language model"),
    ("{model: [$x, $gone]}", "there is no stage `gone`"),
]


@pytest.fixture
def posttrain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


@pytest.mark.parametrize(("reward", "words"), WRONG)
def test_an_ensemble_that_cannot_be_is_refused_with_its_place(
    tmp_path: Path,
    posttrain: Command,
    monkeypatch: pytest.MonkeyPatch,
    reward: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    refuse_heavy_imports(monkeypatch)
    (tmp_path / "policy").mkdir()
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (tmp_path / "policy/config.json").write_text(json.dumps(config))
    row = {"prompt": "x", "chosen": "a", "rejected": "b"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "mine.py").write_text("def f(completions, **rest): return [0.0]\n")
    (tmp_path / "bad.yaml").write_text(f"{HEAD}      - {reward}\n")
    line = the_line(posttrain("plan", "bad.yaml"))
    assert line.startswith("bad.yaml:11:"), line
    assert words in line
