"""How many requests a planned stage may put to its judges at most, and what they may cost.

Known from the recipe where it says how many prompts there are. Nothing is read for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.stages.generate import GenerateConfig
from pipeline.stages.labelling.config import LabelConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.config.judge import AskedBlock
    from pipeline.plan.plan import Plan
    from pipeline.recipe.recipe import Recipe

_PER_MILLION = 1e6
_BOTH = 2  # orders of a comparison; a critique and a revision


@dataclass(frozen=True)
class Asked:
    """What a stage may ask a model at most. requests: None where the recipe does not tell.

    unit, each: what is asked about, and how many requests that takes. answers_cost: of answers of
    full length, in US dollars; prompts come on top.
    """

    model: str
    requests: int | None
    each: int
    unit: str
    answers_cost: float | None

    def __str__(self) -> str:
        """Say it in a line."""
        number = f"at most {self.requests:,} requests" if self.requests is not None else ""
        number = number or f"{self.each} requests a {self.unit}"
        cost = "" if self.answers_cost is None else f", ${self.answers_cost:.2f} for answers"
        return f"{number} to `{self.model}`{cost}"


def judging(plan: Plan) -> Iterator[tuple[str, Asked]]:
    """Yield what each label stage that is to run may ask, by its name."""
    for planned in plan.stages:
        config = planned.config
        if isinstance(config, LabelConfig) and planned.status != "cached":
            for asked in _of_label(plan.recipe, config):
                yield planned.name, asked


def _of_label(recipe: Recipe, config: LabelConfig) -> Iterator[Asked]:
    prompts, samples = _responses(recipe, config)
    responses = None if prompts is None or samples is None else prompts * samples
    if config.revise is not None:
        each = _BOTH * config.revise.rounds
        yield _asked(config.revise, responses, each, "response")
    if config.judge is not None and config.pairs is not None:
        if config.revise is not None:
            yield _asked(config.judge, responses, _BOTH, "response")
            return
        pairs = None if samples is None else samples * (samples - 1) // 2
        if pairs is not None and config.pairs.compared is not None:
            pairs = min(pairs, config.pairs.compared)
        comparisons = None if prompts is None or pairs is None else prompts * pairs
        yield _asked(config.judge, comparisons, _BOTH, "comparison")
        return
    for term in config.terms:
        if term.judge is not None:
            yield _asked(term.judge, responses, 1, "response")


def _asked(block: AskedBlock, number: int | None, each: int, unit: str) -> Asked:
    requests = None if number is None else number * each
    limits = (requests, block.budget.requests)
    requests = min((limit for limit in limits if limit is not None), default=None)
    cost = None
    if block.endpoint is not None and requests is not None and block.endpoint.prices.completion:
        tokens = requests * block.max_tokens
        cost = tokens * block.endpoint.prices.completion / _PER_MILLION
    return Asked(block.label, requests, each, unit, cost)


def _responses(recipe: Recipe, config: LabelConfig) -> tuple[int | None, int | None]:
    """Return how many prompts and responses to each a stage reads at most; None if not known."""
    prompts, samples = 0, 0
    for block in config.data:
        made_by = None if block.stage is None else recipe.stages[block.stage[1:]]
        if not isinstance(made_by, GenerateConfig):
            return None, None
        samples = max(samples, made_by.num_samples)
        for source in made_by.prompts:
            if source.rows is None:
                return None, samples
            prompts += source.rows
    return prompts, samples
