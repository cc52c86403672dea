"""Parts of the report: where stages stand, what is drawn, what is called a gain, which items."""

import json
import random
from itertools import combinations, pairwise

import pytest

from eval.comparison.score_rows import Row, pick_best_rows
from pipeline.report.comparison import group_rows
from pipeline.report.formatting import amount, asked, duration, listed, number, plural
from pipeline.report.html.chain import HEIGHT, WIDTH, picture
from pipeline.report.html.curves import panels
from pipeline.report.html.palette import palette_of_run
from pipeline.report.html.run_source import ReportedStage
from pipeline.report.html.samples import Room, read_samples
from tests.report_runs import BLANK_ROW, shown, write_run


def stage(name, *inputs):
    return ReportedStage(name, "sft", "0" * 64, inputs, "ran", None)


def row(**given):
    usual = {
        **{"task": "facts", "metric": "verified_accuracy", "model": "sft", "style": "zero-shot"},
        **{"shots": 0, "form": "chat", "n": 100, "lower_is_better": False},
        **scored(0.5, 0.4, 0.6),
    }
    return Row(**BLANK_ROW | usual | given)


def scored(score, low=None, high=None):
    return {"score": score, "low": low, "high": high}


def gaining(delta, low=None, high=None):
    return {"delta": delta, "delta_low": low, "delta_high": high}


@pytest.mark.parametrize("seed", range(20))
def test_no_box_of_a_chain_touches_another_and_every_arrow_goes_to_the_right(seed):
    drawn = random.Random(seed)
    stages = []
    for place in range(drawn.randint(1, 16)):
        earlier = [other.name for other in stages]
        inputs = drawn.sample(earlier, min(len(earlier), drawn.randint(0, 3)))
        stages.append(stage(f"s{place}", *inputs))
    found = picture(stages)
    assert [box.stage for box in found.boxes] == stages
    for one, other in combinations(found.boxes, 2):
        assert abs(one.x - other.x) >= WIDTH or abs(one.y - other.y) >= HEIGHT
    for box in found.boxes:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + WIDTH <= found.width
        assert box.y + HEIGHT <= found.height
    left = {box.stage.name: box.x for box in found.boxes}
    links = {(arrow.source, arrow.target) for arrow in found.arrows}
    assert links == {(other, each.name) for each in stages for other in each.inputs}
    assert all(left[source] + WIDTH < left[target] for source, target in links)


def test_a_sweep_is_one_box_between_what_it_is_built_on_and_what_takes_one_of_it():
    points = [f"base[size={size}]" for size in range(15)]
    stages = [stage("tok"), *(stage(name, "tok") for name in points), stage("sft", points[3])]
    found = picture(stages)
    assert [box.stage.name for box in found.boxes] == ["tok", "base[size]", "sft"]
    assert found.boxes[1].places == tuple(range(1, 16))
    assert {(arrow.source, arrow.target) for arrow in found.arrows} == {
        ("tok", "base[size]"),
        ("base[size]", "sft"),
    }


def test_a_sweep_that_comes_back_to_itself_by_another_stage_is_drawn_too():
    stages = [stage("a[n=1]"), stage("b", "a[n=1]"), stage("a[n=2]", "b")]
    found = picture(stages)
    assert {box.stage.name for box in found.boxes} == {"a[n]", "b"}
    assert len(found.arrows) == 1


def test_models_that_are_compared_have_colours_of_their_own_beside_a_large_sweep():
    points = [f"base[size={size}]" for size in range(15)]
    compared = points[::3]
    colours = palette_of_run([stage(name) for name in points], compared)
    assert [colours(name) for name in compared] == [0, 1, 2, 3, 4]
    usual = palette_of_run([stage(name) for name in ("base", "sft", "ppo")], ["ppo", "base"])
    assert [usual(name) for name in ("base", "sft", "ppo")] == [0, 1, 2]


def test_a_chain_without_branches_is_a_straight_line():
    found = picture([stage("a"), stage("b", "a"), stage("c", "b")])
    assert len({box.y for box in found.boxes}) == 1
    assert all(one.x + WIDTH < other.x for one, other in pairwise(found.boxes))


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (gaining(0.2, 0.1, 0.3), "gain"),
        (gaining(-0.2, -0.3, -0.1), "loss"),
        (gaining(0.2, -0.1, 0.5), ""),
        (gaining(0.2), ""),
        ({**gaining(0.2, 0.1, 0.3), "p_adjusted": 0.2}, "gain"),
        ({**gaining(0.2, 0.1, 0.3), "p_adjusted": 0.01}, "gain"),
        ({**gaining(-0.2, -0.3, -0.1), "lower_is_better": True}, "gain"),
        ({"metric": "win_rate", **scored(0.6, 0.51, 0.7)}, "gain"),
        ({"metric": "win_rate", **scored(0.4, 0.3, 0.49)}, "loss"),
        ({"metric": "win_rate", **scored(0.6, 0.5, 0.7)}, ""),
    ],
)
def test_a_gain_is_what_the_interval_beside_it_says(given, verdict):
    assert row(**given).verdict == verdict


@pytest.mark.parametrize(("p_adjusted", "is_firm"), [(None, True), (0.049, True), (0.05, False)])
def test_a_gain_is_firm_where_p_adjusted_for_all_tests_says_so_too(p_adjusted, is_firm):
    assert row(**gaining(0.2, 0.1, 0.3), p_adjusted=p_adjusted).is_firm == is_firm


def test_the_best_way_of_asking_has_the_best_score_on_its_own_scale():
    rows = [
        row(**scored(0.5)),
        row(**scored(0.7), style="few-shot", shots=3),
        row(metric="bits_per_byte", **scored(1.5), lower_is_better=True, style="none"),
        row(metric="bits_per_byte", **scored(1.2), lower_is_better=True, style="other"),
        row(task="sums", **scored(None)),
    ]
    assert [(best.metric, best.style) for best in pick_best_rows(rows)] == [
        ("verified_accuracy", "few-shot"),
        ("bits_per_byte", "other"),
        ("verified_accuracy", "zero-shot"),
    ]
    assert group_rows(rows)[0].axis == (0.0, 1.0)
    low, high = group_rows(rows)[1].axis
    assert low < 1.2 < 1.5 < high


def test_curves_leave_out_what_is_no_number_and_keep_the_mean_of_a_long_series(tmp_path):
    lines = [
        {"step": step, "loss": step % 2, "grad_norm": None, "note": "x"} for step in range(1000)
    ]
    lines += [{"step": 1000, "eval_loss": 0.5}, {"step": 1001, "eval_loss": float("nan")}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (panel,) = panels(tmp_path)
    assert [series.label for series in panel.series] == ["training"]
    (series,) = panel.series
    assert len(series.steps) <= 300
    assert sum(series.values) / len(series.values) == pytest.approx(0.5, abs=0.01)
    assert panels(tmp_path / "nowhere") == ()


def test_samples_of_each_kind_are_chosen_and_say_what_their_items_say(tmp_path):
    write_run(tmp_path)
    folder = next((tmp_path / "store").glob("compare-*"))
    comparison = shown(json.loads((folder / "comparison.json").read_text()))
    samples = read_samples(folder, comparison, within=Room(12, 100_000))
    assert len(samples) == 24
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    best = {
        ("base", "few-shot", 4),
        ("tuned", "chain-of-thought", 0),
        ("ppo", "chain-of-thought", 0),
    }
    for sample in samples:
        scores = {
            item["model"]: item["score"]
            for item in items
            if item["item"] == sample.item and (item["model"], item["style"], item["shots"]) in best
        }
        base, *others = (scores[response.model] for response in sample.responses)
        expected = (
            ("lost" if 0 in others else "right") if base else "gained" if 1 in others else "wrong"
        )
        assert sample.kind == expected
        assert sample.question.startswith(("What is", "Which word"))
        assert "=" not in sample.question
    assert {sample.kind for sample in samples[:4]} == {"lost", "gained", "wrong", "right"}
    few = read_samples(folder, comparison, within=Room(12, 2_000))
    for task in ("arithmetic", "recall"):
        sizes = [sample.size_bytes for sample in few if sample.task == task]
        assert sizes
        assert sum(sizes) <= 2_000


def test_numbers_are_said_as_a_reader_expects_them():
    minus = "\N{MINUS SIGN}"
    assert number(-0.126) == f"{minus}0.13"
    assert number(-0.001, sign=True) == f"{minus}0.00"
    assert number(-0.0, sign=True) == "0.00"
    assert number(0.2, sign=True) == "+0.20"
    assert number(None) == "\N{EN DASH}"
    assert [duration(s) for s in (0.14, 9.97, 59.7, 61, 7_500)] == [
        *("0.1 s", "10 s", "1 min 00 s", "1 min 01 s", "2 h 05 min")
    ]
    assert (amount(1183), amount(1_162_122)) == ("1,183", "1.16M")
    assert (listed(["a"]), listed(["a", "b", "c"])) == ("a", "a, b and c")
    assert (plural(1, "loss"), plural(2, "loss"), plural(0, "gain")) == (
        "1 loss",
        "2 losses",
        "0 gains",
    )


def test_a_text_says_with_how_much_context_it_was_read() -> None:
    assert asked(row(style="none", window=1024)) == "read with 1,024 tokens of context"
    assert asked(row(style="none")) == "read, not asked"
