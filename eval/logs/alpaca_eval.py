"""Annotations of AlpacaEval: whose response a judge prefers, a model's or a reference's.

`annotations.json` is a list of {instruction, output_1, generator_1, output_2, generator_2,
preference}; the model is the second of the two. A preference is 1 where the reference wins, 2 where
the model does, 1.5 (0 in old files) a tie, anything between for judges that weigh; null where the
judge failed.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from eval.logs.log import Log, LogError, content_id, number, with_unique_items
from eval.results import ItemResult

PROGRAM = "AlpacaEval"
METRIC = "preferred"  # by the judge, over the reference
FILE = "annotations.json"
_TASK = "alpaca_eval"
_TIE = 1.5


def is_log(value: Any) -> bool:
    """Return whether a JSON file's content are annotations."""
    rows = cast("list[Any]", value) if isinstance(value, list) else []
    first = rows[0] if rows else None
    return isinstance(first, dict) and {"instruction", "preference", "output_2"} <= set(
        cast("dict[str, Any]", first)
    )


def read(path: Path) -> Log:
    """Read annotations of one model by one judge; LogError for anything else."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise LogError(f"{path}: broken JSON: {error}") from error
    if not is_log(rows):
        raise LogError(f"{path}: holds no annotations of {PROGRAM}")
    models = _named(rows, ("generator_2",))
    references = _named(rows, ("generator_1", "generator"))
    judges = _named(rows, ("annotator",))
    for what, found in (("models", models), ("references", references), ("judges", judges)):
        if len(found) > 1:
            said = ", ".join(found)
            raise LogError(f"{path}: holds annotations of {len(found)} {what} ({said}); give one")
    results = with_unique_items(_results(path, rows))
    failed = sum(each.score is None for each in results)
    notes = [f"`{METRIC}`: by the judge {_one(judges)}, over {_one(references)}'s response."]
    if failed:
        notes.append(f"{_one(models)}: {failed} of {len(results)} were not judged: left out.")
    terms = {"the reference": _one(references), "the judge": _one(judges)}
    return Log(PROGRAM, _one(models), results, notes, terms=terms)


def _results(path: Path, rows: Sequence[Any]) -> Iterator[ItemResult]:
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or "instruction" not in row:
            raise LogError(f"{path}: annotation {place} has no `instruction`")
        fields = cast("dict[str, Any]", row)
        preference = number(fields.get("preference"))
        if preference == 0:
            preference = _TIE
        is_judged = preference is not None and 1 <= preference <= 2
        instruction = str(fields["instruction"])
        yield ItemResult(
            task=_TASK,
            item=content_id(instruction),
            metric=METRIC,
            style="zero-shot",
            form="chat",
            prompt=instruction,
            gold=str(fields.get("output_1", "")),
            response=str(fields.get("output_2", "")),
            score=preference - 1 if is_judged and preference is not None else None,
            reason="" if is_judged else f"the judge said {fields.get('preference')}",
            group=str(fields.get("dataset") or ""),
        )


def _named(rows: Sequence[Any], columns: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for row in rows:
        name = next((row[each] for each in columns if row.get(each)), None)
        if name is not None:
            found[str(name)] = None
    return list(found)


def _one(names: Sequence[str]) -> str:
    return names[0] if names else "unnamed"
