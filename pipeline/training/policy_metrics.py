"""What preferences do to a policy, in dpo and kto: divergence from the reference, and samples.

Measured on prompts that training never saw, where the data keeps some. How well implicit rewards
tell good from bad is the subject of pair_ranking.py and answer_ranking.py.
"""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from statistics import fmean
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model

from pipeline.data.encoding.lengths import cut
from pipeline.files.names import SAMPLES
from pipeline.models.language import wrap
from pipeline.models.load import load_policy, on_device
from pipeline.models.padded_rows import without_peft

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.asking.loglik import Pair
    from eval.model import Form, LanguageModel
    from pipeline.config.stage import StageContext, StageInput

_PROMPTS = 128
_SHOWN = 10
_FEW = 16
_MAX_NEW_TOKENS = 128
_BATCH_SIZE = 32


@dataclass(frozen=True)
class TrainedPolicy:
    """A policy before, while or after it is trained, and what it is compared with.

    form: how it is asked, which decides what ends a response. source: of the reference.
    has_own_reference: it is another model than training began with.
    """

    trainer: Any
    tokenizer: PreTrainedTokenizerBase
    form: Form
    source: StageInput
    has_own_reference: bool

    def language_model(self) -> LanguageModel:
        """Return the trained policy, ready to be asked."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        module = _without_fused_head(without_peft(model))
        return wrap(module, self.tokenizer, name="policy", form=self.form)

    @contextmanager
    def reference(self) -> Generator[LanguageModel]:
        """Give the reference: the same module without its adapter, or a model of its own."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if is_peft_model(model) and not self.has_own_reference:
            with model.disable_adapter():
                yield self.language_model()
            return
        module = on_device(load_policy(self.source))
        yield wrap(module, self.tokenizer, name=self.source.name, form=self.form)


def _without_fused_head(module: Any) -> Any:
    """Return the same weights without the forward that TRL put into this module.

    So that a policy is computed as its reference is, to the same bits.
    """
    own = vars(module).get("forward")
    if getattr(own, "__wrapped__", None) is not type(module).forward:
        return module
    plain = copy.copy(module)
    del plain.forward
    return plain


def measure_samples(
    trained: TrainedPolicy,
    prompts: Iterable[list[int]],
    context: StageContext,
    *,
    longest: int,
    are_held_out: bool,
) -> dict[str, Any]:
    """Return the KL to the reference on samples; write samples.jsonl.

    prompts: of the rows, held out or of training. longest: tokens of the data's longest response.
    Prompts that leave no room for a response lose their beginning, and are counted.
    """
    policy = trained.language_model()
    distinct = _first_distinct(prompts)
    max_new_tokens = min(longest, _MAX_NEW_TOKENS)
    kept, num_cut = _leave_room(
        distinct, policy.max_length, max_new_tokens, trained.tokenizer.bos_token_id
    )
    return {
        **_sample(trained, policy, kept, max_new_tokens, context),
        "kl_prompts": "held out" if are_held_out else "of training",
        **({"kl_prompts_cut": num_cut} if num_cut else {}),
    }


def log_ratios(
    trained: TrainedPolicy, sequences: Sequence[Pair], context: StageContext | None = None
) -> list[float]:
    """Return log p / q of each sequence's second token ids given its first ones, in nats.

    context: of a stage that may be asked to stop meanwhile.
    """
    from eval.asking.loglik import continuation_logprobs

    def logprobs(model: LanguageModel) -> list[float]:
        stop = None if context is None else context.should_stop
        return continuation_logprobs(model, sequences, batch_size=_BATCH_SIZE, should_stop=stop)

    ours = logprobs(trained.language_model())
    with trained.reference() as reference:
        theirs = logprobs(reference)
    return [a - b for a, b in zip(ours, theirs, strict=True)]


def initial_kl(trained: TrainedPolicy, sequences: Iterable[Pair]) -> dict[str, float]:
    """Return the mean of log p / q over a few responses before the first step, as a metric.

    0 where the reference is the policy as it came in; anything else shows that it is not.
    """
    return {"initial_kl": fmean(log_ratios(trained, list(islice(sequences, _FEW))))}


def _first_distinct(prompts: Iterable[list[int]]) -> list[list[int]]:
    """Return the first prompts, each once."""
    distinct: dict[tuple[int, ...], list[int]] = {}
    for prompt in prompts:
        distinct.setdefault(tuple(prompt), prompt)
        if len(distinct) == _PROMPTS:
            break
    return list(distinct.values())


def _leave_room(
    prompts: list[list[int]], positions: int | None, max_new_tokens: int, bos: Any
) -> tuple[list[list[int]], int]:
    """Return prompts that leave room for a response, and how many of them were cut for it."""
    if positions is None:
        return prompts, 0
    room = positions - max_new_tokens
    num_cut = sum(len(prompt) > room for prompt in prompts)
    if not num_cut:
        return prompts, 0
    return [cut(prompt, room, "left", has_bos=prompt[0] == bos) for prompt in prompts], num_cut


def _sample(
    trained: TrainedPolicy,
    policy: LanguageModel,
    prompts: list[list[int]],
    max_new_tokens: int,
    context: StageContext,
) -> dict[str, Any]:
    """Return the KL to the reference on responses to the prompts; write some to samples.jsonl."""
    from eval.asking.divergence import sampled_kl
    from eval.asking.sampler import generate

    def show(done: int) -> None:
        context.progress("samples", done, len(prompts))

    divergence, responses = sampled_kl(
        policy,
        trained.reference,
        prompts,
        max_new_tokens=max_new_tokens,
        seed=context.seed,
        batch_size=_BATCH_SIZE,
        on_progress=show,
        should_stop=context.should_stop,
    )
    with trained.reference() as reference:
        before = generate(
            reference,
            prompts[:_SHOWN],
            max_new_tokens=max_new_tokens,
            temperature=1.0,
            batch_size=_BATCH_SIZE,
            seed=context.seed,
        )
    decode = trained.tokenizer.decode
    lines = [
        {"prompt": decode(prompt), "before": old.text, "after": new.text}
        for prompt, old, new in zip(prompts, before, responses, strict=False)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (context.out / SAMPLES).write_text(text, encoding="utf-8")
    return divergence.metrics()
