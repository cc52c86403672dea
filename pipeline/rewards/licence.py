"""The exam that a judge or a reward model takes before it labels or rewards, and what it costs it.

Who is examined on which pairs, in a stage; what decides is eval/comparison/licence.py's subject. A
judge without pairs is refused (`check` says so first, recipe/checks/licences.py); a reward model
without any is not examined, and the report says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from eval.comparison.licence import Licence, examine, recorded_licence
from eval.statistics.agreement import JudgedPair
from pipeline.config.licence import OFF, PAIRS_OF_AN_EXAM, LicenceBlock
from pipeline.data.encoding.pairs import encode_pairs
from pipeline.data.reading.labelled_pairs import (
    LabelledPairs,
    read_labelled_pairs,
    read_task_pairs,
)
from pipeline.errors import PosttrainError
from pipeline.files.names import HELD_OUT
from pipeline.models.load import load_tokenizer, on_device
from pipeline.models.reward import load_reward_model
from reward.model import scores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eval.statistics.agreement import Verdict
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage import StageContext, StageInput
    from pipeline.data.reading.labelled_pairs import LabelledPair

State = Literal["admitted", "off", "not examined"]
_MODEL, _JUDGE = "reward model", "judge"
_BETTER_JUDGE = "name a better judge or other pairs in `licence:`, or write `licence: off`"
_BETTER_MODEL = "look at its data and train it longer, or write `licence: off` beside it"


@dataclass(frozen=True)
class Examined:
    """What came of an exam. pairs_of: whose pairs they were; "" where there was no exam."""

    name: str
    kind: str
    state: State
    pairs_of: str = ""
    licence: Licence | None = None

    def metrics(self) -> dict[str, Any]:
        """Return it as JSON."""
        figures = {} if self.licence is None else self.licence.metrics()
        figures.pop("admitted", None)
        return {"kind": self.kind, "state": self.state, "pairs_of": self.pairs_of, **figures}


def licence_metrics(examined: Sequence[Examined]) -> dict[str, Any]:
    """Return the exams of a stage as one of its metrics; {} where there were none to take."""
    return {"licences": {one.name: one.metrics() for one in examined}} if examined else {}


def examine_terms(
    terms: Sequence[RewardBlock],
    sources: Mapping[str, str | None],
    context: StageContext,
    *,
    is_gated: bool = True,
) -> list[Examined]:
    """Return the licences of the reward models among some terms; PosttrainError for a refused one.

    sources: of the prompts, with the task of each that is one. is_gated: False where the stage
    lets reward models through that have no `licence:` of their own. A term of weight 0 rewards
    nothing, and takes no exam.
    """
    examined: list[Examined] = []
    for term in terms:
        names = term.member_names if term.is_ensemble else (term.label,)
        for model, name in zip(term.models if term.weight else (), names, strict=False):
            if not is_gated and term.licence is None:
                examined.append(Examined(name, _MODEL, "off"))
                continue
            tasks = [
                task
                for source, task in sources.items()
                if task is not None and term.is_for(source, ())
            ]
            examined.append(examine_reward_model(term, model, name, tasks, context))
    return examined


def examine_reward_model(
    term: RewardBlock, model: str, name: str, tasks: Sequence[str], context: StageContext
) -> Examined:
    """Return the licence of a reward model of a term; PosttrainError where it is refused.

    name: what it is called in metrics. tasks: among the prompts that it will judge. Without them,
    and without a `licence:`, the pairs count that the stage which trained it kept out, and measured
    it on.
    """
    if term.licence == OFF:
        return Examined(name, _MODEL, "off")
    source = context.model(model)
    pairs = _pairs(term.licence, tasks, context)
    if pairs is not None:
        # A new head is drawn where an adapter brings its own; whoever draws next must not notice.
        with torch.random.fork_rng(devices=[]):
            judged = _by_reward_model(source, pairs, context, is_penalty=term.weight < 0)
        whose = _whose(term.licence, pairs)
        licence = examine(judged, has_orders=False)
        return _admit(Examined(name, _MODEL, "admitted", whose, licence), context)
    record = Path(source.path) / HELD_OUT
    if not record.is_file() or term.weight < 0:
        return Examined(name, _MODEL, "not examined")
    licence = recorded_licence(json.loads(record.read_text(encoding="utf-8")))
    whose = "the held-out pairs of the stage that trained it"
    return _admit(Examined(name, _MODEL, "admitted", whose, licence), context)


def no_pairs(name: str) -> tuple[str, str]:
    """Return what is wrong with a judge that there are no labelled pairs for, and what to do."""
    return (
        f"the judge `{name}` has no licence: there are no pairs that people labelled",
        "write `licence: {file: PAIRS}` (or `hub:`, `task:`) in it, or `licence: off`",
    )


def _admit(examined: Examined, context: StageContext) -> Examined:
    """Raise PosttrainError for a licence that was refused."""
    licence = examined.licence
    assert licence is not None
    if licence.is_admitted:
        return examined
    message = f"the {examined.kind} `{examined.name}` has no licence: {licence.why}"
    hint = _BETTER_JUDGE if examined.kind == _JUDGE else _BETTER_MODEL
    raise PosttrainError(context.name, f"{message} ({examined.pairs_of})", hint)


def _pairs(
    asked: LicenceBlock | Literal["off"] | None, tasks: Sequence[str], context: StageContext
) -> LabelledPairs | None:
    if isinstance(asked, LicenceBlock):
        return read_labelled_pairs(asked, context.places)
    return read_task_pairs(tasks, context.places, at_most=PAIRS_OF_AN_EXAM)


def _whose(asked: LicenceBlock | Literal["off"] | None, pairs: LabelledPairs) -> str:
    is_named = isinstance(asked, LicenceBlock) and asked.task is None
    return pairs.source if is_named else f"validation pairs of {pairs.source}"


def _by_reward_model(
    source: StageInput, pairs: LabelledPairs, context: StageContext, *, is_penalty: bool
) -> list[JudgedPair]:
    """Return what a reward model prefers; what it has no room for stays unanswered.

    is_penalty: its score is taken off, so that it prefers what it scores lower.
    """
    context.stop_if_asked()
    tokenizer = load_tokenizer(source)
    module = on_device(load_reward_model(source))
    rows = [replace(pair.row, where=pair.key) for pair in pairs.pairs]
    encoded, _ = encode_pairs(rows, tokenizer, may_be_none=True)
    limit = module.config.get_text_config().max_position_embeddings
    fitting = [
        pair
        for pair in encoded
        if not isinstance(limit, int)
        or len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids)) <= limit
    ]
    sequences = [pair.prompt_ids + pair.chosen_ids for pair in fitting]
    sequences += [pair.prompt_ids + pair.rejected_ids for pair in fitting]

    def show(done: int) -> None:
        context.progress("licence", done, len(sequences))

    found = scores(module, sequences, on_progress=show)
    half = len(fitting)
    by_key = {pair.where: (found[place], found[half + place]) for place, pair in enumerate(fitting)}
    judged: list[JudgedPair] = []
    for pair in pairs.pairs:
        chosen, rejected = by_key.get(pair.key, (None, None))
        is_swapped = (pair.label == "second") != is_penalty
        sides = (rejected, chosen) if is_swapped else (chosen, rejected)
        judged.append(_judged(pair, _higher(*sides)))
    return judged


def _judged(pair: LabelledPair, verdict: Verdict | None) -> JudgedPair:
    return JudgedPair(pair.label, verdict, verdict, pair.lengths)


def _higher(first: float | None, second: float | None) -> Verdict | None:
    if first is None or second is None:
        return None
    return "tie" if first == second else "first" if first > second else "second"
