"""The report's section about learning from rewards: what came out, curves, samples in time.

Reads metrics.jsonl, best_of_n.json and samples.jsonl; what is not there is not shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipeline.commands.export import without_places
from pipeline.data.encoding.lengths import describe_rows, is_worth_a_warning
from pipeline.report.formatting import number
from pipeline.report.html.curves import KNOWN, LESS_ENDS, LESS_KL, Known, drawn
from pipeline.report.html.plots import Figure, training_figures
from pipeline.report.html.rollouts.best_of_n import read_best_of_n
from pipeline.report.html.rollouts.figures import PolicyColours, against_kl
from pipeline.report.html.rollouts.samples import PromptInTime, read_samples
from pipeline.report.html.rollouts.verdict import SIGN, Said, verdicts
from pipeline.report.html.training import facts, measured
from pipeline.report.rollouts import (
    GOLD,
    KINDS,
    KL,
    SCORE,
    TOKENS,
    ends,
    read_rollouts,
    score_key,
    signs,
    summarize_rollouts,
    values,
)
from pipeline.report.screening import describe_screening

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from eval.statistics.estimate import Estimate
    from pipeline.report.html.curves import Panel
    from pipeline.report.html.palette import Palette
    from pipeline.report.html.rollouts.best_of_n import BestOfN
    from pipeline.report.html.run_source import ReportedRun, ReportedStage
    from pipeline.report.rollouts import Rollout
    from pipeline.rl.signs import SignName

# What to look for, by the title of a panel of KNOWN; these come first, in this order.
ADVICE = {
    "Reward": "what the policy is paid for; should rise",
    "Gold score": "what is wanted, never trained on; falling while the reward rises: "
    "over-optimisation",
    "KL to the reference": "nats a response; rising while the gold score falls: over-optimisation",
    "Entropy": "nats a token; a fast fall: it says one thing only",
    "Response length": "tokens; growing without a better gold score: padding",
    "Ended by itself": "share of responses with an end token; should come near 1",
    "Explained variance": "of the returns, by the critic; should rise, below 0 it misleads",
    "Clipped": "share of tokens whose ratio was clipped; above 0.2 or so: steps too big",
    "Groups without spread": "share whose responses score alike and teach nothing; near 1: prompts "
    "too easy or too hard",
    "Repeats": "share of runs of 4 tokens that stood in the response before; rising: loops",
    "Answers that other prompts got too": "share of responses, between prompts that no one answer "
    "is right for; rising: one answer for all",
    "Distinct answers": "share, of those to one prompt; falling where they are not right: collapse",
    "Groups replaced": "by fresh prompts, in a rollout",
    "Left out of the loss": "share of responses that were cut, of tokens whose weight is 0",
    "Importance weight": "of what another engine sampled; far from 1: it samples another policy",
}
# The panels that a sign of reward hacking is marked in.
_MARKED: Mapping[SignName, tuple[str, ...]] = {
    "length": ("Response length",),
    "repetition": ("Repeats",),
    "cut_off": ("Ended by itself",),
    "score_jump": ("Reward",),
    "over_optimised": ("Reward", "Gold score"),
    "equal_answers": ("Answers that other prompts got too",),
    "entropy": ("Entropy",),
    "distinct": ("Distinct answers",),
    "kl": ("KL to the reference",),
}
_TERM, _MEAN, _GOLD_OF = "rewards/", "/mean", "gold/"
_OF_KL, _PAID = "objective/non_score_reward", "objective/rlhf_reward"
# metric, what its sum over rollouts is
_SUMS = (
    (TOKENS, "tokens sampled"),
    ("groups/replaced", "groups without spread replaced"),
)
# metric, label, digits
_TILES = (
    (GOLD, "gold score", 2),
    (KL, "KL, nats a response", 1),
    ("objective/entropy", "entropy, nats a token", 2),
    ("completions/length_mean", "length, tokens", 0),
    ("eos_rate", "ended by itself", 2),
)


@dataclass(frozen=True)
class Tile:
    """A figure to be seen at once. before: of the first rollouts, where a change is told."""

    label: str
    before: str
    after: str


@dataclass(frozen=True)
class StageRollouts:
    """A stage that learned from what it sampled, as the report shows it.

    line: what came of it, in a line. against_kl: the figures of scores against KL. curves: those to
    look at first; parts: each reward, and the gold score of each source; others: the rest that is
    known. account: what became of its prompts; is_warning: whether more than a few were lost.
    """

    stage: str
    kind: str
    line: str
    facts: tuple[tuple[str, float, str], ...]
    account: str
    is_warning: bool
    sources: tuple[str, ...]
    measured: tuple[tuple[str, Estimate, int], ...]
    tiles: tuple[Tile, ...]
    said: tuple[Said, ...]
    against_kl: tuple[Figure, ...]
    has_best_of_n: bool
    curves: tuple[Figure, ...]
    parts: tuple[Figure, ...]
    others: tuple[Figure, ...]
    samples: tuple[PromptInTime, ...]

    @property
    def is_marked(self) -> bool:
        """Whether a curve is marked where a sign of reward hacking begins."""
        return any(each.lead == SIGN for each in self.said)

    @property
    def shown_rollouts(self) -> tuple[int, ...]:
        """The rollouts that samples are of."""
        return tuple(sorted({c.rollout for each in self.samples for c in each.completions}))

    @property
    def sample_sources(self) -> tuple[str, ...]:
        """Where the prompts of the samples are from."""
        return tuple(dict.fromkeys(each.source for each in self.samples))


def stage_rollouts(run: ReportedRun, colours: Palette) -> tuple[StageRollouts, ...]:
    """Return every such stage that was begun; raises CorruptArtifactError for a broken file."""
    found = [stage for stage in run.begun if stage.kind in KINDS]
    return tuple(_stage(f"r{place}", stage, colours) for place, stage in enumerate(found))


def _stage(name: str, stage: ReportedStage, palette: Palette) -> StageRollouts:
    assert stage.folder is not None
    folder, is_finished = stage.folder, stage.is_finished
    rollouts = read_rollouts(folder, is_finished=is_finished)
    best = read_best_of_n(folder) if is_finished else None
    samples = read_samples(folder, is_finished=is_finished)
    score = score_key(rollouts)
    colours = PolicyColours(palette(stage.name), palette(next(iter(stage.inputs), "")))
    known, others = _panels(rollouts)
    return StageRollouts(
        stage=stage.name,
        kind=stage.kind,
        line=summarize_rollouts(rollouts),
        facts=(*_counted(rollouts), *facts(stage.metrics)),
        account=describe_rows(stage.metrics),
        is_warning=is_worth_a_warning(stage.metrics),
        sources=(*map(str, stage.metrics.get("sources", ())), *describe_screening(stage.metrics)),
        measured=measured(stage.metrics),
        tiles=tuple(_tiles(rollouts)),
        said=verdicts(rollouts, score, best),
        against_kl=_against_kl(name, rollouts, score, best, colours),
        has_best_of_n=best is not None and bool(best.rows),
        curves=_figures(f"{name}-c", known, colours),
        parts=_figures(f"{name}-p", _parts(rollouts), colours),
        others=_figures(f"{name}-o", others, colours),
        samples=samples,
    )


def _figures(name: str, panels: Sequence[Panel], colours: PolicyColours) -> tuple[Figure, ...]:
    return training_figures(name, panels, colour=colours.trained, unit="rollout")


def _counted(rollouts: Sequence[Rollout]) -> Iterator[tuple[str, float, str]]:
    if rollouts:
        yield "rollout" if len(rollouts) == 1 else "rollouts", float(len(rollouts)), "count"
    episodes = values(rollouts, "episode")
    if episodes:
        yield "responses", episodes[-1], "count"
    for key, label in _SUMS:
        total = sum(values(rollouts, key))
        if total:
            yield label, total, "count"


def _against_kl(
    name: str,
    rollouts: Sequence[Rollout],
    score: str,
    best: BestOfN | None,
    colours: PolicyColours,
) -> tuple[Figure, ...]:
    gold = against_kl(
        f"{name}-gold",
        rollouts,
        GOLD,
        title="Gold score against KL",
        note="What is wanted. Higher is better, further left is cheaper.",
        best=best,
        of=lambda row: row.gold,
        colours=colours,
    )
    own = against_kl(
        f"{name}-score",
        rollouts,
        score,
        title="Reward against KL",
        note="What is paid for. Still rising where the gold score falls: over-optimisation.",
        best=best,
        of=lambda row: row.score,
        colours=colours,
    )
    return tuple(figure for figure in (gold, own) if figure is not None)


def _tiles(rollouts: Sequence[Rollout]) -> Iterator[Tile]:
    for key, label, digits in ((score_key(rollouts), "reward", 2), *_TILES):
        found = ends(values(rollouts, key))
        if found is not None:
            before = number(found[0], digits) if len(rollouts) > 1 and key != KL else ""
            yield Tile(label, before, number(found[1], digits))


def _panels(rollouts: Sequence[Rollout]) -> tuple[list[Panel], list[Panel]]:
    """Return the panels to look at first, with what to look for, and the others."""
    lines = _lines(rollouts)
    if score_key(rollouts) == SCORE:  # else the penalty for KL is on another scale
        lines = _with_less_kl(lines)
    found = {panel.title: panel for panel in drawn(lines, KNOWN)}
    shown = signs(rollouts)
    marks = {
        title: tuple(float(each.began) for each in shown if title in _MARKED[each.sign])
        for title in ADVICE
    }
    first = [
        replace(found[title], note=note, marks=marks[title])
        for title, note in ADVICE.items()
        if title in found
    ]
    return first, [panel for title, panel in found.items() if title not in ADVICE]


def _with_less_kl(lines: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Return rollouts with the reward less KL, where that costs anything.

    It has no penalty for a missing end. What is maximised has that penalty, too
    (`objective/rlhf_reward`): a line of its own where it ever differs.
    """
    if not any(line.get(_OF_KL) for line in lines):  # KL in the loss, or none
        return list(lines)
    found = [
        line | {LESS_KL: line[SCORE] + line[_OF_KL]} if SCORE in line and _OF_KL in line else line
        for line in lines
    ]
    paid = [(line[_PAID], line[LESS_KL]) for line in found if _PAID in line and LESS_KL in line]
    if all(math.isclose(*both, rel_tol=1e-6, abs_tol=1e-6) for both in paid):
        return found
    return [line | ({LESS_ENDS: line[_PAID]} if _PAID in line else {}) for line in found]


def _parts(rollouts: Sequence[Rollout]) -> tuple[Panel, ...]:
    """Return a panel a reward and, where there are several, a source of prompts."""
    known = [
        Known(_name(term), "reward, mean of a rollout", {f"{_TERM}{term}{_MEAN}": "mean"})
        for term in _inner(rollouts, _TERM, _MEAN)
    ]
    sources = [each for each in _inner(rollouts, _GOLD_OF, "") if f"{_GOLD_OF}{each}" != GOLD]
    if len(sources) > 1:
        known += [
            Known(_name(source), "gold score on its prompts", {f"{_GOLD_OF}{source}": "mean"})
            for source in sources
        ]
    return drawn(_lines(rollouts), known)


def _lines(rollouts: Sequence[Rollout]) -> list[dict[str, float]]:
    """Return rollouts as lines of a figure over rollouts."""
    return [{**rollout, "step": rollout["rollout"]} for rollout in rollouts]


def _inner(rollouts: Sequence[Rollout], before: str, after: str) -> list[str]:
    """Return what stands between two ends of metrics' names, in the order of appearance."""
    keys = dict.fromkeys(key for rollout in rollouts for key in rollout)
    return [
        key[len(before) : len(key) - len(after)]
        for key in keys
        if key.startswith(before) and key.endswith(after) and len(key) > len(before + after)
    ]


def _name(value: str) -> str:
    return str(without_places(value))
