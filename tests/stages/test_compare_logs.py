"""`posttrain compare A B` of logs that other programs wrote, through the real command."""

import json
from pathlib import Path

import pytest

from tests.command import command
from tests.foreign_logs import (
    annotations,
    harness_log,
    harness_sample,
    inspect_json,
    inspect_sample,
)

RIGHT = [(1, 1)] * 110 + [(1, 0)] * 12 + [(0, 1)] * 30 + [(0, 0)] * 68


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return command(monkeypatch, capsys)


def test_two_runs_of_the_harness_are_compared_item_by_item(said, tmp_path: Path):
    for place, name in enumerate(("old", "new")):
        samples = [harness_sample(n, {"acc": float(row[place])}) for n, row in enumerate(RIGHT)]
        harness_log(
            tmp_path / name, {"arc_easy": samples, "piqa": samples[:9]}, model=f"org/{name}"
        )
    ended = said("compare", "old", "new", "--tasks", "arc_easy")
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "runs/compare/old-vs-new/comparison.json").read_text())
    assert found["models"] == ["old", "new"]
    (_, row) = found["rows"]
    assert (row["task"], row["metric"], row["n"]) == ("arc_easy", "acc", 220)
    assert (row["gained"], row["lost"], round(row["p"], 3)) == (30, 12, 0.008)
    assert 0 < row["detectable"] < 0.15
    assert len(found["flips"][0]["gained_examples"]) == 5
    assert "+0.08" in ended.out
    where = json.loads((tmp_path / "runs/compare/old-vs-new/logs.json").read_text())
    assert [each["program"] for each in where["logs"]] == ["lm-evaluation-harness"] * 2
    again = said("compare", "old", "new", "--json", "--out", "there")
    assert (
        json.loads(again.out)["rows"]
        == json.loads(Path("there/comparison.json").read_text())["rows"]
    )


def test_two_runs_of_one_model_are_called_after_their_files(said, tmp_path: Path):
    for name in ("monday", "tuesday"):
        samples = [inspect_sample(n, {"match": "C"}) for n in range(4)]
        inspect_json(tmp_path / f"{name}.json", samples)
    ended = said("compare", "monday.json", "tuesday.json")
    assert ended.code == 0, ended.err
    assert (tmp_path / "runs/compare/monday.json-vs-tuesday.json/comparison.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.json", "b.json", "--texts", "x.txt"), "--texts: asks models, and these are logs of"),
        (("a.json", "b.json", "--limit", "2"), "--limit: asks models, and these are logs of"),
        (("a.json", "b.json", "--reward", "x:y"), "--reward: asks models, and these are logs of"),
        (
            ("a.json", "b.json", "--tasks", "gsm8k"),
            "no log has a task `gsm8k`; there are alpaca_eval",
        ),
        (("a.json", "nowhere"), "a.json: is a log of AlpacaEval, and `nowhere` is none"),
        (("a.json", "inspect.json"), "are logs of AlpacaEval and inspect_ai; compare logs of one"),
        (("a.json", "a.json"), "is named twice"),
        (("a.json", "cut.json"), "cut.json: broken JSON"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_one_line(
    said, tmp_path: Path, arguments: tuple[str, ...], message: str
):
    annotations(tmp_path / "a.json", [1, 2, 1], model="A")
    annotations(tmp_path / "b.json", [2, 2, 1], model="B")
    inspect_json(tmp_path / "inspect.json", [inspect_sample(1, {"match": "C"})])
    (tmp_path / "cut.json").write_text('[{"instruction": "x", "output_2": ')
    ended = said("compare", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs" / "compare").glob("*"))
