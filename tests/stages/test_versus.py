"""`posttrain compare` on two real models with different tokenizers; skipped without them."""

import json
from pathlib import Path

import pytest

from tests.command import command


def test_two_real_models_are_compared_in_bits_per_byte_and_on_tasks(
    real_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    said = command(monkeypatch, capsys)(
        *("compare", str(real_data / "stories260K"), str(real_data / "babyllama")),
        *("--texts", str(real_data / "tinystories/cased_197k.txt"), "--separator", r"\n\n"),
        *("--tasks", "facts", "--limit", "20", "--styles", "zero-shot"),
    )
    assert said.code == 0, said.err
    found = json.loads(
        (tmp_path / "runs/compare/stories260K-vs-babyllama/comparison.json").read_text()
    )
    assert found["models"] == ["stories260K", "babyllama"]
    rows = {(row["metric"], row["model"]): row for row in found["rows"]}
    ours, theirs = (rows["bits_per_byte", model] for model in found["models"])
    # Both were trained on such stories; a byte that is guessed costs 8 bits.
    assert 0.7 < ours["score"] < 1.3
    assert 0.7 < theirs["score"] < 1.3
    assert theirs["delta"] == pytest.approx(theirs["score"] - ours["score"])
    assert theirs["delta_low"] < theirs["delta"] < theirs["delta_high"]
    # Neither knows the made-up countries: four options, a quarter by chance.
    assert rows["choice_accuracy", "babyllama"]["low"] < 0.25
    assert found["divergence"] == []
    assert "bits per byte" in said.out
