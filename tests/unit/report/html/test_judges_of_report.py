"""Judges on the report's page: exams, figures with intervals, probes, failures by cause, cost."""

from types import SimpleNamespace

from pipeline.report.html.judges import judgings

EXAM = {
    "kind": "judge",
    "state": "admitted",
    "pairs_of": "pairs.jsonl",
    "n": 40,
    "ties": 3,
    "unanswered": 1,
    **{"accuracy": 0.8, "accuracy_low": 0.7, "accuracy_high": 0.9},
    **{"length_bias": -0.1, "length_bias_low": -0.2, "length_bias_high": 0.01},
    "spent": {"asked": 80, "prompt_tokens": 900, "cost": 0.25},
}
PROBE = {"mean": 1.5, "honest_mean": 8.0, "above": 0.125}


def run(**metrics):
    return SimpleNamespace(present=[SimpleNamespace(name="label", metrics=metrics)])


def test_an_exam_is_shown_with_its_figures_probes_and_what_it_took():
    judges = {"wide": {"asked": 20, "cached": 4, "failed/timeout": 2, "cost": 0.05}}
    (found,) = judgings(
        run(licences={"wide": EXAM}, judges=judges, probes={"wide": {"blank": PROBE}})
    )
    assert found.state == "admitted on 40 pairs: pairs.jsonl, 3 ties, 1 without an answer"
    assert not found.is_warning
    assert dict(found.figures) == {
        "right": "0.80 [0.70, 0.90]",
        "longer preferred too often": "\N{MINUS SIGN}0.10 [\N{MINUS SIGN}0.20, +0.01]",
    }
    assert (found.probes[0].given, found.probes[0].honest, found.probes[0].above) == (
        "1.50",
        "8.00",
        "12%",
    )
    assert found.spent == (
        "asked 100 times; 4 answers were kept from before; 900 tokens; 0.3000 dollars; "
        "no answer: 2 timeout"
    )


def test_a_waived_exam_and_one_without_pairs_are_said():
    waived = {"kind": "judge", "state": "off", "pairs_of": ""}
    unknown = {"kind": "reward model", "state": "not examined", "pairs_of": ""}
    first, second = judgings(run(licences={"a": waived, "b": unknown}))
    assert "waived (`licence: off`)" in first.state
    assert "there were no labelled pairs" in second.state
    assert first.is_warning
    assert second.is_warning
    assert judgings(run()) == ()
