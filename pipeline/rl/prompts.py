"""Rows of a data set as prompts: token ids, what reward functions see, the other columns.

For PPOTrainer used on its own; a recipe's stage hands rows that have their ids already.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from pipeline.rl.config.base import RolloutConfig

_COLUMNS = ("prompt", "input_ids")
_GIVEN, _GIVEN_MASK = "completion_ids", "completion_mask"
_PADDED = "row {} is padded, by its `attention_mask`; take the padding out"
_ROW_SETTINGS = "chat_template_kwargs"  # of one row's, beside the config's


@dataclass(frozen=True)
class Given:
    """A completion that a row comes with: its token ids, its end included.

    own: which of them are learnt, a turn's and not a tool's; None for all.
    """

    token_ids: list[int]
    own: list[bool] | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt: its token ids, what reward functions see of it, and its row's other columns.

    given: its own completion, if there is one and it is learnt from.
    """

    ids: list[int]
    shown: Any
    columns: dict[str, Any] = field(default_factory=dict[str, Any])
    given: Given | None = None


class ReadyPrompts(Sequence[Prompt]):
    """Prompts that were encoded already, each read from a file when it is asked for."""

    @abstractmethod
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each prompt, (N,)."""

    @abstractmethod
    def whole_lengths(self) -> NDArray[np.int64]:
        """Tokens of each prompt with the completion that is given, (N,)."""

    @abstractmethod
    def ids(self) -> Iterator[list[int]]:
        """Yield the token ids of each, without anything else."""

    @abstractmethod
    def given_ids(self) -> Iterator[list[int] | None]:
        """Yield the token ids of each completion that is given."""

    def padded(self) -> int | None:
        """Return the number of the first that is padded, by a column; None without one."""
        return None


def ids_of(prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """Yield the token ids of each prompt."""
    return prompts.ids() if isinstance(prompts, ReadyPrompts) else (each.ids for each in prompts)


def given_ids_of(prompts: Sequence[Prompt]) -> Iterator[list[int] | None]:
    """Yield the token ids of each completion that is given."""
    if isinstance(prompts, ReadyPrompts):
        return prompts.given_ids()
    return (each.given and each.given.token_ids for each in prompts)


def prompts_of(
    data: Any,
    tokenizer: PreTrainedTokenizerBase,
    args: RolloutConfig,
    positions: int | None,
    *,
    tools: str = "",
    takes_completions: bool = False,
) -> Sequence[Prompt]:
    """Return the prompts of a data set whose rows have `prompt` or `input_ids`.

    A prompt is text, which is continued, or a list of messages, which is answered through the
    tokenizer's chat template; a last message of the assistant's is continued. A row's
    `chat_template_kwargs` and `tools` go to the template, as with TRL. positions: of the model.
    tools: JSON, of a policy that has some; for rows without a column of their own.
    takes_completions: whether rows have `completion_ids` too, and perhaps a `completion_mask`.

    Raises ValueError for what is not a data set with numbered rows, for a row that has neither
    column, for an empty prompt and for one that leaves no room for a completion.
    """
    takes_all = takes_completions and not args.sampled_share
    room = _room_of(args, positions, response=0 if takes_all else args.max_completion_length)
    template = dict(args.chat_template_kwargs or {})
    prompts: Sequence[Prompt]
    if isinstance(data, ReadyPrompts):
        room.check_ready(prompts := data)
    else:
        prompts = []
        for number, raw_row in enumerate(rows_of(data)):
            row: Any = plain(raw_row)
            if not isinstance(row, Mapping) or not any(row.get(name) for name in _COLUMNS):
                raise ValueError(f"row {number} has no `prompt` and no `input_ids`")
            ids = _ids(row, number) or _encode(row, tokenizer, number, template, tools)
            room.check(number, len(ids))
            shown = row.get("prompt")
            if shown is None:
                shown = tokenizer.decode(ids, skip_special_tokens=True)
            given = _given(row, number, len(ids), room) if takes_completions else None
            of_prompt = (*_COLUMNS, _GIVEN, _GIVEN_MASK) if takes_completions else _COLUMNS
            columns = {key: value for key, value in row.items() if key not in of_prompt}
            prompts.append(Prompt(ids, shown, columns, given))
    if not prompts:
        raise ValueError("there are no prompts")
    if template:
        _check_template(template, prompts, tokenizer)
    return prompts


@dataclass(frozen=True)
class _Room:
    """How long a prompt may be, what to do about a longer one, and the positions of the model."""

    limit: int | None
    remedy: str
    positions: int | None

    def check(self, number: int, num_tokens: int) -> None:
        """Raise ValueError for a prompt that is too long."""
        if self.limit is not None and num_tokens > self.limit:
            raise ValueError(
                f"the prompt of row {number} has {num_tokens} tokens, more than {self.limit}; "
                f"leave it out, or {self.remedy}"
            )

    def check_whole(self, number: int, num_tokens: int) -> None:
        """Raise ValueError for a prompt and a completion that are too long together."""
        if self.positions is not None and num_tokens > self.positions:
            raise ValueError(
                f"row {number} has more tokens than the model's {self.positions} positions"
            )

    def check_ready(self, prompts: ReadyPrompts) -> None:
        """Raise ValueError for one that is padded, or for the longest if it is too long."""
        if (padded := prompts.padded()) is not None:
            raise ValueError(_PADDED.format(padded))
        if len(prompts):
            for lengths, check in (
                (prompts.lengths(), self.check),
                (prompts.whole_lengths(), self.check_whole),
            ):
                check(number := int(lengths.argmax()), int(lengths[number]))


def _room_of(args: RolloutConfig, positions: int | None, *, response: int) -> _Room:
    """Return how long prompts may be beside responses of so many tokens."""
    limit, remedy = args.max_prompt_length, "raise `max_prompt_length`"
    room = None if positions is None else positions - response
    if room is not None and room < 1:
        raise ValueError(
            f"`max_completion_length` {args.max_completion_length} leaves no room for a prompt in "
            f"the {positions} positions of the model"
        )
    if room is not None and (limit is None or limit > room):
        limit, remedy = room, "lower `max_completion_length`"
    return _Room(limit, remedy, positions)


def prompt_sets(
    data: Any,
    tokenizer: PreTrainedTokenizerBase,
    args: RolloutConfig,
    positions: int | None,
    *,
    tools: str = "",
) -> dict[str, Sequence[Prompt]]:
    """Return the prompts of a data set, by the name "", or of several by name; {} for None."""
    if data is None:
        return {}
    sets = data if isinstance(data, dict) else {"": data}
    return {
        name: prompts_of(rows, tokenizer, args, positions, tools=tools)
        for name, rows in sets.items()
    }


def rows_of(data: Any) -> Iterable[Any]:
    """Return the rows of a data set in Python's own values, whatever format it has been given.

    Raises ValueError for several data sets at once, and for a stream, whose rows have no numbers.
    """
    from datasets import Dataset

    if isinstance(data, Mapping):
        names = ", ".join(f"`{name}`" for name in data)  # pyright: ignore[reportUnknownVariableType]
        raise ValueError(f"these are several data sets, {names}; give one of them")  # noqa: TRY004
    if isinstance(data, str):
        raise ValueError(f"`{data}` is a name; load the data set first")  # noqa: TRY004
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise ValueError(
            f"prompts are drawn by their numbers, and rows of a {type(data).__name__} have none; "
            "collect them first: `list(stream.take(10_000))`"
        )
    if isinstance(data, Dataset) and data.format["type"] not in (None, "custom"):
        return data.with_format(None)
    return data if hasattr(data, "__iter__") else (data[number] for number in range(len(data)))


def plain(value: Any) -> Any:
    """Return a value without arrays and tensors in it; those of the lists and numbers they hold."""
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple) and value and not isinstance(value[0], int | float | str):
        return [plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value  # pyright: ignore[reportUnknownVariableType]


def _ids(row: Mapping[str, Any], number: int) -> list[int]:
    """Return the ids that a row has already; none if it has only text."""
    ids = row.get("input_ids") or []
    if not isinstance(ids, list | tuple) or not all(isinstance(token, int) for token in ids):  # pyright: ignore[reportUnknownVariableType]
        hint = "; take the one row out of its batch" if len(ids) == 1 else ""
        raise ValueError(f"`input_ids` of row {number} is no list of token ids{hint}")
    if 0 in (row.get("attention_mask") or ()):
        raise ValueError(_PADDED.format(number))
    return list(ids)  # pyright: ignore[reportUnknownArgumentType]


def _given(row: Mapping[str, Any], number: int, num_before: int, room: _Room) -> Given:
    """Return the completion that a row has."""
    ids, mask = row.get(_GIVEN), row.get(_GIVEN_MASK)
    if not isinstance(ids, list) or not ids or not all(isinstance(token, int) for token in ids):  # pyright: ignore[reportUnknownVariableType]
        raise ValueError(f"row {number} has no `{_GIVEN}`, a list of token ids")
    room.check_whole(number, num_before + len(ids))  # pyright: ignore[reportUnknownArgumentType]
    if mask is None:
        return Given(ids)  # pyright: ignore[reportUnknownArgumentType]
    if len(mask) != len(ids) or not any(mask):  # pyright: ignore[reportUnknownArgumentType]
        raise ValueError(f"`{_GIVEN_MASK}` of row {number} does not fit its `{_GIVEN}`")
    return Given(ids, [bool(flag) for flag in mask])  # pyright: ignore[reportUnknownArgumentType]


def _encode(
    row: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    number: int,
    template: Mapping[str, Any],
    of_policy: str,
) -> list[int]:
    prompt = row["prompt"]
    if isinstance(prompt, str):
        ids: Any = tokenizer(prompt)["input_ids"]
    else:
        if tokenizer.chat_template is None:
            raise ValueError(f"row {number} is a chat, and the tokenizer has no chat template")
        # Of a column of mappings, Arrow gives each row every key, None where it had none.
        own = {k: v for k, v in (row.get(_ROW_SETTINGS) or {}).items() if v is not None}
        tools = row.get("tools") or of_policy or None
        is_answer = prompt[-1]["role"] == "assistant"
        ids = tokenizer.apply_chat_template(
            list(prompt),
            tools=json.loads(tools) if isinstance(tools, str) else tools,
            add_generation_prompt=not is_answer,
            continue_final_message=is_answer,
            return_dict=False,
            **{**template, **own},
        )
    if not ids:
        raise ValueError(f"the prompt of row {number} has no token")
    return [int(token) for token in ids]


def _check_template(
    settings: Mapping[str, Any], prompts: Iterable[Prompt], tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raise ValueError for settings of a chat template that nothing reads."""
    if all(isinstance(prompt.shown, str) for prompt in prompts):
        raise ValueError("`chat_template_kwargs` is for chats, and all prompts are texts")
    text = str(settings.get("chat_template") or tokenizer.chat_template)
    for name in settings:
        if name != "chat_template" and not re.search(rf"\b{re.escape(name)}\b", text):
            raise ValueError(f"the chat template does not read `{name}` of `chat_template_kwargs`")
