"""Reward terms: a user's function, a reward model or the tasks' verifiers, each as numbers.

Not the models and verifiers themselves (reward/model.py, Task.verify), and not their sum
(composition.py). A term gives each response a number, or None where it does not apply.
"""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config.reward_signature import HANDED_TO_REWARDS
from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.models.reward import score_ids
from pipeline.rewards.responses import REFERENCE, source_in
from pipeline.rewards.user_function import UserFunction
from pipeline.rewards.vocabulary import check_ids, check_vocabulary
from reward.sandbox import SandboxUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState

    from eval.task import Task
    from pipeline.rewards.responses import Responses


@dataclass(frozen=True)
class RewardTerm:
    """One reward of several. score: a number per response, None where the term does not apply.

    on: only responses whose column `source` is in it are handed to `score`; None for all.
    is_async: whether `score` gives something to await; such terms are asked first, all together.
    """

    name: str
    weight: float
    score: Callable[[Responses, TrainerState | None], Any]
    on: frozenset[str] | None = None
    is_async: bool = False


def function_term(
    function: Callable[..., Any],
    name: str,
    weight: float = 1.0,
    *,
    on: frozenset[str] | None = None,
) -> RewardTerm:
    """Make a term of a user's function, sync or async, in TRL's calling convention.

    It gets by keyword copies of `prompts`, `completions`, `completion_ids` and of every column of
    the prompts, and `trainer_state`, `log_extra(column, values)` and `log_metric(name, value)`; it
    returns one number per completion. Raises ValueError for what cannot be called like this.
    """
    try:
        inspect.signature(function).bind_partial(**dict.fromkeys(HANDED_TO_REWARDS))
    except TypeError as error:
        handed = ", ".join(HANDED_TO_REWARDS)
        raise ValueError(
            f"reward `{name}`: {error}; a reward function is called with {handed} and the prompts' "
            "columns by keyword: give it a last parameter `**rest`"
        ) from error
    call = UserFunction(name, function)
    return RewardTerm(name, weight, call, on, call.is_async)


def model_term(
    module: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str,
    weight: float = 1.0,
    *,
    policy_tokenizer: PreTrainedTokenizerBase,
    on: frozenset[str] | None = None,
    batch_size: int = 32,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> RewardTerm:
    """Make a term of a reward model, which is frozen and put into evaluation mode for good.

    autocast: the context that it is run in. It reads prompt and completion as they were sampled,
    the stop token included, never a decoded text. Raises ValueError for a model with several
    outputs, or to which an id that the policy can write is another token.
    """
    if module.config.num_labels != 1:
        outputs = module.config.num_labels
        raise ValueError(f"reward `{name}`: the model has {outputs} outputs; a reward is one")
    num_embeddings: int = module.config.get_text_config().vocab_size  # pyright: ignore[reportAssignmentType]
    check_vocabulary(f"reward `{name}`", tokenizer, policy_tokenizer, num_embeddings)
    module.requires_grad_(requires_grad=False).eval()

    def score(responses: Responses, _: TrainerState | None) -> list[float]:
        pairs = zip(responses.prompt_ids, responses.completion_ids, strict=True)
        sequences = [[*prompt, *completion] for prompt, completion in pairs]
        check_ids(f"reward `{name}`", sequences, num_embeddings)
        with autocast():
            return model_scores(module, sequences, batch_size)

    return RewardTerm(name, weight, score, on)


def verifier_term(tasks: Mapping[str, Task], name: str, weight: float = 1.0) -> RewardTerm:
    """Make a term of the tasks' own verifiers: `Task.verify`, None where it cannot grade.

    tasks: by the prompts' source; responses of other sources get None. What is expected stands in
    the column `reference`. Raises InfrastructureError where programs cannot be run confined.
    """

    def score(responses: Responses, _: TrainerState | None) -> list[float | None]:
        references = responses.columns.get(REFERENCE, [None] * len(responses))
        verdicts: list[float | None] = []
        for row, source in enumerate(source_in(responses.columns)):
            reference = references[row]
            if not isinstance(reference, str):
                message = f"{responses.shown(row)} of `{source}` has no `{REFERENCE}` to verify"
                raise PosttrainError(f"reward `{name}`", message)
            verdicts.append(tasks[source].verify(responses.text(row), reference).score)
        return verdicts

    def score_confined(responses: Responses, state: TrainerState | None) -> list[float | None]:
        try:
            return score(responses, state)
        except SandboxUnavailable as error:
            raise InfrastructureError(f"reward `{name}`", str(error)) from error

    return RewardTerm(name, weight, score_confined, frozenset(tasks))


def model_scores(
    module: PreTrainedModel, sequences: list[list[int]], batch_size: int
) -> list[float]:
    """Score token ids, whatever their last one is.

    Upstream reads a score at the last token that is not padding: too early in a sequence that ends
    with that id, as one does where EOS pads. Such sequences are padded with another one.
    """
    config = module.config.get_text_config()
    own_pad: int | None = config.pad_token_id
    usual = 0 if own_pad is None else own_pad
    all_scores = [0.0] * len(sequences)
    try:
        for pad in (usual, 1 if usual == 0 else 0):
            rows = [i for i, ids in enumerate(sequences) if (ids[-1] == usual) != (pad == usual)]
            config.pad_token_id = pad
            chosen = score_ids(module, [sequences[i] for i in rows], batch_size=batch_size)
            for i, score in zip(rows, chosen, strict=True):
                all_scores[i] = score
    finally:
        config.pad_token_id = own_pad
    return all_scores
