r"""Rows of the form preference: two responses to one prompt, of which `chosen` is the better.

    prompt, chosen, rejected         texts: both continue the prompt, no template (TRL's standard
                                     form); or a conversation: `prompt` a list of messages, both
                                     responses a message, a list of one, or a text
    chosen, rejected                 lists of messages that differ in the last one: the rest is the
                                     prompt (TRL's implicit prompt; a `prompt` beside them repeats
                                     it and is not read)
    chosen, rejected                 transcripts, "\n\nHuman: ...\n\nAssistant: ..." (Bai et al.
                                     2022, Anthropic's hh-rlhf)
    conversations, chosen, rejected  ShareGPT's: a list and two objects {from, value}
    instruction, chosen, rejected    Alpaca's: `input` (if any) after a blank line, `history` before
    input, output_1, output_2, label LLMBar's (Zeng et al. 2023): a question, two responses, and
                                     1 or 2 for the better one

`margin` and `probability` may stand beside any of these. Flaws of published data (an empty
response, two equal ones, transcripts of two prompts) give a DroppedRow; a wrong type is an error.
Imports no torch.
"""

import re
import sys
from typing import Any, cast

from pipeline.data.reading.alpaca import instruction_turns
from pipeline.data.reading.columns import drop_filled_nulls, settings_of, with_system
from pipeline.data.reading.fields import list_names, text_of
from pipeline.data.reading.files import Row, kind_of
from pipeline.data.reading.messages import (
    FROM_VALUE,
    ROLE_CONTENT,
    MessageStyle,
    message_of,
    turns_of,
)
from pipeline.data.reading.records import EQUAL, DroppedRow, DropReason, Message, PreferenceRow
from pipeline.errors import PosttrainError, closest

_HUMAN, _ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
_SPEAKER = re.compile(f"{_HUMAN}|{_ASSISTANT}")

Pair = PreferenceRow | DroppedRow


def prompt_row(row: Row) -> Pair:
    """Read `prompt`, `chosen` and `rejected`: texts, or a conversation and two responses."""
    prompt, chosen, rejected = (row.fields[name] for name in ("prompt", "chosen", "rejected"))
    if isinstance(prompt, str) and isinstance(chosen, str) and isinstance(rejected, str):
        prompt = text_of(prompt, "prompt", row.where)
        answers = _responses(row, ROLE_CONTENT)
        return _pair(row, (), answers, (prompt, *(answer.content for answer in answers)))
    if isinstance(prompt, list):
        messages = turns_of(prompt, "prompt", row.where, ROLE_CONTENT)
    elif _is_conversation(chosen) and _is_conversation(rejected):
        return _implicit_row(row)
    else:
        messages = (Message("user", text_of(prompt, "prompt", row.where)),)
    _check_prompt(messages, "prompt", row.where)
    return _pair(row, messages, _responses(row, ROLE_CONTENT))


def conversations_row(row: Row) -> Pair:
    """Read ShareGPT's `conversations` with `chosen` and `rejected`."""
    turns = row.fields["conversations"]
    messages = turns_of(turns, "conversations", row.where, FROM_VALUE)
    _check_prompt(messages, "conversations", row.where)
    return _pair(row, messages, _responses(row, FROM_VALUE))


def instruction_row(row: Row) -> Pair:
    """Read Alpaca's `instruction` (`input`, `history`) with `chosen` and `rejected`."""
    return _pair(row, instruction_turns(row), _responses(row, ROLE_CONTENT))


def outputs_row(row: Row) -> Pair:
    """Read LLMBar's `input`, two outputs, and the number of the better one in `label`."""
    label = row.fields["label"]
    if isinstance(label, bool) or str(label).strip() not in ("1", "2"):
        message = f"`label` is {label!r:.40}, not 1 or 2"
        raise PosttrainError(row.where, message, "it is the number of the output that is better")
    outputs = [
        Message("assistant", text_of(row.fields[name], name, row.where, may_be_blank=True))
        for name in ("output_1", "output_2")
    ]
    better = int(str(label)) - 1
    question = (Message("user", text_of(row.fields["input"], "input", row.where)),)
    return _pair(row, question, (outputs[better], outputs[1 - better]))


def whole_row(row: Row) -> Pair:
    """Read `chosen` and `rejected` that hold their prompt: lists of messages, or transcripts."""
    chosen, rejected = row.fields["chosen"], row.fields["rejected"]
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _implicit_row(row)
    for name in ("chosen", "rejected"):
        value = row.fields[name]
        if not isinstance(value, str):
            message = f"`{name}` is {kind_of(value)}, and there is no `prompt`"
            hint = "without one, both are lists of messages or both are transcripts"
            raise PosttrainError(row.where, message, hint)
        if not value.startswith(_HUMAN):
            message = f"`{name}` is a text, and there is no `prompt`; {_list_names(row)}"
            raise PosttrainError(row.where, message, _how_to_prompt(row))
    return _transcript_row(row)


def task_row(row: Row) -> Pair:
    """Read a task's pair: a user's turn and two responses; in running text a space goes between."""
    prompt = text_of(row.fields["prompt"], "prompt", row.where)
    answers = _responses(row, ROLE_CONTENT)
    flaw = text_of(row.fields["flaw"], "flaw", row.where, may_be_blank=True)
    text = (prompt, *(f" {answer.content}" for answer in answers))
    return _pair(row, (Message("user", prompt),), answers, text, flaw=flaw)


def _implicit_row(row: Row) -> Pair:
    chosen, rejected = (
        turns_of(row.fields[name], name, row.where, ROLE_CONTENT, may_end_blank=True)
        for name in ("chosen", "rejected")
    )
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1].role != "assistant":
            message = f"`{name}` ends with a {turns[-1].role} turn"
            raise PosttrainError(row.where, message, "its last turn is the assistant's")
    *prompt, last_chosen = chosen
    *earlier, last_rejected = rejected
    if prompt != earlier:
        pairs = enumerate(zip(prompt, earlier, strict=False), 1)
        turn = next((number for number, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
        message = f"`chosen` and `rejected` differ in turn {turn} already"
        raise PosttrainError(row.where, message, "all but the last turn is their prompt: the same")
    if not prompt:
        message = "`chosen` and `rejected` hold one turn, and there is no `prompt`"
        raise PosttrainError(row.where, message, _how_to_prompt(row))
    _check_prompt(tuple(prompt), "chosen", row.where)
    return _pair(row, tuple(prompt), (last_chosen, last_rejected))


def _transcript_row(row: Row) -> Pair:
    starts: list[str] = []
    labels: list[str] = []
    _numbers(row)  # a wrong type is an error even in a row that is dropped
    for name in ("chosen", "rejected"):
        transcript = text_of(row.fields[name], name, row.where)
        start, mark, answer = transcript.rpartition(_ASSISTANT)
        if not mark or _HUMAN in answer:
            return DroppedRow(row.where, "the last turn is not the assistant's")
        starts.append(start + mark)
        labels.append(answer.strip())
    if starts[0] != starts[1]:
        return DroppedRow(row.where, "the prompts differ")
    start, (chosen, rejected) = starts[0], labels
    turns = [part.strip() for part in _SPEAKER.split(start)[1:-1]]
    speakers = _SPEAKER.findall(start)
    if speakers != [(_HUMAN, _ASSISTANT)[number % 2] for number in range(len(speakers))]:
        return DroppedRow(row.where, "the turns do not alternate")
    if not all(turns):
        return DroppedRow(row.where, "a turn of the prompt is empty")
    prompt = tuple(
        Message("user" if speaker == _HUMAN else "assistant", turn)
        for speaker, turn in zip(speakers[:-1], turns, strict=True)
    )
    answers = Message("assistant", chosen), Message("assistant", rejected)
    return _pair(row, prompt, answers, (start, f" {chosen}", f" {rejected}"))


def _responses(row: Row, style: MessageStyle) -> tuple[Message, Message]:
    """Return both responses: a text, a message, or a list of one message by the assistant."""
    messages: list[Message] = []
    for name in ("chosen", "rejected"):
        value = row.fields[name]
        if isinstance(value, list):
            turns = cast("list[Any]", value)
            if len(turns) != 1:
                message = f"`{name}` is a list of {len(turns)} turns"
                hint = "beside a prompt it is one turn, the assistant's"
                raise PosttrainError(row.where, message, hint)
            value = turns[0]
        if isinstance(value, str):
            content = text_of(value, name, row.where, may_be_blank=True)
            messages.append(Message("assistant", content))
            continue
        read = message_of(value, name, row.where, style, may_be_blank=True)
        if read.role != "assistant":
            message = f"`{name}` is a {read.role} turn"
            raise PosttrainError(row.where, message, "it is the assistant's")
        messages.append(read)
    return messages[0], messages[1]


def _pair(
    row: Row,
    prompt: tuple[Message, ...],
    answers: tuple[Message, Message],
    text: tuple[str, ...] = (),
    flaw: str = "",
) -> Pair:
    """Return a pair. text: prompt, chosen and rejected in running text, if the row has that."""
    margin, probability = _numbers(row)
    settings = settings_of(row)
    chosen, rejected = drop_filled_nulls(answers, settings)
    why: DropReason | None = None
    if any(not answer.content.strip() and not answer.calls for answer in answers):
        why = "a response is empty"
    elif chosen == rejected:
        why = EQUAL
    if why is not None:
        return DroppedRow(row.where, why)
    is_text_alone = not any(answer.calls or answer.reasoning for answer in answers)
    return PreferenceRow(
        row.where,
        with_system(row, drop_filled_nulls(prompt, settings)) if prompt else (),
        chosen.content,
        rejected.content,
        (text[0], text[1], text[2]) if text else None,
        margin,
        probability,
        flaw,
        None if is_text_alone else (chosen, rejected),
        settings,
    )


def _numbers(row: Row) -> tuple[float | None, float | None]:
    """Return `margin` and `probability`, checked; None for one that the row does not have."""
    margin = _number(row, "margin", 0, sys.float_info.max, "a margin is 0 or more")
    hint = "it goes from 0.5 to 1; below that, swap chosen and rejected"
    return margin, _number(row, "probability", 0.5, 1, hint)


def _number(row: Row, name: str, lowest: float, highest: float, hint: str) -> float | None:
    value = row.fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PosttrainError(row.where, f"`{name}` is {kind_of(value)}, not a number", hint)
    if not lowest <= value <= highest:  # false of NaN, too
        raise PosttrainError(row.where, f"`{name}` is {value!r:.40}", hint)
    return float(value)


def _check_prompt(messages: tuple[Message, ...], column: str, where: str) -> None:
    if messages[-1].role not in ("user", "tool"):
        message = f"the prompt in `{column}` ends with a turn of the {messages[-1].role}"
        raise PosttrainError(where, message, "both responses answer a user's turn, or a tool's")


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and len(cast("list[Any]", value)) > 1


def _list_names(row: Row) -> str:
    return list_names("columns", row.fields)


def _how_to_prompt(row: Row) -> str:
    near = closest("prompt", row.fields)
    theirs = near.split("`")[1] if near else "THEIRS"
    rename = f"`columns: {{prompt: {theirs}}}` names the prompt"
    return f"{rename}; without one: lists of messages, or transcripts that begin with {_HUMAN!r}"
