"""What rewards give to worthless responses, beside what the policy answered before it learnt.

Asked when training is over, of the terms as they reward: a reward model reads token ids. What the
probes are: reward/judges/probes.py.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import torch

from pipeline.errors import InfrastructureError
from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.responses import Responses
from pipeline.rl.actor import evaluating
from pipeline.rl.prompts import plain
from reward.judges.probes import (
    PROBES,
    Probed,
    choose_probed,
    compare_scores,
    probe_metrics,
    probe_texts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.rl.collector import Collector
    from pipeline.rl.prompts import Prompt
    from pipeline.rl.rollout import Rollout

_LOG = logging.getLogger(__name__)
_NOTE = "honest"


def note_honest(rollout: Rollout, names: Sequence[str], *, seed: int) -> None:
    """Note a few responses of the first rollout, and what the terms of these names gave them."""
    noted: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        term = rollout.terms.index(name)
        rows = [row for row in rollout.rows if not math.isnan(float(row.rewards[term]))]
        answered = [(str(row.prompt), row.response) for row in rows]
        noted[name] = [
            {
                "prompt": rows[item.place].prompt,
                "response": item.response,
                "other": item.other,
                "score": float(rows[item.place].rewards[term]),
                "end": rows[item.place].completion_ids[-1:] if rows[item.place].has_eos else [],
            }
            for item in choose_probed(answered, seed=seed)
        ]
    rollout.notes[_NOTE] = noted


def probe_terms(
    collector: Collector,
    prompts: Sequence[Prompt],
    notes: Mapping[str, Any],
    positions: Mapping[str, int | None],
) -> dict[str, dict[str, Any]]:
    """Return how each term's probes fare beside the responses that were noted, as metrics.

    positions: of the model that a term reads with, by its name; None for no limit. What does not
    fit has no score.
    """
    metrics: dict[str, dict[str, Any]] = {}
    for term in collector.rewards.terms:
        noted: list[dict[str, Any]] = notes.get(_NOTE, {}).get(term.name, [])
        if not noted:
            continue
        items = [Probed("", one["response"], one["other"]) for one in noted]
        asked = [
            (prompts[one["prompt"]], text, one["end"])
            for one, item in zip(noted, items, strict=True)
            for text in probe_texts(item).values()
        ]
        responses = _responses(collector, asked)
        limit = positions.get(term.name)
        fitting = [
            place
            for place, ids in enumerate(responses.completion_ids)
            if limit is None or len(responses.prompt_ids[place]) + len(ids) <= limit
        ]
        found: list[float | None] = [None] * len(asked)
        try:
            with torch.no_grad(), evaluating(collector.actor):
                raw = RewardComposition([term]).raw(responses.part(fitting))[:, 0].tolist()
        except InfrastructureError as error:  # training is over; it is not given up for it
            _LOG.warning("no probe of `%s` was judged: %s", term.name, error.message)
            raw = [math.nan] * len(fitting)
        for place, score in zip(fitting, raw, strict=True):
            found[place] = None if math.isnan(score) else score
        of_probes = {probe: found[place :: len(PROBES)] for place, probe in enumerate(PROBES)}
        honest = [one["score"] for one in noted]
        metrics[term.name] = probe_metrics(compare_scores(honest, of_probes))
    return metrics


def _responses(collector: Collector, asked: Sequence[tuple[Prompt, str, list[int]]]) -> Responses:
    """Return texts as the policy would have written them: in its tokens, with an end."""
    ends = collector.sampling.eos_token_ids
    names = sorted({name for prompt, _, _ in asked for name in prompt.columns})
    ids = [
        [
            *plain(collector.tokenizer(text, add_special_tokens=False)["input_ids"]),
            *(end if set(end) <= ends and end else sorted(ends)[:1]),
        ]
        for _, text, end in asked
    ]
    return Responses(
        [prompt.shown for prompt, _, _ in asked],
        [
            text if isinstance(prompt.shown, str) else [{"role": "assistant", "content": text}]
            for prompt, text, _ in asked
        ],
        [prompt.ids for prompt, _, _ in asked],
        ids,
        [True] * len(asked),
        {name: [prompt.columns.get(name) for prompt, _, _ in asked] for name in names},
    )
