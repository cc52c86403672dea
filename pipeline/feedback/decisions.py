"""What a labeller decided, a JSON object a line, and the preferences that are made of it.

    mine-preferences.jsonl             prompt, chosen, rejected: what reward_model, dpo, kto read
    mine-preferences.decisions.jsonl   every decision, ties, second times and what was taken back
                                       among them

The second file is only ever added to, and the first follows from it. Writing is record.py's
subject.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import PosttrainError
from pipeline.files.plain_files import other_than_a_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Verdict = Literal["first", "second", "tie", "skip"]

# What is written beside a preference's responses and the columns of its prompt.
WRITTEN = ("labeller", "when", "seconds")
Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Decision(BaseModel):
    """One pair, decided.

    pair: its key. showing: 1, or 2 when it was shown again. seconds: it was looked at.
    sources: where the first and the second response are from. columns: of the prompt's row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    pair: str
    showing: Literal[1, 2]
    verdict: Verdict
    labeller: str
    when: str
    seconds: Seconds
    sources: list[str]
    prompt: Any
    first: Any
    second: Any
    columns: dict[str, Any]

    @property
    def chosen(self) -> Any:
        """The response that is preferred; None where neither is."""
        return {"first": self.first, "second": self.second}.get(self.verdict)

    @property
    def rejected(self) -> Any:
        """The other one; None where neither is preferred."""
        return {"first": self.second, "second": self.first}.get(self.verdict)

    @property
    def is_preference(self) -> bool:
        """Whether something can be learnt from it: the second time only measures the labeller."""
        return self.chosen is not None and self.showing == 1

    def line(self) -> bytes:
        """Return it as a line of the file of decisions."""
        return _line(self.model_dump())

    def preference(self) -> bytes:
        """Return it as a line of the file of preferences; nothing where it is none."""
        if not self.is_preference:
            return b""
        row = {"prompt": self.prompt, "chosen": self.chosen, "rejected": self.rejected}
        said = {name: getattr(self, name) for name in WRITTEN}
        return _line({**row, **self.columns, **said})


class TakenBack(BaseModel):
    """The last decision, taken back."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    taken_back: str
    showing: Literal[1, 2]
    when: str

    def line(self) -> bytes:
        """Return it as a line of the file of decisions."""
        return _line(self.model_dump())


def decisions_path(preferences: Path) -> Path:
    """Return the file of decisions beside one of preferences."""
    return preferences.with_name(f"{preferences.stem}.decisions.jsonl")


def text_of(response: Any) -> str:
    """Return the text of a response, which may be a list of one message."""
    return response if isinstance(response, str) else response[0]["content"]


def read_decisions(path: Path) -> list[Decision]:
    """Return the decisions that stand, in order; none where there is no file.

    A last line that is not whole was never told to be saved, and is passed over. Raises
    PosttrainError for any other line that is not of `posttrain label`.
    """
    kind = other_than_a_file(path)
    if kind is not None:
        raise PosttrainError(str(path), f"is {kind}", "name another file with --out")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    return parse_decisions(content, str(path))


def parse_decisions(content: bytes, name: str) -> list[Decision]:
    """Return the decisions that stand in a file's content. name: of the file, for errors."""
    decisions: list[Decision] = []
    lines = content[: content.rfind(b"\n") + 1].split(b"\n")[:-1]
    for number, line in enumerate(lines, 1):
        where = f"{name}:{number}"
        found = _parse(line, where)
        if isinstance(found, Decision):
            decisions.append(found)
        elif not decisions or (decisions[-1].pair, decisions[-1].showing) != (
            found.taken_back,
            found.showing,
        ):
            message = "takes back another decision than the one before it"
            raise PosttrainError(where, message, "bring back the file as it was written")
        else:
            decisions.pop()
    return decisions


def preferences_of(decisions: Sequence[Decision]) -> bytes:
    """Return the file of preferences that decisions come to."""
    return b"".join(decision.preference() for decision in decisions)


def _parse(line: bytes, where: str) -> Decision | TakenBack:
    kind = TakenBack if line.startswith(b'{"taken_back"') else Decision
    try:
        return kind.model_validate(json.loads(line))
    except (ValueError, RecursionError) as error:
        message = "is no decision of `posttrain label`"
        if isinstance(error, ValidationError):
            first = error.errors(include_url=False)[0]
            message += f" ({'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']})"
        hint = "bring back the file as it was written, or name another with --out"
        raise PosttrainError(where, message, hint) from error


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
