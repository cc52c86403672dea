"""A kto stage from thumbs to a model: what it learns, what it measures, what is refused before."""

import html
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import load_recipe
from pipeline.checks.data import check_recipe_data
from pipeline.errors import PosttrainError
from tests.conftest import TINY
from tests.forked import run_forked, warm

WANTED, NOT_WANTED = " 1, 2", " no"
KTO = """\
  {name}:
    stage: kto
    model: $base
    data: {{file: {file}, holdout: 0.3}}
    batch_size: 8
    training_args: {{learning_rate: 2e-3, num_train_epochs: 3, logging_steps: 1,
                     eval_strategy: epoch}}
"""


def rows(number: int = 60) -> list[dict[str, Any]]:
    """Each prompt has one answer, wanted or not."""
    return [
        {"prompt": f"Say {n}.", "completion": WANTED if n % 2 else NOT_WANTED, "label": n % 2 == 1}
        for n in range(number)
    ]


def write(path: Path, found: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same base after thumbs, and after thumbs the other way round."""
    folder = tmp_path_factory.mktemp("kto")
    names = ("thumbs", "flipped")
    stages = "".join(KTO.format(name=name, file=f"{name}.jsonl") for name in names)
    base = TINY.partition("  sft:\n")[0].replace("20k", "40k")
    (folder / "tiny.yaml").write_text(base + stages)
    write(folder / "thumbs.jsonl", rows())
    write(folder / "flipped.jsonl", [{**row, "label": not row["label"]} for row in rows()])
    warm()
    ended = run_forked(folder / "tiny.yaml", folder / "runs")
    assert ended.code == 0, ended.output
    return folder / "runs" / "tiny"


def metrics(runs: Path, stage: str) -> dict[str, Any]:
    return json.loads((runs / stage / "artifact.json").read_text())["metrics"]


def preference(runs: Path, stage: str) -> float:
    """How much more likely the wanted answer is than the other, in nats, on prompts never seen."""
    from eval.asking.loglik import continuation_logprobs
    from pipeline.config.stage import StageInput
    from pipeline.models.language import language_model

    source = StageInput(stage, "policy", str((runs / stage).resolve()))
    model = language_model(source, form=None, precision="fp32")
    tokenizer: Any = model.tokenizer
    prompts = [tokenizer(f"Say {n}.")["input_ids"] for n in range(100, 110)]
    sums = [
        sum(
            continuation_logprobs(
                model, [(p, tokenizer(a)["input_ids"]) for p in prompts], batch_size=16
            )
        )
        for a in (WANTED, NOT_WANTED)
    ]
    return (sums[0] - sums[1]) / len(prompts)


def test_thumbs_teach_what_is_wanted_and_the_other_way_round_they_teach_the_opposite(runs) -> None:
    before = preference(runs, "base")
    assert preference(runs, "thumbs") > before + 2
    assert preference(runs, "flipped") < before - 2


@pytest.mark.parametrize("stage", ["thumbs", "flipped"])
def test_the_implicit_rewards_of_unseen_rows_have_the_signs_of_their_labels(runs, stage) -> None:
    found = metrics(runs, stage)
    assert found["held_out_accuracy"] > 0.9
    assert found["held_out_low"] > 0.5
    assert found["held_out_margin"] > 0
    assert found["held_out_loss"] < found["held_out_loss_before"] == 0.5
    held_out = json.loads((runs / stage / "held_out.json").read_text())
    assert held_out["n"] == found["held_out_rows"] == 60 - found["rows"]
    assert sum(part["n"] for part in held_out["by_label"].values()) == held_out["n"]


def test_the_last_evaluation_has_the_loss_that_is_measured_at_the_end(runs) -> None:
    """Two computations of one figure: through the trainer, and a row at a time."""
    lines = [
        json.loads(line) for line in (runs / "thumbs" / "metrics.jsonl").read_text().splitlines()
    ]
    evaluated = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert len(evaluated) == 3
    assert evaluated[-1] == pytest.approx(metrics(runs, "thumbs")["held_out_loss"], abs=1e-5)


def test_what_is_logged_and_kept_is_what_dpo_has(runs) -> None:
    found = metrics(runs, "thumbs")
    assert found["kl_prompts"] == "held out"
    assert found["kl"] > 0
    assert abs(found["initial_kl"]) <= 1e-6
    assert found["rows_left_out_per_epoch"] == found["rows"] % 8
    samples = (runs / "thumbs" / "samples.jsonl").read_text().splitlines()
    assert set(json.loads(samples[0])) == {"prompt", "before", "after"}


def test_the_report_says_how_many_answers_have_the_sign_of_their_label(runs: Path) -> None:
    recipe, folder = runs.parent.parent / "tiny.yaml", runs.parent
    asked = ["report", str(recipe), "--runs", str(folder)]
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *asked], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    page = " ".join(re.sub(r"<[^>]+>", " ", (runs / "report.html").read_text()).split())
    number = metrics(runs, "thumbs")["held_out_rows"]
    assert f"Of {number} held-out answers" in page
    assert "have an implied reward of their label's sign" in html.unescape(page)
    assert "Held-out answers by label" in page
    assert "not wanted" in page
    assert "desirable" in page


SMALL = """\
name: small
stages:
  kto: {{stage: kto, model: ./model, data: {data}, batch_size: {batch}, training_args: {{{args}}}}}
"""


def checked(
    folder: Path,
    data: str = "{file: rows.jsonl}",
    found: list[dict[str, Any]] | None = None,
    *,
    batch: int = 4,
    args: str = "max_steps: 1",
) -> list[str]:
    """Load a recipe and read its data, as `posttrain plan` and `check` do before any model."""
    (folder / "model").mkdir(exist_ok=True)
    write(folder / "rows.jsonl", rows(8) if found is None else found)
    path = folder / "small.yaml"
    path.write_text(SMALL.format(data=data, batch=batch, args=args))
    recipe = load_recipe(path)
    return list(check_recipe_data(recipe))


def refused(*arguments: Any, **named: Any) -> str:
    with pytest.raises(PosttrainError) as raised:
        checked(*arguments, **named)
    return str(raised.value)


@pytest.mark.parametrize(("kept", "label"), [(True, "desirable"), (False, "undesirable")])
def test_one_label_alone_is_refused_by_the_check_at_its_line(kept, label, tmp_path) -> None:
    alone = [row for row in rows(8) if row["label"] is kept]
    said = refused(tmp_path, found=alone)
    assert "small.yaml:3:" in said
    assert f"all 4 rows are {label}, and `kto` learns from the difference" in said


def test_a_file_of_each_label_is_a_mixture_of_both(tmp_path) -> None:
    write(tmp_path / "up.jsonl", [row for row in rows(8) if row["label"]])
    down = [row for row in rows(8) if not row["label"]]
    both = "[{file: up.jsonl}, {file: rows.jsonl}]"
    assert len(checked(tmp_path, both, found=down)) == 2


def test_one_label_is_meant_where_the_other_weighs_nothing(tmp_path) -> None:
    down = [row for row in rows(8) if not row["label"]]
    assert checked(tmp_path, found=down, args="max_steps: 1, desirable_weight: 0.0")


@pytest.mark.parametrize(
    ("named", "what"),
    [
        ({"batch": 1}, "`batch_size` 1 leaves no other row for the KL term"),
        ({"args": "precompute_ref_log_probs: true"}, "asks the reference about new pairs of rows"),
        ({"args": "sync_ref_model: true"}, "a reference that moves is in no checkpoint"),
        ({"args": "train_sampling_strategy: random"}, "each epoch has a new order"),
        ({"args": "loss_type: bco"}, "`loss_type`"),
        ({"args": "label_smoothing_factor: 0.1"}, "has no smoothing"),
        ({"args": "desirable_weight: much"}, "`desirable_weight`"),
    ],
)
def test_settings_that_mean_nothing_here_are_refused_before_anything_is_loaded(
    named: dict[str, Any], what: str, tmp_path: Path
) -> None:
    said = refused(tmp_path, **named)
    assert what in said
    assert "small.yaml:3:" in said


def test_the_loss_without_a_kl_term_takes_single_rows_and_a_computed_reference(tmp_path) -> None:
    args = "loss_type: apo_zero_unpaired, precompute_ref_log_probs: true"
    assert checked(tmp_path, batch=1, args=args)


def test_the_mean_of_the_kto_loss_is_half_of_the_mean_weight_where_nothing_has_moved() -> None:
    from eval.statistics.judged import JudgedAnswer, mean_loss, report_judged

    still = [JudgedAnswer(0.0, True), JudgedAnswer(0.0, False)]
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    assert mean_loss(still, kl_reward=0.0, **weights) == 0.5
    assert report_judged(still)["accuracy"] == 0.5
    moved = [JudgedAnswer(2.0, True), JudgedAnswer(-1.0, False), JudgedAnswer(0.5, False)]
    found = report_judged(moved)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["margin"] == pytest.approx(2.25)
    by_hand = [1 - 1 / (1 + math.exp(-(2.0 - 0.25))), 1 - 1 / (1 + math.exp(-(0.25 + 1.0)))]
    by_hand.append(1 - 1 / (1 + math.exp(-(0.25 - 0.5))))
    assert mean_loss(moved, kl_reward=0.25) == pytest.approx(sum(by_hand) / 3)
