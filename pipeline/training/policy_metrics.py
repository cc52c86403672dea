"""What became of a policy that was trained on preferences: ranking, divergence, samples.

Measured on pairs and prompts that training never saw, where the data keeps some.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from accelerate.utils import is_peft_model

from eval.statistics.pairwise import mean_loss, report
from pipeline.data.encoding.lengths import cut
from pipeline.files.names import HELD_OUT, SAMPLES
from pipeline.models.language import wrap
from pipeline.models.load import load_policy, on_device

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.model import Form, LanguageModel
    from eval.statistics.pairwise import ScoredPair
    from pipeline.config.stage import StageContext, StageInput
    from pipeline.data.encoding.pairs import EncodedPair

_PAIRS = 500
_PROMPTS = 128
_SHOWN = 10
_FEW = 16
_MAX_NEW_TOKENS = 128
_BATCH_SIZE = 32


@dataclass(frozen=True)
class Aligned:
    """A trained policy and what it is compared with.

    form: how it is asked, which decides what ends a response. source: of the reference.
    has_own_reference: it is another model than training began with.
    """

    trainer: Any
    tokenizer: PreTrainedTokenizerBase
    form: Form
    source: StageInput
    has_own_reference: bool

    def policy(self) -> LanguageModel:
        """Return the trained policy."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        module = model.get_base_model() if is_peft_model(model) else model
        return wrap(module, self.tokenizer, name="policy", form=self.form)

    @contextmanager
    def reference(self) -> Generator[LanguageModel]:
        """Give the reference: the same module without its adapter, or a model of its own."""
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        if is_peft_model(model) and not self.has_own_reference:
            with model.disable_adapter():
                yield self.policy()
            return
        module = on_device(load_policy(self.source))
        yield wrap(module, self.tokenizer, name=self.source.name, form=self.form)


def initial_kl(aligned: Aligned, pairs: Sequence[EncodedPair]) -> float:
    """Return the mean of log p / q over a few chosen responses, before the first step.

    0 where the reference is the policy as it came in; anything else shows that it is not.
    """
    from eval.asking.loglik import continuation_logprobs

    sequences = [(pair.prompt_ids, pair.chosen_ids) for pair in pairs[:_FEW]]
    ours = continuation_logprobs(aligned.policy(), sequences, batch_size=_FEW)
    with aligned.reference() as reference:
        theirs = continuation_logprobs(reference, sequences, batch_size=_FEW)
    return fmean(a - b for a, b in zip(ours, theirs, strict=True))


def measured(
    aligned: Aligned,
    held_out: Sequence[EncodedPair],
    trained: Sequence[EncodedPair],
    context: StageContext,
) -> dict[str, Any]:
    """Return accuracy on held-out pairs and KL on samples; write held_out.json, samples.jsonl.

    Without held-out pairs the prompts of training ones are sampled from, and the metrics say so.
    Prompts that leave no room for a response lose their beginning, and are counted.
    """
    from eval.asking.divergence import sampled_kl
    from eval.asking.sampler import generate

    pairs = held_out or trained
    prompts = list({tuple(pair.prompt_ids): pair.prompt_ids for pair in pairs}.values())[:_PROMPTS]
    length = max(max(len(p.chosen_ids), len(p.rejected_ids)) for p in pairs)
    policy = aligned.policy()
    length = min(length, _MAX_NEW_TOKENS)
    room = None if policy.max_length is None else policy.max_length - length
    long = [] if room is None else [each for each in prompts if len(each) > room]
    if room is not None and long:
        bos = aligned.tokenizer.bos_token_id
        prompts = [cut(each, room, "left", has_bos=each[0] == bos) for each in prompts]

    def show(done: int) -> None:
        context.progress("samples", done, len(prompts))

    found: dict[str, Any] = {"kl_prompts": "held out" if held_out else "of training"}
    found |= {"kl_prompts_cut": len(long)} if long else {}
    if prompts:
        divergence, responses = sampled_kl(
            policy,
            aligned.reference,
            prompts,
            max_new_tokens=length,
            seed=context.seed,
            batch_size=_BATCH_SIZE,
            on_progress=show,
            should_stop=context.should_stop,
        )
        found = divergence.metrics() | found
        with aligned.reference() as reference:
            before = generate(
                reference,
                prompts[:_SHOWN],
                max_new_tokens=length,
                temperature=1.0,
                batch_size=_BATCH_SIZE,
                seed=context.seed,
            )
        decode = aligned.tokenizer.decode
        lines = [
            {"prompt": decode(prompt), "before": old.text, "after": new.text}
            for prompt, old, new in zip(prompts, before, responses, strict=False)
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (context.out / SAMPLES).write_text(text, encoding="utf-8")
    return _ranking(aligned, held_out[:_PAIRS], context) | found if held_out else found


def _scored(
    aligned: Aligned, pairs: Sequence[EncodedPair], context: StageContext
) -> list[ScoredPair]:
    """Score pairs by beta log p / q, the implicit reward."""
    from eval.asking.loglik import continuation_logprobs
    from pipeline.data.encoding.pairs import attach_scores

    sequences = [(pair.prompt_ids, pair.chosen_ids) for pair in pairs]
    sequences += [(pair.prompt_ids, pair.rejected_ids) for pair in pairs]

    def logprobs(model: LanguageModel) -> list[float]:
        return continuation_logprobs(
            model, sequences, batch_size=_BATCH_SIZE, should_stop=context.should_stop
        )

    ours = logprobs(aligned.policy())
    with aligned.reference() as reference:
        theirs = logprobs(reference)
    beta: float = aligned.trainer.args.beta
    rewards = [beta * (a - b) for a, b in zip(ours, theirs, strict=True)]
    return attach_scores(pairs, rewards)


def _ranking(
    aligned: Aligned, pairs: Sequence[EncodedPair], context: StageContext
) -> dict[str, Any]:
    """Rank held-out pairs by the implicit reward; write held_out.json."""
    scored = _scored(aligned, pairs, context)
    ranking = report(scored)
    (context.out / HELD_OUT).write_text(json.dumps(ranking, indent=1), encoding="utf-8")
    return {
        "held_out_accuracy": ranking["accuracy"],
        "held_out_low": ranking["low"],
        "held_out_high": ranking["high"],
        "held_out_pairs": ranking["n"],
        "held_out_margin": ranking["scores"]["margin_mean"],
        **({"held_out_loss": mean_loss(scored)} if is_sigmoid(aligned.trainer.args) else {}),
    }


def loss_before(
    aligned: Aligned, held_out: Sequence[EncodedPair], context: StageContext
) -> dict[str, float]:
    """Return the loss on held-out pairs before the first step, as a metric.

    log 2 where the reference is the policy as it comes in. Empty where there are no pairs, or the
    loss is another than -log sigmoid of beta times the difference.
    """
    if not held_out or not is_sigmoid(aligned.trainer.args):
        return {}
    if not aligned.has_own_reference:
        return {"held_out_loss_before": math.log(2)}
    return {"held_out_loss_before": mean_loss(_scored(aligned, held_out[:_PAIRS], context))}


def is_sigmoid(args: Any) -> bool:
    """Whether DPO's loss is the sigmoid one of Rafailov et al. 2023, with nothing added to it."""
    return list(args.loss_type) == ["sigmoid"] and not args.label_smoothing
