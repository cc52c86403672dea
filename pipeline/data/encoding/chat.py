"""Conversations to token ids through a chat template, with a mask of what the assistant writes.

Control tokens are recognised in the template's own text only (frames.py tells it apart), so that
no user's text can become one. Text between two control tokens is encoded in one go, as the
tokenizer would do it, except for one seam: where the assistant begins to write, because there a
model begins too. Where contents spell no control tokens, the ids are those of
`apply_chat_template`, except at that seam.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pipeline.data.encoding.frames import MOST_KEPT, Frames
from pipeline.data.encoding.template import TakesTooMuchError
from pipeline.data.encoding.tokens import Stretch, TextEncoder, Tokens
from pipeline.data.reading.records import NO_SETTINGS, Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.model import Turn
    from pipeline.data.encoding.frames import Filled, Frame
    from pipeline.data.reading.formats import ChatRow
    from pipeline.data.reading.records import ChatSettings

# Control tokens (int) and stretches of text, and whether each is trained.
_Sequence = list[tuple[Stretch | int, bool]]


@dataclass(frozen=True)
class _Part:
    """Template text, a control token, or (leaf) a place for what somebody wrote."""

    trained: bool
    text: str = ""
    token: int | None = None
    leaf: int | None = None


class ChatEncoder:
    """Encodes conversations with one tokenizer's chat template.

    Of an assistant turn, everything behind the generation prompt is trained: what the template
    writes before the content (Llama 2's space, Qwen 3's `<think>` block), reasoning, content, calls
    of tools, up to and including the token that ends the turn. Where a template writes no such
    token after the last turn, EOS is appended and trained; earlier turns then have no end to learn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.text = TextEncoder(tokenizer)
        self._frames = Frames(tokenizer, self.text.added_ids, self.text.control_ids)
        self._structure: str | None = None
        self._kept: dict[tuple[str, tuple[tuple[int, int], ...], bool], list[_Part]] = {}

    def encode(self, chats: Sequence[ChatRow]) -> list[list[Tokens]]:
        """Encode conversations for training, as one example or more per conversation (frames.py).

        Much faster for many at once.
        """
        try:
            with self._frames.limited():
                examples = self._examples(chats)
        except TakesTooMuchError:
            examples = self._examples(chats)
        encoded = iter(self._encode_sequences([one for sequences in examples for one in sequences]))
        return [[next(encoded) for _ in sequences] for sequences in examples]

    def _examples(self, chats: Sequence[ChatRow]) -> list[list[_Sequence]]:
        return [
            [
                self._sequence(filled, chat.where)
                for filled in self._frames.examples(chat.messages, chat.settings, chat.where)
            ]
            for chat in chats
        ]

    def answers(self, chats: Sequence[ChatRow]) -> list[Tokens]:
        """Encode conversations of which only the last turn is trained."""
        rows = [
            replace(
                chat,
                messages=(
                    *(replace(turn, is_trained=False) for turn in chat.messages[:-1]),
                    replace(chat.messages[-1], is_trained=True),
                ),
            )
            for chat in chats
        ]
        return [tokens for examples in self.encode(rows) for tokens in examples]

    def prompt_ids(self, turns: Sequence[Message | Turn]) -> list[int]:
        """Return the ids of a conversation up to where the assistant begins, as in training."""
        return self.prompts([(turns, "the conversation", NO_SETTINGS)])[0]

    def prompts(
        self, conversations: Sequence[tuple[Sequence[Message | Turn], str, ChatSettings]]
    ) -> list[list[int]]:
        """Return `prompt_ids` of (turns, row for errors, settings); much faster than one by one."""
        sequences: list[_Sequence] = []
        for turns, where, settings in conversations:
            messages = [turn if isinstance(turn, Message) else Message(*turn) for turn in turns]
            sequences.append(self._sequence(self._frames.prompt(messages, settings, where), where))
        return [turn.ids for turn in self._encode_sequences(sequences)]

    def end_ids(self) -> frozenset[int]:
        """Return the ids that end an assistant's turn: end-of-turn tokens of the template, EOS."""
        ids = {self.text.added_ids[name] for name in self._frames.endings()}
        if not ids:
            return frozenset((self.text.eos_token_id,))
        eos = self.text.tokenizer.eos_token_id
        return frozenset({*ids, eos} if isinstance(eos, int) else ids)

    def _encode_sequences(self, sequences: Sequence[_Sequence]) -> list[Tokens]:
        # All stretches of all conversations go to the tokenizer in one call.
        stretches = [
            piece for sequence in sequences for piece, _ in sequence if isinstance(piece, Stretch)
        ]
        encoded = iter(self.text.encode(stretches))
        examples: list[Tokens] = []
        for sequence in sequences:
            ids: list[int] = []
            trained: list[bool] = []
            for piece, is_trained in sequence:
                new = next(encoded) if isinstance(piece, Stretch) else [piece]
                ids += new
                trained += [is_trained] * len(new)
            examples.append(Tokens(ids, trained))
        return examples

    def _sequence(
        self,
        filled: Filled,
        where: str,
        *,
        follows: Literal["nothing", "control", "text"] = "nothing",
        forgeable: re.Pattern[str] | None = None,
    ) -> _Sequence:
        """Return a conversation in parts to encode, with what people wrote in its places.

        Adjacent text of one kind (trained or not) is joined, so that the tokenizer merges across
        the parts; a cut is left at control tokens, at the seam, and inside forged markers.
        follows: what stands before it. forgeable: markers that no user's text may spell; by
        default those that the conversation's frame has.
        """
        roles = [message["role"] for message in filled.marked.with_marks]
        # An assistant may write what a template writes inside its turn (`<think>`); a user may not.
        theirs = forgeable or self._forgeable(filled.frame.text)
        ours = self._forgeable(self._structural())
        sequence: _Sequence = []
        text, is_trained = "", False
        for part in self._parts_of(filled.frame):
            bits = [part.text]
            if part.leaf is not None:
                is_answer = roles[filled.marked.leaves[part.leaf].message] == "assistant"
                bits = _break_markers(filled.texts[part.leaf], ours if is_answer else theirs)
            for number, bit in enumerate(bits):
                # number > 0: behind a cut inside a marker
                if text and (number > 0 or part.trained != is_trained or part.token is not None):
                    sequence.append((Stretch(text, follows, where), is_trained))
                    text, follows = "", "text"
                text, is_trained = text + bit, part.trained
            if part.token is not None:
                sequence.append((part.token, part.trained))
                follows = "control"
        if text:
            sequence.append((Stretch(text, follows, where), is_trained))
        return sequence

    def _parts_of(self, frame: Frame) -> list[_Part]:
        key = frame.text, tuple(frame.spans), frame.ends
        if key not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = list(self._parts(frame))
        return self._kept[key]

    def _parts(self, frame: Frame) -> Iterator[_Part]:
        """Yield template text and control tokens, and the places of leaves, in order."""
        at = 0
        for leaf, (begin, end) in self._frames.marks.places(frame.text).items():
            yield from self._template_parts(frame, at, begin)
            yield _Part(frame.trains(begin), leaf=leaf)
            at = end
        yield from self._template_parts(frame, at, len(frame.text))
        if frame.spans and not frame.ends:
            yield _Part(trained=True, token=self.text.eos_token_id)

    def _template_parts(self, frame: Frame, begin: int, end: int) -> Iterator[_Part]:
        edges = sorted({edge for span in frame.spans for edge in span})
        for offset, piece in self.text.split(frame.text[begin:end]):
            at = begin + offset
            if isinstance(piece, int):
                yield _Part(frame.trains(at), token=piece)
                continue
            # A span may begin or end inside template text: cut there.
            cuts = [edge for edge in edges if at < edge < at + len(piece)]
            for first, last in pairwise([at, *cuts, at + len(piece)]):
                yield _Part(frame.trains(first), frame.text[first:last])

    def _structural(self) -> str:
        """Return what the template writes around a question and its answer, without its opening.

        An added token in it that is not special separates turns. `<think>` is not in it: that
        belongs to the opening.
        """
        if self._structure is None:
            plain = self._frames.plain()
            self._structure = ""
            if plain is not None:
                begin = plain.spans[0][0]
                answer = max(self._frames.marks.places(plain.text).values(), default=(begin, begin))
                self._structure = plain.text[:begin] + plain.text[answer[0] :]
        return self._structure

    def _forgeable(self, written: str) -> re.Pattern[str] | None:
        """Return a pattern of the added tokens in a template's text that are not special.

        A tokenizer finds those in any text (`<tool_call>`, in some models `<|user|>`).
        """
        used = [name for name in self.text.vocabulary if name in written]
        return re.compile("|".join(map(re.escape, used))) if used else None


def _break_markers(content: str, forgeable: re.Pattern[str] | None) -> list[str]:
    """Cut a content behind the first character of every marker, so that it encodes as other ids."""
    if forgeable is None:
        return [content]
    cuts = [match.start() + 1 for match in forgeable.finditer(content)]
    return [content[begin:end] for begin, end in pairwise([0, *cuts, len(content)])]
