"""Probabilities and margins of pairs: refused where a loss cannot use them, and measured by."""

import json
from pathlib import Path
from statistics import fmean

import pytest

from eval.statistics.pairwise import ScoredPair, accuracy, calibration, report_pairs
from pipeline.checks.data import check_recipe_data
from pipeline.data.encoding.pair_labels import check_labels
from pipeline.errors import PosttrainError
from pipeline.recipe.load import load

RECIPE = """\
name: tiny
stages:
  dpo:
    stage: dpo
    model: ./model
    data: {{file: pairs.jsonl}}
    training_args: {training_args}
"""


def test_what_a_loss_cannot_use_is_refused_with_its_row() -> None:
    for settings, label, said in (
        ({"loss_type": ["robust"]}, {"probability": 0.9}, "the loss `robust` cannot use the `prob"),
        ({"loss_type": ["ipo"]}, {"margin": 1.0}, "the loss `ipo` cannot use the `margin`"),
        ({"loss_type": "apo_zero"}, {"margin": 1.0}, "the loss `apo_zero` cannot use"),
        ({"ld_alpha": 0.5}, {"probability": 0.9}, "with `ld_alpha` 0.5 the `probability`"),
        ({"use_weighting": True}, {"margin": 1.0}, "with `use_weighting` True the `margin`"),
    ):
        given = {"probability": None, "margin": None, **label}
        with pytest.raises(PosttrainError, match=f"^f.jsonl:3: {said}"):
            check_labels(settings, "f.jsonl:3", **given)
        check_labels(settings, "f.jsonl:3", probability=1.0, margin=0.0)
    check_labels({}, "f.jsonl:3", probability=0.5, margin=3.0)
    check_labels({"loss_type": ["ipo"]}, "f.jsonl:3", probability=0.5, margin=None)


def check(folder: Path, training_args: str) -> list[str]:
    (folder / "recipe.yaml").write_text(RECIPE.format(training_args=training_args))
    return list(check_recipe_data(load(folder / "recipe.yaml")))


def test_the_check_finds_labels_that_the_loss_would_ignore(tmp_path: Path) -> None:
    pair = {"prompt": "a", "chosen": " b", "rejected": " c"}
    lines = [json.dumps(row) for row in (pair, {**pair, "probability": 0.75})]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    assert len(check(tmp_path, "{}")) == 1
    with pytest.raises(PosttrainError, match=r"pairs\.jsonl:2: the loss `robust` cannot use"):
        check(tmp_path, "{loss_type: [robust]}")
    (tmp_path / "pairs.jsonl").write_text(lines[0])
    assert len(check(tmp_path, "{loss_type: [robust], label_smoothing: 0.1}")) == 1


def test_smoothing_that_a_loss_does_not_have_is_refused(tmp_path: Path) -> None:
    """Upstream takes it and leaves it aside."""
    (tmp_path / "pairs.jsonl").write_text("")
    for key in ("label_smoothing", "label_smoothing_factor"):
        with pytest.raises(PosttrainError, match=rf"recipe\.yaml:7:21: .*{key}|no smoothing"):
            check(tmp_path, f"{{{key}: 0.1}}")


def test_pairs_are_measured_by_the_probability_of_their_labels() -> None:
    """A scorer that is right about what it prefers nine times in ten is calibrated at 0.9."""
    margin = 2.1972245773362196  # whose sigmoid is 0.9
    pairs = [ScoredPair(margin, 0.0, 3, 3, "", 0.9), ScoredPair(0.0, margin, 3, 3, "", 0.6)]
    found = accuracy(pairs)
    assert found["accuracy"] == pytest.approx(fmean([0.9, 0.4]))
    assert found["best_accuracy"] == pytest.approx(0.75)
    assert calibration(pairs[:1])[1] == pytest.approx(0, abs=1e-9)
    assert calibration(pairs)[1] == pytest.approx(0.25)
    assert "best_accuracy" not in report_pairs([ScoredPair(1.0, 0.0, 3, 3)])
