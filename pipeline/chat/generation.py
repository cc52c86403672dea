"""A reply that is written token by token: the loop, the draw, and ids to whole characters.

Not eval/asking/sampler.py, which writes many responses at once and shows none before it is whole;
what ends a reply and how it reads is the same. Nothing here knows of conversations.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from eval.tools.turns import answer_calls
from pipeline.errors import CorruptArtifactError, InfrastructureError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from eval.model import LanguageModel
    from pipeline.chat.settings import Settings

Ending = Literal["eos", "length", "full"]

_INCOMPLETE = "\ufffd"  # what a decoder gives for a part of a UTF-8 character


class ToolText(str):
    """What tools answered, among the pieces of a reply."""

    __slots__ = ()


@dataclass
class Segment:
    """A part of a reply: what the model wrote in a turn, or what tools answered to it."""

    text: str
    is_tool: bool = False


class Answer:
    """A reply to `prompt`; iterating it writes it, a token a step, and gives what each adds.

    Of a model with tools, pieces that are ToolText are what they answered to its calls; it goes on.

    left_out: how many of the oldest exchanges (of a document: tokens) the model does not see.
    text: what the model wrote so far; segments: the same in parts, tools' answers between them.
    num_tokens: how many ids that took, end tokens included. seconds: spent in the model. ended: by
    an end token, by `max_new_tokens`, or because the model's positions are full; None while it is
    being written, and when its reader stopped early.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt: str,
        prompt_ids: Sequence[int],
        settings: Settings,
        *,
        room: int,
        seed: tuple[int, ...],
        left_out: int = 0,
    ) -> None:
        self.prompt = prompt
        self.left_out = left_out
        self.segments = [Segment("")]
        self.num_tokens = 0
        self.seconds = 0.0
        self.ended: Ending | None = None
        self._model = model
        self._prompt_ids = list(prompt_ids)
        self._settings = settings
        self._room = room
        self._seed = seed

    @property
    def text(self) -> str:
        """What the model wrote."""
        return "".join(segment.text for segment in self.segments if not segment.is_tool)

    @property
    def reply(self) -> str:
        """What the model wrote in its last turn: all of it, but for calls of tools before."""
        return self.segments[-1].text

    @torch.inference_mode()
    def __iter__(self) -> Iterator[str]:
        decoder = TokenDecoder(self._model.tokenizer, self._prompt_ids)
        uniform = np.random.default_rng(self._seed)
        ids, cache = self._prompt_ids, None
        written: list[int] = []  # behind the prompt
        begin = 0  # of the turn
        while self.ended is None:
            began_s = time.perf_counter()
            logits, cache = self._next(ids, cache)
            token = pick(logits, self._settings, uniform.random())
            self.num_tokens += 1
            written.append(token)
            new = ""
            if token in self._model.eos_token_ids:
                self.ended = "eos"
            else:
                new = decoder.add(token)
                if len(written) == self._room:
                    self.ended = self._cut
            if self.ended is not None:
                new += decoder.rest()
            self.segments[-1].text += new
            self.seconds += time.perf_counter() - began_s
            yield new
            ids = [*ids, token] if cache is None else [token]
            told = self._ask_tools(written, begin) if self.ended == "eos" else []
            if told:
                yield ToolText(self.segments[-2].text)
                written += told
                begin, ids = len(written), [*ids, *told]
                decoder = TokenDecoder(self._model.tokenizer, [*self._prompt_ids, *written])
                self.ended = None

    @property
    def _cut(self) -> Ending:
        return "length" if self._room == self._settings.max_new_tokens else "full"

    def _ask_tools(self, written: Sequence[int], begin: int) -> list[int]:
        """Have the calls of a turn answered; return the ids between it and the next, if any."""
        tools = self._model.tools
        num_turns = sum(not segment.is_tool for segment in self.segments)
        if tools is None or num_turns >= tools.max_turns:
            return []
        calls = tools.format.read_calls(written[begin:])
        if not calls:
            return []
        (records,) = answer_calls(tools.toolbox, [calls])
        answers = [(record.name, record.answer) for record in records]
        told = tools.format.answer_ids(answers, last_id=written[-1])
        if len(written) + len(told) >= self._room:
            self.ended = self._cut
            return []
        text = "\n".join(f"→ {name or 'no tool'}: {answer}" for name, answer in answers)
        self.segments += [Segment(text, is_tool=True), Segment("")]
        return told

    def _next(self, ids: list[int], cache: object) -> tuple[Tensor, object]:
        """Return the logits (V,) after the last of `ids`, and the key-value cache with all of them.

        None for a model that keeps no cache: it reads all of them for each token. Raises
        PosttrainError for a model that gives no probabilities or is too big.
        """
        module, name = self._model.module, self._model.name
        try:
            output = module(
                input_ids=torch.tensor([ids], device=module.device),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        except torch.OutOfMemoryError as error:
            hint = "a shorter conversation takes less"
            raise InfrastructureError(name, "memory ran out", hint) from error
        # float64 for small temperatures, which not every accelerator has
        logits = output.logits[0, -1].float().cpu().double()
        if logits.isnan().any():
            raise CorruptArtifactError(name, "gives NaN instead of probabilities")
        return logits, output.get("past_key_values")


def pick(logits: Tensor, settings: Settings, uniform: float) -> int:
    """Return the token id for logits (V,) and a number drawn uniformly from [0, 1).

    With top_p only the fewest likeliest tokens whose probabilities make up top_p can be drawn.
    """
    if settings.temperature == 0:
        return int(logits.argmax())
    probabilities = torch.softmax((logits - logits.max()) / settings.temperature, -1)
    tokens = torch.arange(len(probabilities))
    if settings.top_p < 1:
        probabilities, tokens = probabilities.sort(descending=True, stable=True)
        is_kept = probabilities.cumsum(-1) - probabilities < settings.top_p
        probabilities, tokens = probabilities[is_kept], tokens[is_kept]
    cumulative = probabilities.cumsum(-1)
    place = torch.searchsorted(cumulative, uniform * cumulative[-1], right=True)
    # Rounding may bring the product up to the total: then the last token with any probability.
    last = torch.searchsorted(cumulative, cumulative[-1])
    return int(tokens[min(place, last)])


class TokenDecoder:
    """Token ids to text as they come, no character before it is whole.

    A window is decoded, not a token: a leading space and the bytes of one character depend on the
    neighbours. All pieces together are what eval.asking.sampler.response_text gives.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        self._ids = list(prompt_ids)
        self._begin = 0  # of the window
        self._whole = len(self._ids)  # ids up to the last place where a whole character ended
        self._given = self._decoded(0).rstrip(_INCOMPLETE)  # of the window's text

    def add(self, token_id: int) -> str:
        """Return the text that is certain with this token."""
        self._ids.append(token_id)
        text = self._decoded(self._begin)
        certain = text.rstrip(_INCOMPLETE)
        new = certain[len(self._given) :]
        self._given += new
        # Where the text is empty so far, the next token would be the first and lose its space.
        if certain == text and (tail := self._decoded(self._whole)):
            self._begin, self._whole, self._given = self._whole, len(self._ids), tail
        return new

    def rest(self) -> str:
        """Return what is held back: the bytes of a character that was never completed."""
        return self._decoded(self._begin)[len(self._given) :]

    def _decoded(self, begin: int) -> str:
        text = self._tokenizer.decode(
            self._ids[begin:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert isinstance(text, str)
        return text
