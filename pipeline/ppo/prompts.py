"""Rows of a data set as prompts: token ids, what reward functions see, the other columns.

For PPOTrainer used on its own; a recipe's stage hands rows that have their ids already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.ppo.collect import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

    from pipeline.ppo.config import PPOConfig

_COLUMNS = ("prompt", "input_ids")


def prompts_of(
    rows: Iterable[Any],
    tokenizer: PreTrainedTokenizerBase,
    args: PPOConfig,
    positions: int | None,
) -> list[Prompt]:
    """Return the prompts of a data set whose rows have `prompt` or `input_ids`.

    A prompt is text, which is continued, or a list of messages, which is answered through the
    tokenizer's chat template. positions: of the model. Raises ValueError for a row that has
    neither, for an empty prompt and for one that leaves no room for a completion.
    """
    limit = args.max_prompt_length
    room = None if positions is None else positions - args.max_completion_length
    if room is not None and room < 1:
        raise ValueError(
            f"`max_completion_length` {args.max_completion_length} leaves no room for a prompt in "
            f"the {positions} positions of the model"
        )
    if room is not None and (limit is None or limit > room):
        limit = room
    found: list[Prompt] = []
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping) or not any(row.get(name) for name in _COLUMNS):
            raise ValueError(f"row {number} has no `prompt` and no `input_ids`")
        ids = row.get("input_ids") or _encoded(row["prompt"], tokenizer, number)
        ids = [int(token) for token in ids]
        if limit is not None and len(ids) > limit:
            raise ValueError(
                f"the prompt of row {number} has {len(ids)} tokens, more than {limit}; leave it "
                "out, or lower `max_completion_length`"
            )
        shown = row.get("prompt")
        if shown is None:
            shown = tokenizer.decode(ids, skip_special_tokens=True)
        columns = {key: value for key, value in row.items() if key not in _COLUMNS}
        found.append(Prompt(ids, shown, columns))
    if not found:
        raise ValueError("there are no prompts")
    return found


def _encoded(prompt: Any, tokenizer: PreTrainedTokenizerBase, number: int) -> list[int]:
    if isinstance(prompt, str):
        ids: Any = tokenizer(prompt)["input_ids"]
    else:
        if tokenizer.chat_template is None:
            raise ValueError(f"row {number} is a chat, and the tokenizer has no chat template")
        ids = tokenizer.apply_chat_template(
            list(prompt), add_generation_prompt=True, return_dict=False
        )
    if not ids:
        raise ValueError(f"the prompt of row {number} has no token")
    return ids
