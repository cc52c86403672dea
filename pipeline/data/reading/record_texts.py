"""What a record says, as plain texts: for counting, deduplication and the search for test items.

Imports no torch.
"""

from collections.abc import Sequence

from pipeline.config.field_types import DataForm
from pipeline.data.reading.records import (
    ChatRow,
    Message,
    PreferenceRow,
    PromptCompletionRow,
    PromptRow,
    Record,
    TextRow,
    UnpairedRow,
)


def form_and_texts(record: Record) -> tuple[DataForm, list[str]]:
    """Return a record's form and all that it says, including roles and system turns."""
    if isinstance(record, TextRow):
        return "text", [record.text]
    if isinstance(record, PromptCompletionRow):
        return "prompt_completion", [record.prompt, record.completion]
    if isinstance(record, UnpairedRow):
        return "unpaired_preference", form_and_texts(record.answered)[1]
    if isinstance(record, PreferenceRow):
        prompt = [part for message in record.prompt for part in message.texts]
        if not record.prompt and record.text is not None:
            prompt = [record.text[0]]
        answers = [part for message in record.turns for part in message.texts[1:]]
        return "preference", [*prompt, *answers]
    if isinstance(record, PromptRow):
        turns = [part for message in record.messages for part in message.texts]
        return "prompt", turns or [record.text or " ".join(map(str, record.ids or ()))]
    assert isinstance(record, ChatRow)
    turns = [part for message in record.messages for part in message.texts]
    return "chat", [*turns, *filter(None, (record.settings.tools,))]


def turns(record: Record) -> list[str]:
    """Return the texts of a record, without system turns, which whole sources share."""
    if isinstance(record, UnpairedRow):
        return turns(record.answered)
    if isinstance(record, ChatRow):
        return _contents(record.messages)
    if isinstance(record, PreferenceRow):
        return [*_prompt(record), *_contents(record.turns)]
    if isinstance(record, PromptRow):
        return _prompt(record)
    return form_and_texts(record)[1] if isinstance(record, TextRow | PromptCompletionRow) else []


def parts(record: Record) -> tuple[str, ...]:
    """Return the parts that must all be alike for two records to be nearly the same.

    A prompt and its answer, or both answers: a question with a different answer is a different
    record, and so is a pair whose answers change places, and an answer with the other label.
    """
    if isinstance(record, UnpairedRow):
        return *parts(record.answered), str(record.is_desirable)
    if isinstance(record, ChatRow):
        *before, last = turns(record) or [""]
        return "\n\n".join(before), last
    if isinstance(record, PreferenceRow):
        return "\n\n".join(_prompt(record)), *_contents(record.turns)
    if isinstance(record, PromptRow):
        return ("\n\n".join(_prompt(record)),)
    return tuple(turns(record))


def _prompt(record: PreferenceRow | PromptRow) -> list[str]:
    messages = record.prompt if isinstance(record, PreferenceRow) else record.messages
    if messages:
        return _contents(messages)
    text = record.text[0] if isinstance(record.text, tuple) else record.text
    return [text] if text else []


def _contents(messages: Sequence[Message]) -> list[str]:
    return ["\n".join(message.texts[1:]) for message in messages if message.role != "system"]
