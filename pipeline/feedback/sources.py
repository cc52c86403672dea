"""What a labeller is shown responses of: finished stages that made rows, or files of them.

    mine.yaml:sampled   a stage: `generate`, `label`; the judges of the recipe that labelled the
                        same rows are found beside it
    runs/mine/sampled   its folder
    mine.jsonl          a data file with `prompt` and `completion`, or with pairs

A row with `chosen` and `rejected` is two responses; which of them somebody preferred is votes.py's
subject. Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.commands.export import finished_artifact
from pipeline.config.shipped_recipes import is_shipped, list_shipped_recipes
from pipeline.data.making.rows import COMPARED, COMPLETION, PAIRED, REVISED, SAMPLED, SCORED, THUMBS
from pipeline.data.reading.fields import list_names
from pipeline.data.reading.files import Row, file_rows
from pipeline.data.reading.responses import SOURCE, refuse_columns, response_row
from pipeline.errors import PosttrainError, closest
from pipeline.feedback.decisions import WRITTEN
from pipeline.feedback.pairs import Response
from pipeline.files.names import ROWS
from pipeline.plan.plan import make
from pipeline.recipe.load import load
from pipeline.stages import stage_of
from pipeline.store.store import is_finished, read, verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pipeline.plan.plan import Plan
    from pipeline.store.store import Artifact, Store

_RECIPE_FILES = (".yaml", ".yml")
_DATA_FILES = (".jsonl", ".json", ".csv", ".parquet", ".gz")
_FORMS = "name a stage as `recipe.yaml:stage`, its folder, or a file of responses"
_PAIR = ("chosen", "rejected")
_MAKE_RESPONSES = ("generate", "label")
# Columns that are one response's or a judge's, not the prompt's.
_OF_STAGES = (*COMPLETION, *SAMPLED, *SCORED, *PAIRED, *THUMBS, *COMPARED)
_OWN = frozenset({*_OF_STAGES, *REVISED, "margin"}) - {SOURCE}


@dataclass(frozen=True)
class Source:
    """Rows to label. name: for people. path: of the rows. folder: where labels go by default.

    judged: rows of the same responses that stages of the recipe labelled, by the stage's name; of
    a stage that labels, its own.
    """

    name: str
    path: Path
    folder: Path
    stem: str
    judged: Mapping[str, Path] = field(default_factory=dict[str, Path])


def find_source(text: str, store: Store, roots: Mapping[str, Path]) -> Source:
    """Return what a name of the command line stands for; PosttrainError where there is nothing."""
    recipe, colon, stage = text.rpartition(":")
    if colon and (recipe.endswith(_RECIPE_FILES) or recipe in list_shipped_recipes()):
        return _of_recipe(make(load(Path(recipe), roots=roots), store), stage)
    if text.endswith(_RECIPE_FILES) or text in list_shipped_recipes():
        plan = make(load(Path(text), roots=roots), store)
        raise PosttrainError(text, "is a recipe, not a stage", _name_stages(plan))
    path = Path(text)
    if path.is_dir() and is_finished(path.resolve()):
        artifact = read(path.resolve())
        own = {artifact.name: _rows_of(artifact, text)} if artifact.kind == "label" else {}
        return Source(artifact.name, _rows_of(artifact, text), Path(), artifact.name, own)
    if path.is_dir():
        raise PosttrainError(text, "is no folder of a finished stage", _FORMS)
    if not path.exists():
        raise PosttrainError(text, "there is no such stage, folder or file", _FORMS)
    if not text.endswith(_DATA_FILES):
        raise PosttrainError(text, "is no file of rows", _FORMS)
    return Source(path.name, path, path.parent, path.name.partition(".")[0], {path.name: path})


def read_responses_of(source: Source) -> Iterator[Response]:
    """Yield the responses of a source; PosttrainError for a row that has none."""
    for row in file_rows(source.path, source.name):
        for half in halves(row):
            missing = [name for name in COMPLETION if name not in half.fields]
            if missing:
                message = f"no column `{missing[0]}`; {list_names('columns', row.fields)}"
                hint = "a row has `prompt` and `completion`, or `prompt`, `chosen` and `rejected`"
                raise PosttrainError(row.where, message, hint)
            yield Response(response_row(half, source.name), source.name)


def halves(row: Row) -> list[Row]:
    """Return a pair as its chosen and its rejected response; another row as it is."""
    fields = row.fields
    if "completion" in fields or any(name not in fields for name in _PAIR):
        return [row]
    rest = {name: value for name, value in fields.items() if name not in _PAIR}
    return [replace(row, fields={**rest, "completion": fields[name]}) for name in _PAIR]


def prompt_columns(response: Response) -> dict[str, Any]:
    """Return the columns of a response's row that are its prompt's, and where that is from."""
    row = response.row
    columns = {name: value for name, value in row.fields.items() if name not in _OWN}
    refuse_columns(Row(row.where, columns), WRITTEN)
    columns.setdefault(SOURCE, row.source)
    try:
        json.dumps(columns, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        message = f"a column cannot be written as JSON: {error}"
        raise PosttrainError(row.where, message, "take it out of the data") from error
    return columns


def _of_recipe(plan: Plan, name: str) -> Source:
    path = plan.recipe.path
    if name not in plan.recipe.stages:
        hint = closest(name, plan.recipe.stages) or _name_stages(plan)
        raise PosttrainError(str(path), f"there is no stage `{name}`", hint)
    planned = plan.stage(name)
    if stage_of(planned.kind).produces != "data":
        message = f"`{name}` makes no rows ({stage_of(planned.kind).produces.replace('_', ' ')})"
        raise PosttrainError(str(path), message, _name_stages(plan))
    artifact = finished_artifact(plan, name)
    judged = {
        other.name: other.artifact
        for other in plan.stages
        if other.kind == "label" and other.artifact is not None and _reads(plan, other.name, name)
    }
    folder = Path() if is_shipped(path) else path.parent
    own = {name: artifact} if planned.kind == "label" else judged
    rows = {stage: _rows_of(made, f"{path}:{stage}") for stage, made in own.items()}
    return Source(name, _rows_of(artifact, f"{path}:{name}"), folder, f"{path.stem}-{name}", rows)


def _reads(plan: Plan, name: str, other: str) -> bool:
    """Whether a stage builds on another one's result."""
    return any(reference.name == other for reference in plan.recipe.references(name))


def _rows_of(artifact: Artifact, text: str) -> Path:
    if ROWS not in artifact.files:
        message = f"has no rows ({artifact.produces.replace('_', ' ')})"
        raise PosttrainError(text, message, _FORMS)
    verify(artifact)
    return artifact.path.resolve() / ROWS


def _name_stages(plan: Plan) -> str:
    names = [planned.name for planned in plan.stages if planned.kind in _MAKE_RESPONSES]
    listed = ", ".join(f"`{plan.recipe.path}:{name}`" for name in names)
    return f"name one of {listed}" if names else "it has no stage `generate` or `label`"
