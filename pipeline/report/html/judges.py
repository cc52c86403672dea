"""Who judged in a run, as the report shows it: exams, agreement with people, probes, what it took.

Reads metrics alone: `licences`, `probes`, `judges` and `revisers` of the stages that label, learn
from rewards, or measure. Not the scores that were given (made_rows.py, rollouts/).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.report.formatting import amount, number, plural

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.report.html.run_source import ReportedRun

_STATES = {
    "admitted": "admitted",
    "off": "no exam: waived (`licence: off`)",
    "not examined": "not examined: there were no labelled pairs",
    "members": "of reward models, each of which takes its own exam",
}
_ENSEMBLE = {"kind": "ensemble", "state": "members"}
_FINE = ("admitted", "members")
# Key of a figure, and what it is called beside the accuracy.
_FIGURES = (
    ("accuracy", "right"),
    ("above_longer", "more than the longer one"),
    ("kappa", "Cohen's kappa"),
    ("first_place", "first place wins"),
    ("disagreement", "orders disagree"),
    ("length_bias", "longer preferred too often"),
)
_SIGNED = ("above_longer", "length_bias")


@dataclass(frozen=True)
class Probe:
    """What a worthless response was given, beside honest ones. above: how often it was better."""

    name: str
    given: str
    honest: str
    above: str


@dataclass(frozen=True)
class Judging:
    """A judge or a reward model of a stage.

    figures: of its exam. at_work: on the pairs that it compared, by the tasks' gold scores. spent:
    what asking it took, and failures by cause.
    """

    stage: str
    name: str
    kind: str
    state: str
    is_warning: bool
    figures: tuple[tuple[str, str], ...]
    at_work: tuple[tuple[str, str], ...]
    probes: tuple[Probe, ...]
    spent: str


def judgings(run: ReportedRun) -> tuple[Judging, ...]:
    """Return the judges and reward models of the finished stages, in order."""
    found: list[Judging] = []
    for stage in run.present:
        licences: Mapping[str, Any] = stage.metrics.get("licences", {})
        judges: Mapping[str, Any] = stage.metrics.get("judges", {})
        probes: Mapping[str, Any] = stage.metrics.get("probes", {})
        for name in dict.fromkeys((*licences, *judges, *probes)):
            is_ensemble = name not in licences and name not in judges
            exam: dict[str, Any] = {**(_ENSEMBLE if is_ensemble else licences.get(name, {}))}
            found.append(
                Judging(
                    stage=stage.name,
                    name=name,
                    kind=exam.get("kind", "judge"),
                    state=_state(exam),
                    is_warning=exam.get("state") not in _FINE,
                    figures=_figures(exam),
                    at_work=_at_work(stage.metrics.get("agreement", {}).get(name, {})),
                    probes=tuple(_probe(key, one) for key, one in probes.get(name, {}).items()),
                    spent=_spent(judges.get(name, {}), exam.get("spent", {})),
                )
            )
        found += [
            _reviser(stage.name, name, counts)
            for name, counts in stage.metrics.get("revisers", {}).items()
        ]
    return tuple(found)


def _reviser(stage: str, name: str, counts: Mapping[str, float]) -> Judging:
    said = "writes critiques and revisions, and takes no exam"
    return Judging(stage, name, "reviser", said, False, (), (), (), _spent(counts))


def _state(exam: Mapping[str, Any]) -> str:
    said = _STATES.get(exam.get("state", ""), "asked without an exam, and learnt from by nobody")
    if "n" not in exam:
        return said
    pairs = f"{said} on {plural(exam['n'], 'pair')}: {exam['pairs_of']}"
    ties = f", {exam['ties']:,} ties" if exam.get("ties") else ""
    silent = f", {exam['unanswered']:,} without an answer" if exam.get("unanswered") else ""
    return f"{pairs}{ties}{silent}"


def _figures(exam: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (label, _shown(exam, key, sign=key in _SIGNED))
        for key, label in _FIGURES
        if exam.get(key) is not None
    )


def _at_work(agreement: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    if not agreement:
        return ()
    of = f"{amount(agreement['n'])} of {amount(agreement['compared'])}"
    ties = (("ties", amount(agreement["ties"])),) if agreement.get("ties") else ()
    return (("pairs, one a prompt, whose gold scores differ", of), *ties, *_figures(agreement))


def _shown(exam: Mapping[str, Any], key: str, *, sign: bool) -> str:
    value = number(exam[key], sign=sign)
    low, high = exam.get(f"{key}_low"), exam.get(f"{key}_high")
    if low is None or high is None:
        return value
    return f"{value} [{number(low, sign=sign)}, {number(high, sign=sign)}]"


def _probe(name: str, figure: Mapping[str, Any]) -> Probe:
    above = figure.get("above")
    asked, answered = figure.get("asked", 0), figure.get("answered", 0)
    judged = f" ({answered} of {asked} judged)" if answered < asked else ""
    return Probe(
        f"{name}{judged}",
        number(figure.get("mean")),
        number(figure.get("honest_mean")),
        "" if above is None else f"{above:.0%}",
    )


def _spent(*counts: Mapping[str, float]) -> str:
    """Return what asking took, in words; counts: at work, and in the exam."""
    total: dict[str, float] = {}
    for one in counts:
        for key, value in one.items():
            total[key] = total.get(key, 0) + value
    if not total.get("asked"):
        return ""
    parts = [f"asked {amount(total['asked'])} times"]
    if total.get("cached"):
        parts.append(f"{amount(total['cached'])} answers were kept from before")
    tokens = total.get("prompt_tokens", 0) + total.get("completion_tokens", 0)
    if tokens:
        parts.append(f"{amount(tokens)} tokens")
    if total.get("cost"):
        parts.append(f"{total['cost']:.4f} dollars")
    causes = {key[7:]: n for key, n in total.items() if key.startswith("failed/")}
    if causes:
        named = ", ".join(f"{amount(n)} {cause}" for cause, n in sorted(causes.items()))
        parts.append(f"no answer: {named}")
    return "; ".join(parts)
