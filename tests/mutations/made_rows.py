"""Mutations of what samples, judges and chooses rows for other stages."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_CHAIN = ("tests/stages/test_made_rows.py",)
_CHOICES = ("tests/unit/data/making/test_choices.py",)
_KILLS = ("tests/stages/test_generating_kills.py",)

MADE_ROWS = [
    Mutation(
        "what is drawn for a response depends on its own number",
        "pipeline/stages/generate.py",
        "keys=batch,",
        "keys=list(range(len(batch))),",
        _CHAIN,
    ),
    Mutation(
        "a killed sampler asks nothing twice",
        "pipeline/data/making/pieces.py",
        "self.rows += read_lines(path)",
        "self.rows += read_lines(path)[:0]",
        _KILLS,
    ),
    Mutation(
        "responses stand in the order of their prompts, whatever came first",
        "pipeline/stages/generate.py",
        'sorted(pieces, key=lambda piece: piece["row"])',
        "list(pieces)",
        _CHAIN,
    ),
    Mutation(
        "equal scores make no pair",
        "pipeline/data/making/choices.py",
        "if difference <= 0 or difference < margin:",
        "if difference < margin:",
        _CHOICES,
    ),
    Mutation(
        "of equal scores the first response is the best",
        "pipeline/data/making/choices.py",
        "best = max(left, key=_score)",
        "best = max(reversed(left), key=_score)",
        _CHOICES,
    ),
    Mutation(
        "a score is the weighted sum of the rewards",
        "pipeline/measuring/answer_rewards.py",
        "values = [weight * value for weight, value in counted if value is not None]",
        "values = [value for weight, value in counted if value is not None]",
        _CHAIN,
    ),
    Mutation(
        "all responses to a prompt fall on the same side of a holdout",
        "pipeline/data/reading/sources.py",
        "is_held_out(row.fields, share, block.columns, by_prompt=True) == held_out",
        "is_held_out(row.fields, share, block.columns) == held_out",
        _CHAIN,
    ),
    Mutation(
        "an edited reward function judges anew, and samples nothing anew",
        "pipeline/plan/identity.py",
        'described["stage"] = {"artifact": self.fingerprints[block.stage[1:]]}',
        'described["stage"] = {"artifact": ""}',
        _CHAIN,
    ),
]
