"""How completions are sampled, by the config and the tokens that model and tokenizer end with."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.asking.sampler import StopStrings
from pipeline.config.rollout_engine import rollout_block
from pipeline.data.encoding.chat import ChatEncoder
from pipeline.models.language import eos_token_ids
from pipeline.models.vocabulary import check_vocabulary
from pipeline.rl.sampler import LoopSampler, Sampling

if TYPE_CHECKING:
    from collections.abc import Generator

    from transformers import PreTrainedTokenizerBase

    from eval.tools.turns import ToolUse
    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.sampler import Sampler


def sampling_of(causal: Any, tokenizer: PreTrainedTokenizerBase, args: RolloutConfig) -> Sampling:
    """Return how completions are sampled.

    Padding that ends no response is never sampled: everything else takes it for filling. Raises
    PosttrainError for a tokenizer with tokens that the policy's embedding lacks.
    """
    rows: int = causal.get_input_embeddings().weight.shape[0]
    check_vocabulary(tokenizer, rows, "the policy")
    stops = _stop_ids(causal, tokenizer) | _further_stops(rows, args)
    pad = tokenizer.pad_token_id
    is_known = isinstance(pad, int) and pad < rows  # without a row it is never sampled anyway
    return Sampling(
        max_new_tokens=args.max_completion_length,
        temperature=args.temperature,
        eos_token_ids=stops,
        pad_token_id=pad if is_known else 0,  # pyright: ignore[reportArgumentType]
        forbidden_ids=(pad,) if is_known and pad not in stops else (),  # pyright: ignore
        batch_size=args.rollout_batch_size,
        stop=_stop_strings(tokenizer, args),
    )


def make_sampler(
    how: Sampling, args: RolloutConfig, tokenizer: Any, tools: ToolUse | None = None
) -> Sampler:
    """Return what samples completions; tools: what the policy may call meanwhile."""
    if tools is not None and args.rollout_engine == "vllm":
        raise ValueError("tools are not called with vLLM; write `rollout_engine` own")
    sampler = _make_engine(how, args, tokenizer)
    if tools is None:
        return sampler
    from pipeline.rl.conversation import ConversationSampler

    return ConversationSampler(sampler, tools, how.max_new_tokens)


def _make_engine(how: Sampling, args: RolloutConfig, tokenizer: Any) -> Sampler:
    if args.rollout_engine == "own":
        return LoopSampler(how)
    if args.rollout_engine == "generate":
        from pipeline.rl.engines import GenerateSampler

        return GenerateSampler(how)
    from pipeline.rl.vllm_sampler import VLLMSampler

    return VLLMSampler(
        how,
        rollout_block(args.vllm_options),
        folder=Path(str(args.output_dir)) / "vllm",
        dtype="bfloat16" if args.bf16 else "float32",
        tokenizer=tokenizer,
    )


@contextmanager
def engine_ended_after(sampler: Sampler) -> Generator[None]:
    """End what a sampler started, and free what it holds elsewhere, when the block is over."""
    try:
        yield
    finally:
        if not isinstance(sampler, LoopSampler):
            from pipeline.rl.vllm_sampler import VLLMSampler

            if isinstance(sampler, VLLMSampler):
                sampler.close()


def _stop_ids(causal: Any, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return every id that ends a response; ValueError if there is none."""
    encoder = ChatEncoder(tokenizer) if tokenizer.chat_template else None
    stops = eos_token_ids(causal, tokenizer, encoder)
    if not stops:
        raise ValueError("neither tokenizer nor generation config names a token that ends a text")
    return stops


def _further_stops(rows: int, args: RolloutConfig) -> frozenset[int]:
    """Return the ids that the config lets end a response; ValueError for one that is none."""
    for token in args.stop_token_ids or ():
        if not 0 <= token < rows:
            raise ValueError(f"`stop_token_ids` has {token}, and the model writes {rows} tokens")
    return frozenset(args.stop_token_ids or ())


def _stop_strings(tokenizer: PreTrainedTokenizerBase, args: RolloutConfig) -> StopStrings | None:
    """Return the texts that end a response; ValueError for a control token, which is not text."""
    for text in args.stop_strings or ():
        if text in tokenizer.all_special_tokens:
            number = tokenizer.convert_tokens_to_ids(text)
            raise ValueError(
                f"`stop_strings` has the control token `{text}`; write `stop_token_ids: [{number}]`"
            )
    return StopStrings(tokenizer, args.stop_strings) if args.stop_strings else None
