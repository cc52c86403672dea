"""What the judges of `label` make of worthless responses beside responses that they judged.

Of the run's own prompts; no label depends on it. What the probes are: reward/judges/probes.py.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import InfrastructureError
from reward.judges.probes import (
    PROBES,
    choose_probed,
    compare_scores,
    probe_metrics,
    probe_preferences,
    probe_texts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage import StageContext
    from pipeline.data.reading.responses import ResponseRow
    from reward.judges.judge import Judge
    from reward.judges.probes import Probed

_LOG = logging.getLogger(__name__)
Scores = list[dict[str, Any]]  # of each row, by reward


def probe_comparing(
    judge: Judge, rows: Sequence[ResponseRow], context: StageContext
) -> dict[str, dict[str, Any]]:
    """Return how probes fare in a comparison with responses, as metrics."""
    from pipeline.rewards import event_loop

    items = _items(rows, context)
    return probe_metrics(
        event_loop.run(probe_preferences(judge, items), context.should_stop) if items else []
    )


def probed_terms(terms: Sequence[RewardBlock]) -> list[RewardBlock]:
    """Return the terms that are models and count."""
    return [term for term in terms if term.weight and (term.models or term.judge is not None)]


def probe_scores(
    terms: Sequence[RewardBlock],
    rows: Sequence[ResponseRow],
    judged: Sequence[Mapping[str, Any]],
    score: Callable[[Sequence[ResponseRow], str], Scores],
    context: StageContext,
) -> dict[str, dict[str, Any]]:
    """Return how each judge and reward model scores probes beside responses, as metrics.

    terms: those that `probed_terms` returns. judged: the scores of the rows. score: scores other
    ones by the term of a name.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for name in (term.label for term in terms):
        places = [place for place, one in enumerate(judged) if one.get(name) is not None]
        items = _items([rows[place] for place in places], context)
        if not items:
            continue
        honest = [judged[places[item.place]][name] for item in items]
        written = [
            replace(rows[places[item.place]], text=text)
            for item in items
            for text in probe_texts(item).values()
        ]
        try:
            found = [one.get(name) for one in score(written, name)]
        except InfrastructureError as error:  # the labels are made; they are not given up for it
            _LOG.warning("%s: no probe of `%s` was judged: %s", context.name, name, error.message)
            found = [None] * len(written)
        of_probes = {probe: found[place :: len(PROBES)] for place, probe in enumerate(PROBES)}
        metrics[name] = probe_metrics(compare_scores(honest, of_probes))
    return metrics


def _items(rows: Sequence[ResponseRow], context: StageContext) -> list[Probed]:
    from pipeline.data.reading.shown_prompts import show_prompt

    answered = [(show_prompt(row.prompt), row.text) for row in rows]
    return choose_probed(answered, seed=context.seed)
