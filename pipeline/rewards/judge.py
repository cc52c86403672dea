"""A recipe's judge, made ready to be asked: who answers, by what, from which cache, at which cost.

For `label`, `evaluate`, `compare` and as a reward term. Not the questions (reward/judges/), nor the
licence that a judge needs.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from eval.asking.question import dialogue
from pipeline.config.judge_key import read_key
from pipeline.config.judge_principles import read_principles
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.models.language import language_model
from pipeline.models.respondent import ModelRespondent
from pipeline.rewards.spending import keep_spending, share_of_budget
from pipeline.rewards.terms import RewardTerm
from reward.judges.cache import Cached
from reward.judges.constitution import Constitution
from reward.judges.endpoint import Endpoint
from reward.judges.exchange import NoReply
from reward.judges.judge import Judge
from reward.judges.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import TrainerState

    from pipeline.config.judge import AskedBlock, EndpointBlock, JudgeBlock
    from pipeline.config.stage import StageContext
    from pipeline.rewards.responses import Responses, Text
    from reward.judges.exchange import Respondent
    from reward.judges.ledger import Limits

_LOG = logging.getLogger(__name__)
# What the user can put right, and what only the machine, the network or time can.
_OF_THE_INPUT = ("too_long", "cut_off")


def load_judge(name: str, block: JudgeBlock, context: StageContext) -> Judge:
    """Return the judge of a block; a model in this process is loaded now.

    name: of the judge in the stage. Raises PosttrainError for what it is made of.
    """
    ledger = new_ledger()
    principles = read_principles(block.principles, context.places)
    return Judge(
        load_respondent(name, block, context, ledger),
        Constitution(principles, context.seed) if principles else block.rubric,
        scale=block.scale,
        wants_reason=block.reason,
        max_tokens=block.max_tokens,
        temperature=block.temperature,
        ledger=ledger,
    )


def new_ledger() -> Ledger:
    """Return an empty ledger that logs what a person should know."""
    return Ledger(on_notice=_LOG.warning)


def load_respondent(
    name: str, block: AskedBlock, context: StageContext, ledger: Ledger
) -> Respondent:
    """Return who answers. An endpoint's answers are kept in the store, for all stages and runs.

    Those of a model in this process are not: they take no network and cost nothing, and a batch of
    which a part is known already would round differently.
    """
    if block.endpoint is None:
        source = context.model(block.model or "")
        model = language_model(source, form=None, precision=block.precision)
        identity = {"model": source.artifact or source.path, "revision": source.revision}
        return ModelRespondent(
            model,
            identity={**identity, "precision": block.precision, "seed": context.seed},
            seed=context.seed,
            batch_size=block.batch_size,
            ledger=ledger,
        )
    keep_spending(ledger, name, context)
    endpoint = _endpoint(block.endpoint, share_of_budget(block.budget, context), context, ledger)
    return endpoint if context.answers is None else Cached(endpoint, context.answers, ledger)


def _endpoint(
    block: EndpointBlock, limits: Limits, context: StageContext, ledger: Ledger
) -> Endpoint:
    key = read_key(block.key) if block.key is not None else None
    try:
        return Endpoint(
            block.url,
            block.model,
            key=key,
            at_once=block.at_once,
            timeout_s=block.timeout_s,
            retries=block.retries,
            proxy=block.proxy,
            prices=(block.prices.prompt, block.prices.completion),
            limits=limits,
            ledger=ledger,
        )
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from None


def judge_term(
    judge: Judge, name: str, weight: float = 1.0, *, on: frozenset[str] | None = None
) -> RewardTerm:
    """Make a term of a judge's scores, awaited while other terms have their turn.

    What has no answer is None; the share of it is logged. Raises InfrastructureError where no
    response of a call gets one.
    """

    async def score(responses: Responses, _: TrainerState | None) -> list[float | None]:
        items = [
            (_asked(prompt), responses.text(row)) for row, prompt in enumerate(responses.prompts)
        ]
        said = await judge.score(items)
        refuse_failures(f"reward `{name}`", said)
        has_failed = [isinstance(one, NoReply) for one in said]
        responses.logged.metrics["failed"] = [float(failed) for failed in has_failed]
        return [None if isinstance(one, NoReply) else one.value for one in said]

    return RewardTerm(name, weight, score, on, is_async=True)


def _asked(prompt: Text) -> str:
    if isinstance(prompt, str):
        return prompt
    return dialogue([(str(turn["role"]), str(turn["content"])) for turn in prompt])


def refuse_failures(where: str, answers: Sequence[object]) -> None:
    """Raise for answers of which none came, and for a budget that is spent.

    InfrastructureError, unless the questions are what is wrong.
    """
    failures = [answer for answer in answers if isinstance(answer, NoReply)]
    spent = next((failure for failure in failures if failure.cause == "budget"), None)
    if spent is not None:
        hint = "raise `budget` and run again: what was answered is kept"
        raise InfrastructureError(where, f"the budget is spent: {spent.detail}", hint)
    if not failures or len(failures) < len(answers):
        return
    cause, number = Counter(failure.cause for failure in failures).most_common(1)[0]
    detail = next(failure.detail for failure in failures if failure.cause == cause)
    message = f"the judge answered none of {len(answers)} questions: {number} {cause}: {detail}"
    if cause in _OF_THE_INPUT:
        raise PosttrainError(where, message, "ask for less, or name another judge")
    raise InfrastructureError(where, message, "what was answered before is kept; run again")
