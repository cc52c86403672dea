"""The user's own files for `posttrain init`: which form their rows have, how many, which columns.

first_recipe.py writes what is learnt here into a recipe. Imports no torch.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.config.blocks import DataBlock
from pipeline.config.references import Places, dataset_problem
from pipeline.data.reading.checks import check_data
from pipeline.data.reading.files import file_rows
from pipeline.errors import PosttrainError, closest
from pipeline.files.text_files import TEXT_ENDINGS, ending

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.field_types import DataForm

Kind = Literal["demonstrations", "pairs", "thumbs", "prompts", "texts"]
KINDS: tuple[Kind, ...] = ("demonstrations", "pairs", "thumbs", "prompts", "texts")
# In the order in which they are tried: pairs have prompts too, and demonstrations may.
_FORMS: Mapping[Kind, tuple[DataForm, ...]] = {
    "pairs": ("preference",),
    "thumbs": ("unpaired_preference",),
    "demonstrations": ("chat", "prompt_completion"),
    "texts": ("text",),
    "prompts": ("prompt",),
}
# What others call our columns; taken only where the form is not told without it.
_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "instruction": ("question", "query", "problem", "user", "input", "prompt"),
    "output": ("answer", "response", "completion", "solution", "target", "assistant"),
    "messages": ("conversation", "dialogue", "dialog", "chat", "turns"),
    "prompt": ("question", "query", "problem", "instruction", "input"),
    "chosen": ("preferred", "accepted", "response_chosen", "good", "winner"),
    "rejected": ("dispreferred", "declined", "response_rejected", "bad", "loser"),
    "completion": ("answer", "response", "output", "solution", "assistant"),
    "label": ("thumbs_up", "thumb", "thumbs", "liked", "is_desirable", "desirable", "feedback"),
    "text": ("content", "document", "body"),
}
_MAPPED: Mapping[Kind, tuple[tuple[str, ...], ...]] = {
    "pairs": (("prompt", "chosen", "rejected"),),
    "thumbs": (("messages", "label"), ("prompt", "completion", "label")),
    "demonstrations": (("messages",), ("instruction", "output")),
    "texts": (("text",),),
    "prompts": (("prompt",),),
}
_SEPARATORS = ("<|endoftext|>", "\n\n\n", "\n\n", "\n")
_MANY = 50  # documents that a separator must make, rows of which a tenth says something
SHARE_HELD_OUT = 0.1
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


@dataclass(frozen=True)
class OwnData:
    """One source, as the recipe will name it.

    name: a path from the recipe, or a hub id. num_rows, size_bytes: None where it is on the hub.
    columns: theirs by ours, where they had to be guessed. separator: what divides a text file into
    documents, where something does. can_hold_out: whether a share of its rows can be kept out of
    training: there are enough, and they are not all alike.
    """

    name: str
    kind: Kind
    is_on_hub: bool = False
    num_rows: int | None = None
    size_bytes: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    separator: str | None = None
    can_hold_out: bool = False


def own_data(name: str, base: Path, *, kind: Kind | None = None) -> OwnData:
    """Look at a file, or take a name for the hub's.

    given: a path from `base`, or `owner/name`. kind: what its rows are, where it is said; of the
    hub's it must be. Raises PosttrainError where nothing here reads the rows.
    """
    path = base / Path(name).expanduser()
    if not path.exists() and _HUB.fullmatch(name) and not path.parent.is_dir():
        problem = dataset_problem(name, None)
        if problem or kind is None:
            message, hint = problem[1:] if problem else (f"`{name}` is on the hub", _say_kind(name))
            raise PosttrainError("--data", message, hint)
        return OwnData(name, kind, is_on_hub=True)
    if not path.exists():
        beside = [sibling.name for sibling in path.parent.iterdir()] if path.parent.is_dir() else []
        message = f"there is no file `{name}`"
        raise PosttrainError("--data", message, closest(path.name, beside) or f"looked for {path}")
    kinds: list[Kind] = [kind] if kind else [*_FORMS]
    columns = _columns_of(path, name)
    first: PosttrainError | None = None
    for likely in kinds:
        # Guesses of answers go before prompts alone, which every row with an answer has as well.
        guesses = [guess for ours in _MAPPED[likely] if (guess := _guess_columns(ours, columns))]
        for mapped in ({}, *guesses):
            try:
                return _read(name, likely, mapped, base)
            except PosttrainError as error:
                first = first or error
    assert first is not None
    raise first if kind or not columns else _unreadable(name, columns)


def _read(name: str, kind: Kind, columns: dict[str, str], base: Path) -> OwnData:
    def read(separator: str | None) -> OwnData:
        block = DataBlock.model_validate({"file": name, "columns": columns, "separator": separator})
        counts = check_data(block, Places(base), _FORMS[kind])
        can_hold_out = False
        if counts.num_rows >= _MANY:
            with suppress(PosttrainError):  # none is held out, where all are alike
                part = block.model_copy(update={"holdout": SHARE_HELD_OUT})
                can_hold_out = check_data(part, Places(base), _FORMS[kind]).num_rows > 0
        return OwnData(
            name,
            kind,
            num_rows=counts.num_rows,
            size_bytes=counts.size_bytes,
            columns=columns,
            separator=separator,
            can_hold_out=can_hold_out,
        )

    whole = read(None)
    if ending(base / name) in TEXT_ENDINGS and whole.num_rows == 1:
        for separator in _SEPARATORS:
            with suppress(PosttrainError):  # it does not occur
                divided = read(separator)
                if (divided.num_rows or 0) >= _MANY:
                    return divided
    return whole


def _columns_of(path: Path, name: str) -> list[str]:
    """Return the columns of the first row; none for a file without columns."""
    if ending(path) in TEXT_ENDINGS:
        return []
    try:
        return [*next(iter(file_rows(path, name))).fields]
    except (PosttrainError, StopIteration):
        return []


def _guess_columns(ours: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """Return their names for ours where other names are used; {} unless there is one for each."""
    lowered = {column.strip().lower(): column for column in columns}
    theirs_by_ours: dict[str, str] = {}
    for column in ours:
        names = (column, *_OTHER_NAMES[column])
        theirs = next((lowered[name] for name in names if name in lowered), None)
        if theirs is None or theirs in theirs_by_ours.values():
            return {}
        theirs_by_ours[column] = theirs
    return {column: theirs for column, theirs in theirs_by_ours.items() if column != theirs}


def _unreadable(name: str, columns: Sequence[str]) -> PosttrainError:
    message = f"`{name}` has the columns {', '.join(columns)}, which are none that a stage reads"
    hint = "write the recipe with `columns: {OURS: THEIRS}`; docs/data.md names ours"
    return PosttrainError("--data", message, hint)


def _say_kind(name: str) -> str:
    return f"say what its rows are, for example --data demonstrations:{name}; {', '.join(KINDS)}"
