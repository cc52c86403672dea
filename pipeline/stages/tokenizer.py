"""Stage `tokenizer`: trains a byte-level BPE tokenizer on the recipe's text.

Every byte is a token, so any text can be encoded; digits are split one by one, which makes
arithmetic learnable; the special tokens and the chat template are those of this project's chat
models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from pipeline.config.blocks import DataBlocks
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import StageConfig
from pipeline.errors import PosttrainError
from pipeline.model_files.own_template import (
    ASSISTANT,
    CHAT_TEMPLATE,
    END_OF_TEXT,
    END_OF_TURN,
    PAD,
    SPECIAL_TOKENS,
    SYSTEM,
    USER,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_BYTES = 256
_DOCUMENTS_A_SOURCE = 20_000


class TokenizerConfig(StageConfig):
    """data: what to train on: documents, or the words of chats and pairs.

    vocab_size: tokens in all, special ones and bytes included.
    min_frequency: how often two tokens must stand beside each other to become one.
    """

    stage: Literal["tokenizer"]
    data: DataBlocks
    vocab_size: Annotated[int, Field(lt=2**31)] = 4096  # ids are kept in 32 bits
    min_frequency: PositiveInt = 2

    @model_validator(mode="after")
    def _room_for_bytes(self) -> TokenizerConfig:
        smallest = _BYTES + len(SPECIAL_TOKENS)
        if self.vocab_size < smallest:
            raise ValueError(
                f"`vocab_size` {self.vocab_size} is below {smallest}: 256 bytes and "
                f"{len(SPECIAL_TOKENS)} special tokens; raise it"
            )
        return self


def run(config: TokenizerConfig, context: StageContext) -> StageResult:
    """Train the tokenizer and save it in the form that AutoTokenizer loads."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    counted = _CountingTexts(_texts(config, context), context)
    tokenizer.train_from_iterator(counted, trainer)
    if counted.num_bytes == 0:
        raise PosttrainError(context.name, "its data holds no text", "name data with documents")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT, END_OF_TURN],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(context.out)
    return StageResult(
        metrics={"vocab_size": len(fast), "trained_on_bytes": counted.num_bytes},
    )


def _texts(config: TokenizerConfig, context: StageContext) -> Iterator[str]:
    from pipeline.data.reading.data_blocks import read_texts

    for block in config.data:
        yield from read_texts(block, context.places, at_most=_DOCUMENTS_A_SOURCE)


class _CountingTexts:
    """An iterator that counts bytes, shows progress and stops on request."""

    def __init__(self, texts: Iterator[str], context: StageContext) -> None:
        self._texts = texts
        self._context = context
        self.num_bytes = 0

    def __iter__(self) -> Iterator[str]:
        for number, text in enumerate(self._texts):
            self.num_bytes += len(text.encode())
            if number % 1000 == 0:
                self._context.progress("document", number, max(number, _DOCUMENTS_A_SOURCE))
                self._context.stop_if_asked()
            yield text


STAGE = Stage(
    config=TokenizerConfig,
    run=run,
    produces="tokenizer",
    version=2,
    data_forms=("text",),
    reads_words=True,
    is_seeded=False,
    uses_device=False,
)
