"""Curves over groups that are numbers: what is under their axis, and where a window is marked."""

import json
import re

import pytest

from pipeline.model_files.attention_window import attention_window
from pipeline.report.html.charts import group_charts
from pipeline.report.html.figures import Drawn, lines
from pipeline.report.html.palette import palette_of
from pipeline.report.html.plots import chart_figure
from tests.report_runs import shown, write_run


def test_a_window_is_marked_where_groups_are_tokens_and_said_beside_its_model(tmp_path):
    write_run(tmp_path)
    (file,) = (tmp_path / "store").glob("compare-*/comparison.json")
    comparison = shown(json.loads(file.read_text()))
    (chart,) = group_charts(comparison, {"tuned": 16, "ppo": 4096})
    assert chart.unit == "tokens between statement and question"
    assert chart.marks == (16.0,)  # the other one lies beyond all distances
    notes = {line.model: line.note for line in chart.lines}
    assert notes["tuned"].endswith(", window of 16 tokens")
    assert "window" not in notes["base"]
    colours = palette_of(comparison.models)
    figure = chart_figure("x", chart, comparison, kind="group_curves", colours=colours)
    assert "; a window ends at 16" in figure.svg
    assert group_charts(comparison)[0].marks == ()


def test_points_far_apart_stand_on_an_axis_of_doublings():
    places = {}
    for last in (8.0, 512.0):
        drawn = Drawn(0, (1.0, 2.0, 4.0, last), (0.1, 0.2, 0.3, 0.4))
        figure = lines("x", [drawn], described="", unit="tokens", with_points=True)
        path = re.search(r'<path d="M ?([^"]+)"[^>]*class="s-s0"', figure) or re.search(
            r'd="M ?([^"]+)"', figure.split('class="s-s0"')[0].rsplit("<path", 1)[1]
        )
        places[last] = [float(at.split()[0]) for at in path[1].split("L")]
    one, two, four, _ = places[512.0]
    assert two - one == pytest.approx(four - two, abs=0.1)
    one, two, four, _ = places[8.0]
    assert four - two == pytest.approx(2 * (two - one), abs=0.1)


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"sliding_window": 32}, 32),
        ({"sliding_window": 32, "layer_types": ["sliding_attention"] * 2}, 32),
        ({"sliding_window": 32, "layer_types": ["sliding_attention", "full_attention"]}, None),
        ({"sliding_window": 32, "use_sliding_window": False}, None),
        ({"sliding_window": None}, None),
        ({}, None),
    ],
)
def test_a_window_is_one_that_every_layer_has(config, window):
    assert attention_window(config) == window
