"""The report's figure of all methods: gold score against KL, best-of-n, and what each took."""

import pytest

from pipeline.report.html.methods import method_figures
from pipeline.report.html.palette import palette_of
from pipeline.report.html.run_source import run_of_folder
from tests.ppo_runs import write_ppo_run
from tests.report_runs import shown


def moved(model, kl, gold, trained_from="tuned"):
    return {
        **{"task": "stories", "model": model, "trained_from": trained_from},
        **{"style": "zero-shot", "shots": 0, "n": 90, "tokens": 30.2},
        **{"kl": kl, "low": kl - 0.2, "high": kl + 0.2},
        **{"gold": gold, "gold_low": gold - 0.05, "gold_high": gold + 0.05},
    }


MODELS = [moved("tuned", 0.0, 0.3), moved("aligned", 4.0, 0.8), moved("other", 2.0, 0.6)]


def figures(tmp_path, rows, **options):
    run = run_of_folder(write_ppo_run(tmp_path / "runs", rollouts=10, **options))
    models = [row["model"] for row in rows]
    comparison = shown({"baseline": "tuned", "models": models, "rows": [], "divergence": rows})
    return method_figures("m", comparison, run, palette_of(models))


def test_all_models_stand_in_one_plane_with_what_they_took(tmp_path):
    (figure,) = figures(tmp_path, MODELS, leave_out=("gold/facts",))
    assert figure.title == "stories: gold score against KL"
    by_name = {row[0]: row[1:] for row in figure.rows}
    assert by_name["A tuned"] == ("0", "0.30 [0.25, 0.35]", "0", "0.0 s")
    assert by_name["B aligned"][2:] == ("20000", "6 min 42 s")
    assert [(each.label, each.note) for each in figure.legend][1:3] == [
        *(("aligned", "B"), ("other", "C")),
    ]
    assert "best of 16: KL 1.84, gold 0.55 [0.50, 0.60]" in figure.svg
    for letter in "ABC":
        assert f">{letter}</text>" in figure.svg


def test_best_of_n_is_left_out_where_it_was_measured_on_other_tasks_too(tmp_path):
    (figure,) = figures(tmp_path, MODELS)
    assert not [row for row in figure.rows if row[0].startswith("best of")]


@pytest.mark.parametrize(
    "rows",
    [
        MODELS[:2],  # one model beside where it began
        [MODELS[0], MODELS[1], moved("other", 2.0, 0.6, trained_from="aligned")],
        [row | {"gold": None} for row in MODELS],
    ],
)
def test_there_is_no_figure_without_several_methods_measured_to_one_model(tmp_path, rows):
    assert figures(tmp_path, rows) == ()
