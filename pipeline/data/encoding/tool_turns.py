"""The tokens between a turn that calls tools and the model's next turn, by the chat template.

They are what the template writes behind such a turn: the tools' answers and the next generation
prompt. The model's own tokens are never written anew, so it does not matter that a template would
write them otherwise once more turns follow (Qwen 3 drops empty thoughts). What a tool answers is
text, whatever it spells. Reading calls is pipeline/tools/formats.py's subject.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from pipeline.data.encoding.chat import ChatEncoder
from pipeline.data.encoding.frames import Filled, Frame, Frames
from pipeline.data.reading.records import NO_SETTINGS, ChatSettings, Message, ToolCall
from pipeline.errors import PosttrainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from pipeline.data.encoding.content_marks import Marked

_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_WHERE = "tools"


class ToolTurns(ChatEncoder):
    """Encodes what stands between the turns of a conversation with tools.

    settings: what prompts are encoded with, the tools' descriptions among it. Raises PosttrainError
    for a template that does not write calls or answers, or rewrites a call once it is answered.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, settings: ChatSettings = NO_SETTINGS
    ) -> None:
        super().__init__(tokenizer)
        self._tool_frames = _ToolFrames(tokenizer, self.text.added_ids, self.text.control_ids)
        self._settings = settings
        self._end = self._tool_frames.end_of_calls(settings)
        self.opening = self._tool_frames.opening(settings)
        self._ends = self.end_ids()
        self.answers_to_tools([("f", "x"), ("f", "y")], last_id=-1)

    def answers_to_tools(self, answers: Sequence[tuple[str, str]], *, last_id: int) -> list[int]:
        """Return the ids from behind a turn to where the model begins to write again.

        answers: (name of the tool, text) for each call of the turn, in order. last_id: the turn's
        last token. A turn that ended otherwise than the template ends it (with a stop string) is
        given its end token; one whose end begins the answers (GLM's `<|observation|>`) has it once.
        """
        filled = self._tool_frames.behind_calls(answers, self._settings)
        forgeable = self._forgeable_in_answers()
        sequence = self._sequence(filled, _WHERE, follows="control", forgeable=forgeable)
        ids = self._encode_sequences([sequence])[0].ids
        if self._end is not None and last_id not in self._ends:
            return [self.text.added_ids[self._end], *ids]
        return ids[1:] if ids[:1] == [last_id] else ids

    def _forgeable_in_answers(self) -> re.Pattern[str] | None:
        """Return a pattern of all added tokens that a tokenizer would find in any text."""
        names = sorted(self.text.vocabulary, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names))) if names else None


class _ToolFrames(Frames):
    """What a template writes behind calls."""

    def opening(self, settings: ChatSettings) -> str:
        """Return what the generation prompt writes of the assistant's turn."""
        question = self._mark([Message("user", "x")], settings, _WHERE).with_marks
        prompted = self._render(question, settings, _WHERE, prompt=True)
        closed = self._render(question, settings, _WHERE)
        return prompted[len(closed) :] if prompted.startswith(closed) else prompted

    def end_of_calls(self, settings: ChatSettings) -> str | None:
        """Return the token that ends a turn with calls; None where the template writes none."""
        frame, _, _ = self._calling("f", settings)
        found = [*self._added.finditer(frame.text)]
        return found[-1][0] if frame.ends and found else None

    def behind_calls(self, answers: Sequence[tuple[str, str]], settings: ChatSettings) -> Filled:
        """Return the part of a conversation behind a turn that calls tools."""
        names = [name if _NAME.fullmatch(name) else "unknown" for name, _ in answers]
        frame, asked, end = self._calling(names[0], settings)
        told = [
            Message("tool", text, name=name, call_id=_call_id(number))
            for number, (name, (_, text)) in enumerate(zip(names, answers, strict=True))
        ]
        marked = self._mark([*asked, *told], settings, _WHERE)
        text = self._render(marked.with_marks, settings, _WHERE, prompt=True)
        called = self._called
        tail = frame.text[frame.text.rindex(called) : end]
        at = text.find(called)
        if not text.startswith(tail, at):
            message = "the chat template rewrites calls of tools once they are answered"
            raise PosttrainError(_WHERE, message, "`chat_template:` names another one")
        behind = Frame(text[at + len(tail) :], len(marked.with_marks))
        places = self.marks.places(behind.text)
        for number, leaf in enumerate(marked.leaves):
            if leaf.message >= len(asked) and number not in places:
                message = "the chat template does not write what a tool answers"
                raise PosttrainError(_WHERE, message, "`chat_template:` names one that does")
        return Filled(
            behind, marked, self._texts(Frame(text, behind.num_messages), marked, settings)
        )

    def _texts(self, whole: Frame, marked: Marked, settings: ChatSettings) -> list[str]:
        """Return the contents of a conversation as the template writes them, trimmed or quoted.

        As they are where it does something else: a tool may answer anything.
        """
        texts = [leaf.text for leaf in marked.leaves]
        try:
            return self._fill(whole, marked, settings, _WHERE, prompt=True).texts
        except PosttrainError:
            pass
        for number, (begin, end) in self.marks.places(whole.text).items():
            if whole.text[begin - 1 : begin] == whole.text[end : end + 1] == '"':
                texts[number] = json.dumps(texts[number], ensure_ascii=False)[1:-1]
        return texts

    @property
    def _called(self) -> str:
        """The argument of a call, by which its place is found; no template writes it itself."""
        return self.marks.word("c")

    def _calling(
        self, name: str, settings: ChatSettings
    ) -> tuple[Frame, tuple[Message, Message], int]:
        """Return a turn that calls a tool as the last, its messages, and where the turn ends."""
        call = ToolCall(name, f'{{"x": "{self._called}"}}', _call_id(0))
        asked = (Message("user", "x"), Message("assistant", "", calls=(call,)))
        marked = self._mark(asked, settings, _WHERE)
        frame, (_, end) = self._answer(marked, 1, settings, _WHERE)
        return frame, asked, end


def _call_id(number: int) -> str:
    return f"call{number:05d}"  # nine letters and digits, as Mistral's templates demand
