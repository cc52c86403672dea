"""Conversations to token ids through a chat template, with the mask of what the assistant writes.

Control tokens are read in the template's own text only (template.py tells it apart), so nobody's
text can become one. Text between two control tokens is encoded in one go, as the tokenizer would do
it, with one seam: where an assistant begins to write, because a model begins there too. Where the
contents hold no control tokens the ids are those of `apply_chat_template`, but for that seam.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pipeline.data.template import ChatTemplate, Roles
from pipeline.data.tokens import Stretch, TextEncoder, Tokens
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedTokenizerBase

    from eval.model import Turn
    from pipeline.data.formats import ChatRow

# Control tokens and stretches of text, each with whether it is trained.
_Sequence = list[tuple[Stretch | int, bool]]


@dataclass(frozen=True)
class _Part:
    """Template text, a control token, or (content) the place of a message's content."""

    trained: bool
    text: str = ""
    token: int | None = None
    content: int | None = None


@dataclass(frozen=True)
class _Frame:
    """A conversation without its contents; forgeable: added tokens in it that are not special."""

    parts: tuple[_Part, ...]
    forgeable: re.Pattern[str] | None


class ChatEncoder:
    """Encodes conversations with one tokenizer's chat template.

    Of each assistant turn these are trained: what the template writes between generation prompt and
    content (the space of Llama 2, the empty `<think>` block of Qwen 3), the content, and what
    follows up to and including the first added token. Where a template writes none after the final
    turn, EOS is put there and trained; earlier turns then have no end to learn.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.text = TextEncoder(tokenizer)
        self._template = ChatTemplate(tokenizer)
        added = sorted(self.text.added_ids, key=len, reverse=True)
        self._added = re.compile("|".join(map(re.escape, added)) or "(?!)")
        self._frames: dict[tuple[Roles, bool], _Frame] = {}

    def encode(self, chats: Sequence[ChatRow]) -> list[Tokens]:
        """Encode conversations for training; many at once is much faster."""
        return self._encoded([self._sequence(each.messages, each.where) for each in chats])

    def prompt_ids(self, turns: Sequence[Turn]) -> list[int]:
        """The ids of a conversation up to where the assistant begins to write, as in training."""
        return self.prompts([(turns, "the conversation")])[0]

    def prompts(self, conversations: Sequence[tuple[Sequence[Turn], str]]) -> list[list[int]]:
        """`prompt_ids` of several conversations, each with the row it stands in; much faster."""
        found = self._encoded([self._sequence(*each, prompt=True) for each in conversations])
        return [each.ids for each in found]

    def end_ids(self) -> frozenset[int]:
        """The ids that end an assistant's turn: the template's end-of-turn token, and EOS."""
        match = self._added.search(self._final(("user", "assistant"), "the chat template"))
        if match is None:
            return frozenset((self.text.eos_token_id,))
        eos = self.text.tokenizer.eos_token_id
        return frozenset(
            each for each in (self.text.added_ids[match[0]], eos) if isinstance(each, int)
        )

    def _encoded(self, sequences: Sequence[_Sequence]) -> list[Tokens]:
        stretches = [
            each for sequence in sequences for each, _ in sequence if isinstance(each, Stretch)
        ]
        encoded = iter(self.text.encode(stretches))
        found: list[Tokens] = []
        for sequence in sequences:
            ids: list[int] = []
            trained: list[bool] = []
            for each, is_trained in sequence:
                new = next(encoded) if isinstance(each, Stretch) else [each]
                ids += new
                trained += [is_trained] * len(new)
            found.append(Tokens(ids, trained))
        return found

    def _sequence(self, turns: Sequence[Turn], where: str, *, prompt: bool = False) -> _Sequence:
        roles = tuple(role for role, _ in turns)
        frame = self._frame(roles, where, prompt=prompt)
        contents = self._template.contents(turns, where, prompt=prompt)
        sequence: _Sequence = []
        text, is_trained = "", False
        follows: Literal["nothing", "control", "text"] = "nothing"
        for part in frame.parts:
            bits = [part.text]
            if part.content is not None:
                bits = _broken(contents[part.content], frame.forgeable)
            for number, bit in enumerate(bits):
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

    def _frame(self, roles: Roles, where: str, *, prompt: bool) -> _Frame:
        if (roles, prompt) not in self._frames:
            self._frames[roles, prompt] = self._made_frame(roles, where, prompt=prompt)
        return self._frames[roles, prompt]

    def _made_frame(self, roles: Roles, where: str, *, prompt: bool) -> _Frame:
        rendering = self._template.rendering(roles, where, prompt=prompt)
        if prompt and rendering == self._template.rendering(roles, where):
            # The template knows no generation prompt: what it writes before an assistant is one.
            whole = self._frame((*roles, "assistant"), where, prompt=False)
            answer = [part.content for part in whole.parts].index(len(roles))
            parts = list(whole.parts[:answer])
            while parts and parts[-1].trained:
                parts.pop()
            return _Frame(tuple(parts), whole.forgeable)
        parts, not_opening = list[_Part](), list[str]()
        for number, piece in enumerate(rendering.pieces):
            closing = (
                self._closing(roles, rendering.order[number - 1], piece, where) if number else 0
            )
            is_last = number == len(rendering.order)
            opening = 0 if is_last else self._opening(roles, rendering.order[number], piece)
            opening_at = max(closing, len(piece) - opening)
            parts += self._template_parts(piece, closing, opening_at)
            not_opening.append(piece[:opening_at])
            if not is_last:
                message = rendering.order[number]
                parts.append(_Part(roles[message] == "assistant", content=message))
        if (
            not prompt
            and roles[-1] == "assistant"
            and not self._added.search(self._final(roles, where))
        ):
            parts.append(_Part(trained=True, token=self.text.eos_token_id))
        used = [name for name in self.text.vocabulary if any(name in each for each in not_opening)]
        forgeable = re.compile("|".join(map(re.escape, used))) if used else None
        return _Frame(tuple(parts), forgeable)

    def _template_parts(self, piece: str, closing: int, opening_at: int) -> Iterator[_Part]:
        """Template text and control tokens; trained before `closing` and from `opening_at` on."""
        for at, found in self.text.split(piece):
            if isinstance(found, int):
                yield _Part(at < closing or at >= opening_at, token=found)
                continue
            end = at + len(found)
            cuts = sorted({at, end, *(cut for cut in (closing, opening_at) if at < cut < end)})
            for begin, stop in pairwise(cuts):
                yield _Part(begin < closing or begin >= opening_at, piece[begin:stop])

    def _opening(self, roles: Roles, message: int, before: str) -> int:
        """How many characters at the end of `before` the assistant must write itself."""
        if roles[message] != "assistant" or message == 0:
            return 0
        try:
            prompted = self._template.rendering(roles[:message], "", prompt=True).pieces[-1]
            closed = self._template.rendering(roles[:message], "").pieces[-1]
        except PosttrainError:  # it takes no conversation that ends here, so nobody is asked here
            return 0
        if not before.startswith(prompted):
            return 0
        opening = before[len(prompted) :]
        # Where a template has no generation prompt, all but white space is the assistant's header.
        is_header = prompted == closed and opening.strip() != ""
        return 0 if is_header else len(opening)

    def _closing(self, roles: Roles, message: int, after: str, where: str) -> int:
        """How many characters at the start of `after` belong to the assistant's turn."""
        if roles[message] != "assistant":
            return 0
        end = self._added.search(self._final(roles[: message + 1], where))
        if end is None:
            return len(after) if message == len(roles) - 1 else 0
        found = self._added.search(after)
        if found is None:
            return 0
        is_next_header = found[0] != end[0] and found[0] in self._user_header()
        return 0 if is_next_header else found.end()

    def _user_header(self) -> str:
        try:
            return self._template.rendering(("user",), "").pieces[0]
        except PosttrainError:  # it takes no conversation of one user turn
            return ""

    def _final(self, roles: Roles, where: str) -> str:
        """What the template writes after the last content."""
        return self._template.rendering(roles, where).pieces[-1]


def _broken(content: str, forgeable: re.Pattern[str] | None) -> list[str]:
    """The content, cut inside each marker of the template, so that it cannot be read as one."""
    if forgeable is None:
        return [content]
    cuts = [match.start() + 1 for match in forgeable.finditer(content)]
    return [content[begin:end] for begin, end in pairwise([0, *cuts, len(content)])]
