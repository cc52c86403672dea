"""Responses that are pictures, in the report: each item's, and a grid of what each model draws."""

import json

import pytest

from eval.comparison.score_rows import Row
from pipeline.report.html import run_of_folder, write
from pipeline.report.html.pictures import picture_grids
from pipeline.report.html.samples import Room, read_samples
from pipeline.report.html.summary import further_rows
from tests.hostile_texts import hostile
from tests.report_page import Page
from tests.report_runs import BLANK_ROW, plain, publish_again, shown, write_run

LEVELS = [[0, 255], [128, 7]]


def drawn_run(tmp_path, told=plain):
    """Write a run whose answers to one task are pictures, every tenth not; return its folders."""
    folder = write_run(tmp_path / "runs", told=told)
    compared = next((tmp_path / "runs" / "store").glob("compare-*"))
    lines = [json.loads(line) for line in (compared / "items.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        if line["task"] == told("recall"):
            line["group"] = told(str(number % 3))
            line.update({"picture": LEVELS} if number % 10 else {})
    (compared / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    publish_again(compared)
    return folder, compared


def test_a_grid_has_the_first_drawings_of_each_group_asked_in_the_best_way(tmp_path):
    _, compared = drawn_run(tmp_path)
    comparison = shown(json.loads((compared / "comparison.json").read_text()))
    grids = picture_grids(compared, comparison)
    assert [(grid.task, grid.model) for grid in grids] == [
        ("recall", model) for model in ("base", "tuned", "ppo")
    ]
    for grid in grids:
        assert [(group, len(row)) for group, row in grid.rows] == [("0", 8), ("1", 8), ("2", 8)]
        for _, row in grid.rows:
            for drawing in row:
                assert (drawing.picture.width_px, drawing.picture.height_px) == (32, 32)
                assert drawing.described.partition(": ")[2].startswith(drawing.mark)
                assert ("another answer" in drawing.described) == (drawing.mark == "wrong")


def test_items_show_pictures_where_they_are_some_and_texts_where_not(tmp_path):
    _, compared = drawn_run(tmp_path)
    comparison = shown(json.loads((compared / "comparison.json").read_text()))
    for sample in read_samples(compared, comparison, within=Room(90, 1_000_000)):
        pictures = [response.picture is not None for response in sample.responses]
        assert not any(pictures) or sample.task == "recall"
    assert any(pictures)


@pytest.mark.parametrize("told", [plain, hostile])
def test_a_page_has_pictures_with_words_and_nothing_else_becomes_one(tmp_path, told):
    folder, _ = drawn_run(tmp_path, told)
    html = write(run_of_folder(folder), tmp_path / "report.html").read_text(encoding="utf-8")
    images = [attributes for tag, attributes in Page(html).elements if tag == "img"]
    assert len(images) > 3 * 3 * 8
    for image in images:
        assert set(image) == {"class", "src", "width", "height", "alt"}
        assert image["src"].startswith("data:image/png;base64,")
        assert int(image["width"]) % 2 == 0
        assert image["alt"]


def test_what_a_task_says_beside_its_verdicts_stands_in_the_summary():
    told = {**BLANK_ROW, "task": "digits", "style": "zero-shot", "shots": 0, "form": "document"}
    told |= {"n": 9, "lower_is_better": False, "score": 0.5, "low": 0.4, "high": 0.6}
    bits = {"metric": "bits_per_pixel", "style": "none", "lower_is_better": True}
    rows = [
        Row(**{**told, "model": model, **given})
        for given in ({"metric": "verified_accuracy"}, {"metric": "diversity"}, bits)
        for model in ("base", "tuned")
    ]
    found = list(further_rows(rows, ("base", "tuned")))
    assert [row.what for row in found] == ["diversity, digits"]
    assert [cell.text for cell in found[0].cells] == ["0.50", "0.50"]
