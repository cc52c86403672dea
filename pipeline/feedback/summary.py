"""What a labeller's decisions come to: how many, and how far they agree with themselves and judges.

Figures with intervals, as lines for the terminal; the statistics are eval/statistics'.
"""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING

from eval.statistics.agreement import JudgedPair, cohens_kappa, measure_agreement
from eval.statistics.estimate import Estimate
from eval.statistics.win_rate import win_rate
from pipeline.feedback.decisions import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eval.statistics.intervals import Interval
    from pipeline.feedback.decisions import Decision
    from pipeline.feedback.votes import Votes


def summary_lines(decisions: Sequence[Decision], judges: Iterable[Votes] = ()) -> list[str]:
    """Return the figures, one a line; the first says how many decisions there are."""
    first = [one for one in decisions if one.showing == 1]
    if not first:
        return ["no pair is decided yet"]
    said = Counter(one.verdict for one in first)
    lines = [
        f"{_count(len(first), 'pair')} decided: "
        f"{_count(said['first'] + said['second'], 'preference')}, {_count(said['tie'], 'tie')}, "
        f"{said['skip']} skipped; {median(one.seconds for one in decisions):.0f} s each (median)"
    ]
    lines.append(_self_agreement(decisions))
    lines += _habits(decisions)
    lines += _win_rates(first)
    lines += [line for votes in judges if len(votes) for line in _agreement(first, votes)]
    return lines


def _self_agreement(decisions: Sequence[Decision]) -> str:
    """Return how often a pair got the same verdict the second time, the other way round."""
    before = {one.pair: one for one in decisions if one.showing == 1}
    both = [
        (_choice(before[one.pair]), _choice(one))
        for one in decisions
        if one.showing == 2 and one.pair in before and one.verdict != "skip"
    ]
    if not both:
        return "agreement with oneself: no pair was decided twice yet"
    same = [float(one == other) for one, other in both]
    line = (
        f"agreement with oneself: {_count(int(sum(same)), 'pair')} of {len(both)} decided alike "
        f"the other way round: {_figure(win_rate(same))}"
    )
    # Which of two responses is called first means nothing: for kappa both namings count.
    turned = [(_turn(one), _turn(other)) for one, other in both]
    one, other = zip(*both, *turned, strict=True)
    kappa = cohens_kappa(one, other)
    return line if kappa is None else f"{line}, kappa {kappa.value:.2f}"


def _choice(decision: Decision) -> str:
    """Return what a decision prefers in whichever order: the response that sorts first, or not."""
    if decision.chosen is None:
        return "tie"
    low = text_of(decision.chosen) < text_of(decision.rejected)
    return "first" if low else "second"


def _turn(choice: str) -> str:
    return {"first": "second", "second": "first"}.get(choice, choice)


def _habits(decisions: Sequence[Decision]) -> list[str]:
    """Return how often the first shown and the longer response are preferred, without ties."""
    preferred = [one for one in decisions if one.chosen is not None]
    places = [float(one.verdict == "first") for one in preferred]
    lengths = [(len(text_of(one.chosen)), len(text_of(one.rejected))) for one in preferred]
    longer = [float(chosen > rejected) for chosen, rejected in lengths if chosen != rejected]
    return [
        f"{name} is preferred in {int(sum(values))} of {len(values)}: {_figure(win_rate(values))}"
        for name, values in (("the response shown first", places), ("the longer response", longer))
        if values
    ]


def _win_rates(first: Sequence[Decision]) -> list[str]:
    """Return how often each source is preferred to each other one, a tie counting half."""
    outcomes: dict[tuple[str, str], list[tuple[float, str]]] = {}
    for one in first:
        ours, theirs = sorted(one.sources)
        if ours == theirs or one.verdict == "skip":
            continue
        is_ours_first = one.sources[0] == ours
        won = 0.5 if one.verdict == "tie" else float((one.verdict == "first") == is_ours_first)
        outcomes.setdefault((ours, theirs), []).append((won, str(one.prompt)))
    lines: list[str] = []
    for (ours, theirs), found in outcomes.items():
        won, prompts = [outcome for outcome, _ in found], [prompt for _, prompt in found]
        figure = _figure(win_rate(won, prompts))
        lines.append(
            f"`{ours}` is preferred to `{theirs}` in {figure} of {_count(len(won), 'pair')}"
        )
    return lines


def _agreement(first: Sequence[Decision], votes: Votes) -> list[str]:
    """Return how far a judge agrees with the preferences."""
    pairs: list[JudgedPair] = []
    for one in first:
        verdict = votes.on(one)
        if (one.verdict == "first" or one.verdict == "second") and verdict is not None:
            lengths = len(text_of(one.first)), len(text_of(one.second))
            pairs.append(JudgedPair(one.verdict, verdict, verdict, lengths))
    if not pairs:
        return []
    found = measure_agreement(pairs, has_orders=False)
    line = (
        f"agreement with `{votes.name}` on {_count(len(pairs), 'preference')}, its "
        f"{_count(found.ties, 'tie')} counting half: {_show(found.accuracy)}"
    )
    if found.kappa is not None:
        line += f", kappa {_show(found.kappa)}"
    return [f"{line}; that of the longer response: {_show(found.longer_accuracy)}"]


def _figure(found: tuple[float, Interval | None]) -> str:
    value, interval = found
    return _show(Estimate(value, interval and interval.low, interval and interval.high))


def _show(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f}"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
