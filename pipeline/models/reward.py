"""Makes, loads and asks reward models: a causal network with a scalar head, and their pad token."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import AutoModelForSequenceClassification
from transformers.modeling_layers import GenericForSequenceClassification

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.errors import PosttrainError
from pipeline.models.end_to_end import lays_end_to_end
from pipeline.models.frozen import is_kept
from pipeline.models.load import DTYPES, base_of, load_policy, load_tokenizer, load_whole
from pipeline.models.padded_rows import laying_end_to_end, without_peft
from reward.model import scores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.config.field_types import Precision
    from pipeline.config.stage import StageInput


def load_reward_model(source: StageInput, *, precision: Precision = "fp32") -> PreTrainedModel:
    """Load a sequence classifier with one output, its head and any adapter included."""
    base = base_of(source)
    if base is None:
        module = load_whole(AutoModelForSequenceClassification, source, precision, None)
        if module.config.num_labels != 1:
            message = f"its head has {module.config.num_labels} outputs, and a reward is one number"
            raise PosttrainError(source.name, message, "train a reward model with `num_labels=1`")
        return module
    from pipeline.models import adapters

    # In fp32: the head that the adapter brings replaces the new one made here.
    module = as_reward_model(load_policy(base), load_tokenizer(source))
    return adapters.merge(module, Path(source.path)).to(DTYPES[precision])  # pyright: ignore[reportArgumentType]


def as_reward_model(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return the policy's network with a new scalar head (random, from torch's generator).

    A score is read at the last token that is not padding, so the padding token must not end a
    response (`padding_for_rewards`). Raises PosttrainError for an architecture without such a head.
    """
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    config.get_text_config().pad_token_id = tokenizer.pad_token_id
    try:
        module = AutoModelForSequenceClassification.from_config(config, dtype=policy.dtype)
    except ValueError as error:
        name = type(policy).__name__
        message = f"{name} has no form with a scalar head in transformers"
        raise PosttrainError("reward_model", message, "take another architecture") from error
    # Shares the policy's tensors, copies nothing: only the head is new.
    body, prefix = getattr(policy, policy.base_model_prefix), module.base_model_prefix
    if is_kept(body) and type(body) is type(getattr(module, prefix)):
        setattr(module, prefix, body)  # with what its projections have beside their weights
    else:
        getattr(module, prefix).load_state_dict(body.state_dict(), assign=True)
    module.name_or_path = policy.name_or_path
    return module


def score_ids(
    module: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    *,
    batch_size: int = 32,
    on_progress: Callable[[int], None] | None = None,
) -> list[float]:
    """Return a score a sequence of token ids, their rows run end to end where the network can."""
    classifier = without_peft(module)
    is_known = isinstance(classifier, GenericForSequenceClassification)  # nor adapters on a policy
    is_laid = is_known and lays_end_to_end(classifier.base_model)  # pyright: ignore[reportAttributeAccessIssue]
    with laying_end_to_end(classifier) if is_laid else nullcontext():
        return scores(module, sequences, batch_size=batch_size, on_progress=on_progress)


def padding_for_rewards(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a token to pad with that never ends a response.

    A score is read at the last token that is not padding: where EOS pads, it would be read before
    the EOS, and a response with an end could not be told from one that was cut.
    """
    ends = ChatEncoder(tokenizer).end_ids() if tokenizer.chat_template else frozenset[int]()
    ends |= {tokenizer.eos_token_id} if isinstance(tokenizer.eos_token_id, int) else set()
    names = (tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token)
    for name in (*names, *tokenizer.convert_ids_to_tokens(list(range(len(ends) + 1)))):
        if isinstance(name, str) and tokenizer.convert_tokens_to_ids(name) not in ends:
            return name
    raise AssertionError  # one of len(ends) + 1 tokens is not an end
