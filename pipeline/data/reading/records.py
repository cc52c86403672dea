"""Rows once they are read and checked: text, prompt and completion, chat, preference, prompt.

demonstrations.py, preferences.py, unpaired.py and prompts.py make them from a source's columns.
Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
DropReason = Literal[
    "chosen and rejected are equal",
    "a response is empty",
    "a turn of the prompt is empty",
    "the prompts differ",
    "the turns do not alternate",
    "the last turn is not the assistant's",
    "it repeats an earlier row",
    "it has no label",
]
EQUAL: DropReason = "chosen and rejected are equal"
REPEATS: DropReason = "it repeats an earlier row"


@dataclass(frozen=True)
class ToolCall:
    """A function that an assistant calls.

    arguments: JSON text, an object in well-formed data. is_text: whether the source has it as text.
    """

    name: str
    arguments: str
    call_id: str = ""
    is_text: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Message:
    """One turn.

    reasoning: what an assistant thinks before it answers. calls: what it calls, after `content`.
    name, call_id: for a tool's answer, the tool that gave it and the call that it answers.
    is_trained: False for an assistant's turn that the data marks as read, not learnt.
    """

    role: Role
    content: str
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    name: str = ""
    call_id: str = ""
    is_trained: bool = True

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that it says."""
        called = (part for call in self.calls for part in (call.name, call.arguments))
        return self.role, *filter(None, (self.reasoning,)), self.content, *called


@dataclass(frozen=True)
class ChatSettings:
    """What a chat template gets beside the turns, as JSON texts, "" for nothing.

    tools: the functions that an assistant may call. variables: of the template, as TRL's column
    `chat_template_kwargs` has them.
    """

    tools: str = ""
    variables: str = ""


NO_SETTINGS = ChatSettings()


@dataclass(frozen=True)
class TextRow:
    """A document."""

    where: str
    text: str


@dataclass(frozen=True)
class PromptCompletionRow:
    """A text and its continuation, which begins with its own white space."""

    where: str
    prompt: str
    completion: str


@dataclass(frozen=True)
class ChatRow:
    """A conversation whose last turn is the assistant's.

    text: the same as (prompt, completion), for a model without a chat template; None where only a
        template can tell the turns apart.
    """

    where: str
    messages: tuple[Message, ...]
    text: tuple[str, str] | None = None
    settings: ChatSettings = NO_SETTINGS


@dataclass(frozen=True)
class PreferenceRow:
    """Two responses to one prompt, of which `chosen` is the better.

    prompt: the conversation that they answer, a user's or a tool's turn last; empty where there is
        only `text`.
    text: the same as (prompt, chosen, rejected) in running text, for a model without a chat
        template, or because the source has plain texts; None where it takes a template.
    margin: by how much the reward of the chosen response should at least be higher (Llama 2), if
        the data says. probability: that the chosen response is really preferred (a soft label), if
        the data says.
    flaw: what is wrong with the rejected response; empty if the data does not say.
    answers: both responses as turns, where they are more than their text.
    """

    where: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    text: tuple[str, str, str] | None = None
    margin: float | None = None
    probability: float | None = None
    flaw: str = ""
    answers: tuple[Message, Message] | None = None
    settings: ChatSettings = NO_SETTINGS

    @property
    def turns(self) -> tuple[Message, Message]:
        """Both responses as turns of an assistant."""
        if self.answers is not None:
            return self.answers
        return Message("assistant", self.chosen), Message("assistant", self.rejected)


@dataclass(frozen=True)
class UnpairedRow:
    """One response to a prompt, which was wanted (thumbs up) or not (thumbs down).

    answered: prompt and response; of a chat, the last turn is what was judged.
    """

    answered: PromptCompletionRow | ChatRow
    is_desirable: bool

    @property
    def where(self) -> str:
        """The row in its source."""
        return self.answered.where


@dataclass(frozen=True)
class PromptRow:
    """A prompt to sample responses for.

    messages: a conversation, a user's or a tool's turn last; empty where the source has only a text
        or ids.
    text: what a response continues, for a model without a chat template, or because the source has
        plain texts; None where it takes a template, and beside `ids`.
    columns: what reward functions get beside it; for a task's prompts `reference` is what its
        verifier compares a response with.
    ids: the prompt as token ids, where the source has those.
    source: the label of its data block.
    """

    where: str
    messages: tuple[Message, ...]
    text: str | None
    columns: Mapping[str, Any]
    ids: tuple[int, ...] | None = None
    settings: ChatSettings = NO_SETTINGS
    source: str = ""


@dataclass(frozen=True)
class DroppedRow:
    """A row of a source of preferences that nothing can be learnt from.

    Published preference data has such rows, and a user of the hub cannot repair them: they are
    counted and reported like rows, and never trained on.
    """

    where: str
    why: DropReason


Record = (
    TextRow | PromptCompletionRow | ChatRow | PreferenceRow | UnpairedRow | PromptRow | DroppedRow
)


def needs_template(record: Record) -> bool:
    """Whether it takes a chat template to write a row."""
    if isinstance(record, UnpairedRow):
        return needs_template(record.answered)
    if isinstance(record, ChatRow):
        return record.text is None
    if isinstance(record, PreferenceRow):
        return bool(record.prompt) and record.text is None
    return isinstance(record, PromptRow) and bool(record.messages) and record.text is None


def is_conversation(record: Record) -> bool:
    """Whether a row is a conversation, as a template writes it."""
    if isinstance(record, UnpairedRow):
        return is_conversation(record.answered)
    return isinstance(record, ChatRow) or (
        isinstance(record, PreferenceRow) and bool(record.prompt)
    )


def text_of_record(record: Record) -> str:
    """Return all the words of a row, turn after turn; nothing of one that is dropped."""
    match record:
        case TextRow():
            return record.text
        case PromptCompletionRow():
            return record.prompt + record.completion
        case ChatRow():
            return "\n\n".join(words_of(turn) for turn in record.messages)
        case PreferenceRow(text=(prompt, chosen, rejected)):
            return f"{prompt}{chosen}\n\n{prompt}{rejected}"
        case PreferenceRow():
            return "\n\n".join(words_of(turn) for turn in (*record.prompt, *record.turns))
        case UnpairedRow():
            return text_of_record(record.answered)
        case PromptRow():
            return record.text or "\n\n".join(words_of(turn) for turn in record.messages)
        case DroppedRow():
            return ""


def words_of(turn: Message) -> str:
    """Return all that a turn says: reasoning, text, calls of tools."""
    return "\n".join(filter(None, turn.texts[1:]))
