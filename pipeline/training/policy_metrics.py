"""What dpo does to held-out pairs: accuracy of its ranking, divergence, and samples to read.

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

from eval.statistics.pairwise import mean_loss, report_pairs
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
    from pipeline.training.on_rows import EncodedRows

_PAIRS = 500
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
        module = model.get_base_model() if is_peft_model(model) else model
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


def measure_before_training(
    trained: TrainedPolicy, pairs: EncodedRows[EncodedPair], context: StageContext
) -> dict[str, Any]:
    """Return KL and loss before the first step, on the first process.

    The KL is the mean of log p / q over a few chosen responses: 0 where the reference is the policy
    as it came in; anything else shows that it is not.
    """
    if not context.is_main:
        return {}
    return {
        "initial_kl": _divergence_on_chosen(trained, pairs.trained[:_FEW]),
        **_loss_before(trained, pairs.held_out[:_PAIRS], context),
    }


def measure_after_training(
    trained: TrainedPolicy, pairs: EncodedRows[EncodedPair], context: StageContext
) -> dict[str, Any]:
    """Return accuracy on held-out pairs and KL on samples; write held_out.json, samples.jsonl.

    On the first process. Without held-out pairs the prompts of training ones are sampled from, and
    the metrics say so. Prompts that leave no room for a response lose their beginning, and are
    counted.
    """
    if not context.is_main:
        return {}
    policy = trained.language_model()
    prompts, num_cut, max_new_tokens = _prompts(
        pairs.held_out or pairs.trained, policy, trained.tokenizer.bos_token_id
    )
    divergence = _sample(trained, policy, prompts, max_new_tokens, context)
    ranking = _rank_pairs(trained, pairs.held_out[:_PAIRS], context) if pairs.held_out else {}
    return {
        **ranking,
        **divergence,
        "kl_prompts": "held out" if pairs.held_out else "of training",
        **({"kl_prompts_cut": num_cut} if num_cut else {}),
    }


def _prompts(
    pairs: Sequence[EncodedPair], policy: LanguageModel, bos: Any
) -> tuple[list[list[int]], int, int]:
    """Return the first prompts of the pairs, how many of them were cut, and tokens to sample."""
    prompts = list({tuple(pair.prompt_ids): pair.prompt_ids for pair in pairs}.values())[:_PROMPTS]
    longest = max(max(len(pair.chosen_ids), len(pair.rejected_ids)) for pair in pairs)
    max_new_tokens = min(longest, _MAX_NEW_TOKENS)
    if policy.max_length is None:
        return prompts, 0, max_new_tokens
    room = policy.max_length - max_new_tokens
    num_cut = sum(len(prompt) > room for prompt in prompts)
    if num_cut:
        prompts = [cut(prompt, room, "left", has_bos=prompt[0] == bos) for prompt in prompts]
    return prompts, num_cut, max_new_tokens


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


def _divergence_on_chosen(trained: TrainedPolicy, pairs: Sequence[EncodedPair]) -> float:
    """Return the mean of log p / q over the chosen responses."""
    from eval.asking.loglik import continuation_logprobs

    sequences = [(pair.prompt_ids, pair.chosen_ids) for pair in pairs]
    ours = continuation_logprobs(trained.language_model(), sequences, batch_size=_FEW)
    with trained.reference() as reference:
        theirs = continuation_logprobs(reference, sequences, batch_size=_FEW)
    return fmean(a - b for a, b in zip(ours, theirs, strict=True))


def _loss_before(
    trained: TrainedPolicy, held_out: Sequence[EncodedPair], context: StageContext
) -> dict[str, float]:
    """Return the loss on held-out pairs before the first step, as a metric.

    log 2 where the reference is the policy as it comes in. Empty where there are no pairs, or the
    loss is another than -log sigmoid of beta times the difference.
    """
    if not held_out or not is_sigmoid(trained.trainer.args):
        return {}
    if not trained.has_own_reference:
        return {"held_out_loss_before": math.log(2)}
    return {"held_out_loss_before": mean_loss(_score_pairs(trained, held_out, context))}


def _score_pairs(
    trained: TrainedPolicy, pairs: Sequence[EncodedPair], context: StageContext
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

    ours = logprobs(trained.language_model())
    with trained.reference() as reference:
        theirs = logprobs(reference)
    beta: float = trained.trainer.args.beta
    rewards = [beta * (a - b) for a, b in zip(ours, theirs, strict=True)]
    return attach_scores(pairs, rewards)


def _rank_pairs(
    trained: TrainedPolicy, pairs: Sequence[EncodedPair], context: StageContext
) -> dict[str, Any]:
    """Rank held-out pairs by the implicit reward; write held_out.json."""
    scored = _score_pairs(trained, pairs, context)
    ranking = report_pairs(scored)
    (context.out / HELD_OUT).write_text(json.dumps(ranking, indent=1), encoding="utf-8")
    return {
        "held_out_accuracy": ranking["accuracy"],
        "held_out_low": ranking["low"],
        "held_out_high": ranking["high"],
        "held_out_pairs": ranking["n"],
        "held_out_margin": ranking["scores"]["margin_mean"],
        **({"held_out_loss": mean_loss(scored)} if is_sigmoid(trained.trainer.args) else {}),
    }


def is_sigmoid(args: Any) -> bool:
    """Whether DPO's loss is the sigmoid one of Rafailov et al. 2023, with nothing added to it."""
    return list(args.loss_type) == ["sigmoid"] and not args.label_smoothing
