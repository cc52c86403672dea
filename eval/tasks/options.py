"""Lettered options as files have them: the choices of a row, and which of them is right.

Choices are a list, `{text: [...], label: [...]}` (ARC), a mapping of letters to texts, one of these
as JSON in a CSV, or columns `A`, `B`, `C`, ... (C-Eval, CMMLU). What is right is an index from 0, a
letter, an option's label or its text, or several of them: `BC`, `B, C`, `[1, 2]`.
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from eval.tasks.benchmark import Row, RowsError

if TYPE_CHECKING:
    from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"
LISTS = ("choices", "options")
PREFIXES = ("", "option_", "choice_")
ANSWERS = ("answer", "answerKey", "answer_idx", "correct", "label")

_SEVERAL = re.compile(r"[A-J](?:(?:\s*[,;/&+|]\s*|\s+and\s+|\s*)[A-J])*")
_DIGITS = re.compile(r"[0-9]{1,2}")


@dataclass(frozen=True)
class Options:
    """The choices of a question: their texts, and their labels where the file gives some."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()

    @property
    def letters(self) -> str:
        """One letter for each option, in order."""
        return LETTERS[: len(self.texts)]

    @property
    def listed(self) -> str:
        """The options as a question lists them, a line each."""
        return "\n".join(f"{a}. {text}" for a, text in zip(self.letters, self.texts, strict=True))


def options_of(row: Row, *, most: int, task: str) -> Options:
    """Return a row's choices; RowsError where they are fewer than two or more than `most`."""
    name = next((each for each in LISTS if row.fields.get(each) not in (None, "")), None)
    if name is not None:
        found = _read(row, name, row.fields[name])
    else:
        columns = _lettered_columns(row)
        if not columns:
            row.value(LISTS[0], list, "a list of texts")  # raises, naming the columns there are
        texts = [_text(row, column, row.fields[column]) for column in columns]
        found = Options(tuple(text for text in texts if text))
    if not 2 <= len(found.texts) <= most:
        raise RowsError(
            f"{row.where}: {len(found.texts)} choices; `{task}` takes 2 to {most} "
            "(see its setting `options`)"
        )
    return found


def right_letters(row: Row, options: Options, column: str | None = None) -> str:
    """Return the letter of the right option, or the letters in order where several are right.

    column: the one that says so; without it the first of `ANSWERS` that there is. Raises RowsError
    for an answer that is none of the options, or that can be read in two ways.
    """
    column = answer_column(row, column)
    if column not in row.fields:
        row.value(column, str, "an answer")  # raises, naming the columns there are
    answer = row.fields[column]
    given: Sequence[Any] = cast("list[Any]", answer) if isinstance(answer, list) else [answer]
    places: set[int] = set()
    for each in given:
        places |= _places(row, column, each, options)
    if not places:
        raise RowsError(f"{row.where}: `{column}` names no option")
    return "".join(options.letters[place] for place in sorted(places))


def columns_of(row: Row, answer: str | None = None) -> set[str]:
    """Return the columns that a row's options and what is right of them are read from."""
    lists = {name for name in LISTS if row.fields.get(name) not in (None, "")}
    return {*(lists or _lettered_columns(row)), answer_column(row, answer)}


def answer_column(row: Row, column: str | None = None) -> str:
    """Return the column that says what is right: the one that was named, else a known one."""
    return column or next((each for each in ANSWERS if each in row.fields), ANSWERS[0])


def _lettered_columns(row: Row) -> list[str]:
    """Return the columns of options by letter, from `A` on without a gap."""
    lower = {str(name).lower(): str(name) for name in row.fields}
    for prefix in PREFIXES:
        names = [f"{prefix}{letter.lower()}" for letter in LETTERS]
        there = [lower[name] for name in names if name in lower]
        if len(there) >= 2 and names[: len(there)] == [name.lower() for name in there]:
            return there
    return []


def _read(row: Row, name: str, value: Any) -> Options:
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowsError(f"{row.where}: `{name}` is no JSON ({error})") from error
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        if isinstance(fields.get("text"), list):
            labels = [str(label) for label in cast("list[Any]", fields.get("label") or [])]
            texts = [_text(row, name, each) for each in cast("list[Any]", fields["text"])]
            return Options(tuple(texts), tuple(labels if len(labels) == len(texts) else ()))
        there = {key: each for key, each in fields.items() if each is not None}
        texts = [_text(row, name, each) for each in there.values()]
        return Options(tuple(texts), tuple(there))
    if not isinstance(value, list):
        raise RowsError(f"{row.where}: `{name}` is not a list of texts")
    return Options(tuple(_text(row, name, each) for each in cast("list[Any]", value)))


def _text(row: Row, name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        if value is None:
            return ""
        raise RowsError(f"{row.where}: `{name}` is not a list of texts")
    return str(value).strip()


def _places(row: Row, column: str, answer: Any, options: Options) -> set[int]:
    """Return which options an answer names; RowsError unless that is clear."""
    number = len(options.texts)
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < number:
            raise RowsError(
                f"{row.where}: `{column}` {answer} is none of the {number} choices, counted from 0"
            )
        return {answer}
    if not isinstance(answer, str) or not answer.strip():
        raise RowsError(f"{row.where}: `{column}` is not an index or some of {options.letters}")
    readings = _readings(answer.strip(), options)
    if not readings:
        said = f"{row.where}: `{column}` `{answer[:40]}` is none of the {number} choices"
        raise RowsError(f"{said}: no letter from {options.letters}, no index and no option's text")
    if any(each != readings[0] for each in readings):
        ways = " or ".join("".join(options.letters[i] for i in sorted(each)) for each in readings)
        raise RowsError(
            f"{row.where}: `{column}` `{answer[:40]}` can mean {ways}, by letter and by the "
            "options' texts; write an index"
        )
    return readings[0]


def _readings(answer: str, options: Options) -> list[set[int]]:
    """Return which options an answer can mean: by label or letters, by text, or by an index."""
    plain = _plain(answer)
    texts = [{i} for i, each in enumerate(options.texts) if _plain(each) == plain]
    labels = [{i} for i, label in enumerate(options.labels) if label.casefold() == plain]
    if labels:
        return [*labels, *texts]
    bare = answer.strip("().[] ")
    letters = bare.upper() if len(bare) == 1 else bare
    by_letter: list[set[int]] = []
    if _SEVERAL.fullmatch(letters):
        named = re.sub(r"\band\b|[^A-J]", "", letters)
        if set(named) <= set(options.letters) and len(set(named)) == len(named):
            by_letter = [{options.letters.index(each) for each in named}]
    if by_letter or texts:
        return [*by_letter, *texts]
    if _DIGITS.fullmatch(answer) and int(answer) < len(options.texts):
        return [{int(answer)}]
    return []


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
