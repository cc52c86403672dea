"""How many requests a planned stage may put to its judges at most, and what they may cost.

Exams and probes are counted in. Known from the recipe where it says how many prompts there are; of
an endpoint with prices a few of the prompts are read, whose tokens are estimated.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pipeline.config.judge import AskedBlock, JudgeBlock
from pipeline.config.judge_principles import read_principles
from pipeline.config.licence import OFF, PAIRS_OF_AN_EXAM, LicenceBlock
from pipeline.config.measuring_stage import MeasuringStage
from pipeline.errors import PosttrainError
from pipeline.stages import stage_of
from pipeline.stages.generate import GenerateConfig
from pipeline.stages.labelling.config import LabelConfig, ReviseBlock
from pipeline.stages.rl.config import RolloutStage
from pipeline.stages.rl.unseen import HELD_OUT_PROMPTS
from reward.judges.constitution import critique_request, revision_request
from reward.judges.pairwise import Pair, comparison_requests
from reward.judges.probes import NUM_PROBED, PROBES
from reward.judges.rubric import score_request

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.config.blocks import DataBlock
    from pipeline.plan.plan import Plan
    from pipeline.recipe.recipe import Recipe

_PER_MILLION = 1e6
_BYTES_PER_TOKEN = 3  # fewer than English has, as where a server does not count (endpoint.py)
_BOTH = 2  # orders of a comparison; a critique and a revision
_READ = 32  # prompts whose lengths are looked at


@dataclass(frozen=True)
class Asked:
    """What a stage may ask a model at most. requests: None where the recipe does not tell.

    unit, each: what is asked about, and how many requests that takes. prompt_tokens: of a request,
    about. cost: of all of them with answers of full length, in US dollars. has_texts: whether the
    tokens of the run's own prompts are known, and counted.
    """

    model: str
    requests: int | None
    each: int
    unit: str
    prompt_tokens: int = 0
    cost: float | None = None
    has_texts: bool = True

    def __str__(self) -> str:
        """Say it in a line."""
        number = f"at most {self.requests:,} requests" if self.requests is not None else ""
        number = number or f"{self.each} request{'s' * (self.each > 1)} a {self.unit}"
        if self.cost is None:
            return f"{number} to `{self.model}`"
        beside = "" if self.has_texts else ", the run's own prompts not counted"
        tokens = f"of about {self.prompt_tokens:,} tokens{beside}"
        return f"{number} to `{self.model}` {tokens}, about ${self.cost:.2f}"


@dataclass(frozen=True)
class _Work:
    """What a stage has judged. number: None where that is not known; each: requests for one.

    prompts: sources of what was asked; response_tokens: of an answer to it, at most. num_texts:
    responses that a request shows. compares: whether requests compare two.
    """

    number: int | None
    each: int
    unit: str
    prompts: Sequence[DataBlock]
    response_tokens: int
    num_texts: int = 1
    compares: bool = False
    takes_exam: bool = True


def judging(plan: Plan) -> Iterator[tuple[str, Asked]]:
    """Yield what each stage that is to run may ask, by its name."""
    for planned in plan.stages:
        if planned.status != "cached":
            for block, work in _asking(plan.recipe, planned.config):
                yield planned.name, _asked(plan.recipe, block, work)


def _asking(recipe: Recipe, config: Any) -> Iterator[tuple[AskedBlock, _Work]]:
    """Yield the models that a stage asks, each with what for."""
    if isinstance(config, LabelConfig):
        yield from _of_label(recipe, config)
        return
    work = None
    terms = ()
    if isinstance(config, MeasuringStage):
        terms, work = config.rewards, _of_measuring(config)
    elif isinstance(config, RolloutStage):
        terms, work = config.reward, _of_rollouts(config)
    for term in terms:
        if term.judge is not None and work is not None:
            yield term.judge, work


def _of_label(recipe: Recipe, config: LabelConfig) -> Iterator[tuple[AskedBlock, _Work]]:
    made_by = _made_by(recipe, config)
    prompts, samples = _responses(made_by)
    blocks = [block for made in made_by or () for block in made.prompts]
    tokens = max((made.max_new_tokens for made in made_by or ()), default=0)
    responses = None if prompts is None or samples is None else prompts * samples
    if config.revise is not None:
        each = _BOTH * config.revise.rounds
        tokens = max(tokens, config.revise.max_tokens)
        yield config.revise, _Work(responses, each, "response", blocks, tokens, takes_exam=False)
    if config.judge is not None and config.pairs is not None:
        pairs = None if samples is None else samples * (samples - 1) // 2
        if pairs is not None and config.pairs.compared is not None:
            pairs = min(pairs, config.pairs.compared)
        number = None if prompts is None or pairs is None else prompts * pairs
        unit = "comparison"
        if config.revise is not None:  # a response and its revision
            number, unit = responses, "response"
        yield config.judge, _Work(number, _BOTH, unit, blocks, tokens, _BOTH, compares=True)
        return
    for term in config.terms:
        if term.judge is not None:
            exam = bool(term.weight)
            yield term.judge, _Work(responses, 1, "response", blocks, tokens, takes_exam=exam)


def _of_measuring(config: MeasuringStage) -> _Work:
    """Return the answers of a stage that measures: of each of its models."""
    entrants = [getattr(config, "baseline", None), *getattr(config, "candidates", ())]
    models = max(1, sum(entrant is not None for entrant in entrants))
    rows = [min(config.limit, block.rows or config.limit) for block in config.prompts]
    number = sum(rows) * config.samples * models
    tokens = config.max_new_tokens
    return _Work(number, 1, "answer", config.prompts, tokens, takes_exam=False)


def _of_rollouts(config: RolloutStage) -> _Work:
    """Return the responses of a training; their number is not known where its prompts say it."""
    arguments = {**stage_of(config.stage).defaults(config), **config.training_args}
    schedule = config.schedule(arguments)
    steps, episodes = arguments.get("max_steps", -1), arguments.get("total_episodes")
    number = None
    if (steps > 0 or episodes) and arguments.get("eval_strategy") in (None, "no"):
        rollouts = -(-(episodes or 0) // schedule.responses)
        if steps > 0:
            rollouts = -(-steps // schedule.steps)
        number = rollouts * schedule.responses
        number += HELD_OUT_PROMPTS * (config.best_of + 1) if config.best_of else 0
    tokens = arguments.get("max_completion_length") or 0
    return _Work(number, 1, "response", config.asked, tokens)


def _asked(recipe: Recipe, block: AskedBlock, work: _Work) -> Asked:
    requests = None if work.number is None else work.number * work.each + _beside(block, work)
    limits = (requests, block.budget.requests)
    requests = min((limit for limit in limits if limit is not None), default=None)
    asked = Asked(block.label, requests, work.each, work.unit)
    if block.endpoint is None or requests is None:
        return asked
    prices = block.endpoint.prices
    if not (prices.prompt or prices.completion):
        return asked
    texts = _mean_prompt_bytes(work.prompts, recipe)
    shown = work.response_tokens * work.num_texts
    prompt_tokens = shown + round(
        (_question_bytes(recipe, block, work) + (texts or 0)) / _BYTES_PER_TOKEN
    )
    each = prompt_tokens * prices.prompt + block.max_tokens * prices.completion
    cost = requests * each / _PER_MILLION
    return Asked(
        *(block.label, requests, work.each, work.unit, prompt_tokens, cost, texts is not None)
    )


def _beside(block: AskedBlock, work: _Work) -> int:
    """Return the requests of the exam and of probes."""
    if not isinstance(block, JudgeBlock) or not work.takes_exam:
        return 0
    pairs = 0 if block.licence == OFF else PAIRS_OF_AN_EXAM
    if isinstance(block.licence, LicenceBlock):
        pairs = block.licence.pairs
    return _BOTH * pairs + NUM_PROBED * len(PROBES) * (_BOTH if work.compares else 1)


def _question_bytes(recipe: Recipe, block: AskedBlock, work: _Work) -> int:
    """Return the length of a request without the prompt and responses that it shows."""
    principles = ()
    with suppress(PosttrainError):  # `check` says what is wrong with them
        principles = read_principles(getattr(block, "principles", ()), recipe.places)
    criterion = max(principles, key=len, default=getattr(block, "rubric", ""))
    if isinstance(block, ReviseBlock):
        tokens = block.max_tokens
        asked = critique_request("", "", criterion, max_tokens=tokens)
        rewritten = revision_request("", "", criterion, "", max_tokens=tokens)
        both = [_length(asked.messages), _length(rewritten.messages) + tokens * _BYTES_PER_TOKEN]
        return round(fmean(both))
    if work.compares:
        return _length(comparison_requests(Pair("", "", "", ""), criterion)[0].messages)
    scale: tuple[int, int] = getattr(block, "scale", (1, 10))
    return _length(score_request("", "", criterion, scale=scale).messages)


def _length(messages: Sequence[tuple[str, str]]) -> int:
    return sum(len(content.encode("utf-8", "replace")) for _, content in messages)


def _mean_prompt_bytes(blocks: Sequence[DataBlock], recipe: Recipe) -> float | None:
    """Return the mean length of the first prompts of each source; None where one is not here."""
    from pipeline.data.reading.data_blocks import task_of
    from pipeline.data.reading.formats import read_source
    from pipeline.data.reading.records import PromptRow
    from pipeline.data.reading.shown_prompts import show_prompt

    found: list[float] = []
    for block in blocks:
        if block.hub is not None or block.stage is not None:
            return None
        try:
            task = task_of(block, recipe.places)
            rows = islice(read_source(block, recipe.places, forms=("prompt",), task=task), _READ)
            texts = [show_prompt(row) for row in rows if isinstance(row, PromptRow)]
        except (PosttrainError, ValueError, OSError):  # `check` says what is wrong with the data
            return None
        if texts:
            found.append(fmean(len(text.encode("utf-8", "replace")) for text in texts))
    return fmean(found) if found else None


def _made_by(recipe: Recipe, config: LabelConfig) -> list[GenerateConfig] | None:
    """Return the stages that sample what is labelled; None where there is anything else."""
    made: list[GenerateConfig] = []
    for block in config.data:
        stage = None if block.stage is None else recipe.stages[block.stage[1:]]
        if not isinstance(stage, GenerateConfig):
            return None
        made.append(stage)
    return made


def _responses(made_by: list[GenerateConfig] | None) -> tuple[int | None, int | None]:
    """Return how many prompts and responses to each there are at most; None if not known."""
    if made_by is None:
        return None, None
    samples = max(made.num_samples for made in made_by)
    rows = [block.rows for made in made_by for block in made.prompts]
    known = [number for number in rows if number is not None]
    return (sum(known) if len(known) == len(rows) else None), samples
