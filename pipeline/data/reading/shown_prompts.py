"""A prompt as one text, as a person reads it or a judge: of several turns with who says them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.asking.question import dialogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.data.reading.records import Message, PreferenceRow, PromptRow


def show_prompt(row: PromptRow) -> str:
    """Return a prompt; of one that is token ids alone, these."""
    if not row.messages and row.text is None:
        return " ".join(map(str, row.ids or ()))
    return _shown(row.messages, row.text)


def show_prompt_of(pair: PreferenceRow) -> str:
    """Return the prompt of a pair."""
    return _shown(pair.prompt, pair.text[0] if pair.text else None)


def _shown(messages: Sequence[Message], text: str | None) -> str:
    return dialogue((turn.role, turn.content) for turn in messages) if messages else text or ""
