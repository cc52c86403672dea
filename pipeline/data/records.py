"""What a row is once it is read and checked: text, prompt and completion, chat, preference, prompt.

formats.py, preferences.py and prompts.py make them of a source's columns. Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Role = Literal["system", "user", "assistant"]
DropReason = Literal[
    "chosen and rejected are equal",
    "a response is empty",
    "a turn of the prompt is empty",
    "the prompts differ",
    "the turns do not alternate",
    "the last turn is not the assistant's",
]
EQUAL: DropReason = "chosen and rejected are equal"


class Message(NamedTuple):
    """One turn; also a `Turn` as eval/model.py has it."""

    role: Role
    content: str


@dataclass(frozen=True)
class TextRow:
    """A document."""

    where: str
    text: str


@dataclass(frozen=True)
class PromptCompletionRow:
    """A text and how it goes on; the completion begins with its own white space."""

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


@dataclass(frozen=True)
class PreferenceRow:
    """Two responses to one prompt, of which `chosen` is the better.

    prompt: the conversation that they answer, a user's turn last; empty where there is only `text`.
    text: the same as (prompt, chosen, rejected) in running text, for a model without a chat
        template, or because the source has plain texts; None where only a template will do.
    margin: by how much the chosen one's reward should at least be higher (Llama 2); None if not
        said. probability: that the chosen one is really preferred (soft label); None if not said.
    flaw: what is wrong with the rejected one; empty if not said.
    """

    where: str
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    text: tuple[str, str, str] | None = None
    margin: float | None = None
    probability: float | None = None
    flaw: str = ""


@dataclass(frozen=True)
class PromptRow:
    """A prompt to sample responses for.

    messages: a conversation, a user's turn last; empty where the source has only a text or ids.
    text: what a response continues, for a model without a chat template, or because the source has
        plain texts; None where only a template will do, and beside `ids`.
    columns: what else reward functions are handed; `source` is the block's label, of a task's
        prompts `reference` what its verifier compares a response with.
    ids: the prompt as token ids, where the source has those.
    """

    where: str
    messages: tuple[Message, ...]
    text: str | None
    columns: Mapping[str, Any]
    ids: tuple[int, ...] | None = None


@dataclass(frozen=True)
class DroppedRow:
    """A row of a preference source that nothing can be learnt from.

    Published preference data has such rows, and who takes it from the hub cannot mend it: it is
    counted and reported wherever rows are, and never trained on.
    """

    where: str
    why: DropReason


Record = TextRow | PromptCompletionRow | ChatRow | PreferenceRow | PromptRow | DroppedRow
