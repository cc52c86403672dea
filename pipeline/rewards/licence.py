"""The exam of a judge or a reward model before it labels or rewards: whose pairs, who is admitted.

What decides is eval/comparison/licence.py's subject; how a judge is asked is judge_exam.py's. A
reward model that there are no pairs for is not examined, and the report says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from eval.comparison.licence import Licence, examine, recorded_licence
from eval.statistics.agreement import JudgedPair
from pipeline.config.licence import OFF, PAIRS_OF_AN_EXAM, LicenceBlock
from pipeline.data.reading.labelled_pairs import (
    LabelledPairs,
    read_labelled_pairs,
    read_task_pairs,
)
from pipeline.errors import PosttrainError
from pipeline.files.names import HELD_OUT
from pipeline.rewards.reads_texts import Answered, TextScorer, both_answers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.statistics.agreement import Verdict
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage import StageContext, StageInput
    from pipeline.data.reading.labelled_pairs import LabelledPair

State = Literal["admitted", "off", "not examined"]
_MODEL, JUDGE = "reward model", "judge"
_BETTER_JUDGE = "name a better judge or other pairs in `licence:`, or write `licence: off`"
_BETTER_MODEL = "look at its data and train it longer, or write `licence: off` beside it"


@dataclass(frozen=True)
class Examined:
    """What came of an exam. pairs_of: whose pairs they were; "" where there was no exam.

    spent: what asking a judge took, as its ledger counts it.
    """

    name: str
    kind: str
    state: State
    pairs_of: str = ""
    licence: Licence | None = None
    spent: Mapping[str, float] = field(default_factory=dict[str, float])

    def metrics(self) -> dict[str, Any]:
        """Return it as JSON."""
        figures = {} if self.licence is None else self.licence.metrics()
        figures.pop("admitted", None)
        if self.spent:
            figures["spent"] = dict(self.spent)
        return {"kind": self.kind, "state": self.state, "pairs_of": self.pairs_of, **figures}


def licence_metrics(examined: Sequence[Examined]) -> dict[str, Any]:
    """Return the exams of a stage as metrics; {} where there were none to take."""
    licences = {one.name: one.metrics() for one in examined}
    return {"licences": licences} if licences else {}


def examine_reward_model(
    term: RewardBlock,
    model: str,
    name: str,
    tasks: Sequence[str],
    context: StageContext,
    *,
    is_waived: bool = False,
) -> Examined:
    """Return the licence of a reward model of a term; PosttrainError where it is refused.

    name: what it is called in metrics. is_waived: the stage wants none. tasks: among the prompts
    that it will judge. Without them, and without a `licence:`, the pairs count that the stage which
    trained it kept out.
    """
    if is_waived or term.licence == OFF:
        return Examined(name, _MODEL, "off")
    source = context.model(model)
    pairs = pairs_of_exam(term.licence, tasks, context)
    if pairs is not None:
        # A new head is drawn where an adapter brings its own; whoever draws next must not notice.
        with torch.random.fork_rng(devices=[]):
            sides = _by_reward_model(source, pairs, context)
        judged = [
            judged_alike(pair, higher(*(scores if term.weight > 0 else scores[::-1])))
            for pair, scores in zip(pairs.pairs, sides, strict=True)
        ]
        whose = whose_pairs(term.licence, pairs)
        licence = examine(judged, has_orders=False)
        return admit(Examined(name, _MODEL, "admitted", whose, licence), context)
    record = Path(source.path) / HELD_OUT
    if not record.is_file() or term.weight < 0:
        return Examined(name, _MODEL, "not examined")
    licence = recorded_licence(json.loads(record.read_text(encoding="utf-8")))
    whose = "the held-out pairs of the stage that trained it"
    return admit(Examined(name, _MODEL, "admitted", whose, licence), context)


def admit(examined: Examined, context: StageContext) -> Examined:
    """Raise PosttrainError for a licence that was refused."""
    licence = examined.licence
    assert licence is not None
    if licence.is_admitted:
        return examined
    message = f"the {examined.kind} `{examined.name}` has no licence: {licence.why}"
    hint = _BETTER_JUDGE if examined.kind == JUDGE else _BETTER_MODEL
    raise PosttrainError(context.name, f"{message} ({examined.pairs_of})", hint)


def pairs_of_exam(
    asked: LicenceBlock | Literal["off"] | None, tasks: Sequence[str], context: StageContext
) -> LabelledPairs | None:
    """Return the pairs that a licence names, else the tasks' own; None where there are none."""
    if isinstance(asked, LicenceBlock):
        return read_labelled_pairs(asked, context.places)
    return read_task_pairs(tasks, context.places, at_most=PAIRS_OF_AN_EXAM)


def whose_pairs(asked: LicenceBlock | Literal["off"] | None, pairs: LabelledPairs) -> str:
    """Return whose pairs they are, in words."""
    is_named = isinstance(asked, LicenceBlock) and asked.task is None
    return pairs.source if is_named else f"validation pairs of {pairs.source}"


def _by_reward_model(
    source: StageInput, pairs: LabelledPairs, context: StageContext
) -> list[tuple[float | None, float | None]]:
    """Return the scores of the first and the second response of every pair; None if too long."""
    context.stop_if_asked()
    scorer = TextScorer(source)
    sequences = scorer.encode([one for pair in pairs.pairs for one in _both(pair)])
    fitting = [
        place
        for place, tokens in enumerate(sequences)
        if tokens.ids and not scorer.is_too_long(tokens.ids)
    ]
    found: list[float | None] = [None] * len(sequences)
    scores = scorer.scores([sequences[place].ids for place in fitting])
    for place, score in zip(fitting, scores, strict=True):
        found[place] = score
    return list(zip(found[::2], found[1::2], strict=True))


def _both(pair: LabelledPair) -> tuple[Answered, Answered]:
    """Return both responses behind their prompt, the first one first."""
    chosen, rejected = both_answers(pair.row)
    return (chosen, rejected) if pair.label == "first" else (rejected, chosen)


def judged_alike(pair: LabelledPair, verdict: Verdict | None) -> JudgedPair:
    """Return a pair with one verdict for both orders, as scores have it."""
    return JudgedPair(pair.label, verdict, verdict, pair.lengths)


def higher(first: float | None, second: float | None) -> Verdict | None:
    """Return which of two scores is higher; None where one is missing."""
    if first is None or second is None:
        return None
    return "tie" if first == second else "first" if first > second else "second"
