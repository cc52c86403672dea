"""`posttrain compare A B` of logs: results that other programs wrote, compared as ours are.

No model is loaded and nothing is asked. What is written is a comparison like any other, without
items.jsonl: the items are in the logs.

    runs/compare/<A>-vs-<B>/    comparison.json, logs.json (which files these were)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from eval.logs.find import find_log
from eval.logs.log import Log, LogError, align_logs
from pipeline.commands.comparison_folders import check_target, short_names, target_of
from pipeline.errors import PosttrainError
from pipeline.files.disk_errors import one_line
from pipeline.files.names import COMPARISON
from pipeline.store.manifest import write_json
from pipeline.store.staging import put, staging

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.store.store import Store

_LOGS = "logs.json"


def read_logs(models: Sequence[str]) -> list[Log] | None:
    """Read the logs that a command line names; None where it names models.

    Raises PosttrainError for a log that cannot be read, and for logs beside models.
    """
    logs_or_none: list[Log | None] = []
    for text in models:
        try:
            logs_or_none.append(find_log(Path(text).expanduser()))
        except LogError as error:
            raise PosttrainError("", str(error)) from error
    logs = [log for log in logs_or_none if log is not None]
    if logs and len(logs) < len(models):
        number = next(number for number, log in enumerate(logs_or_none) if log is not None)
        first_model = next(number for number, log in enumerate(logs_or_none) if log is None)
        message = f"is a log of {logs[0].program}, and `{models[first_model]}` is none"
        hint = "compare logs with logs, models with models"
        raise PosttrainError(models[number], message, hint)
    return logs or None


def compare_logs(
    models: Sequence[str],
    logs: Sequence[Log],
    store: Store,
    *,
    tasks: Sequence[str] = (),
    out: Path | None = None,
) -> Path:
    """Compare logs with the first of them on what all have; return the folder of the result.

    models: where they lie, as the command line has it. tasks: only these, without them all.
    out: an earlier comparison there is replaced, and nothing else. Raises PosttrainError.
    """
    from eval.comparison.comparison import compare_results

    programs = list(dict.fromkeys(log.program for log in logs))
    if len(programs) > 1:
        message = f"are logs of {' and '.join(programs)}"
        raise PosttrainError(", ".join(models), message, "compare logs of one program")
    names = _names(models, logs)
    target = target_of(names, store, out)
    check_target(target)
    try:
        results, left_out = align_logs(logs, names, tasks)
        notes = [note for log in logs for note in log.notes]
        result = compare_results(results, names[0], notes=[*notes, *left_out])
    except ValueError as error:
        raise PosttrainError("", str(error)) from error
    with one_line(str(target)), staging(target) as beside:
        check_target(target)
        written = beside / "out"
        written.mkdir()
        content = json.dumps(result.to_json(), indent=1)
        (written / COMPARISON).write_text(content, encoding="utf-8")
        named = [
            {"name": name, "path": str(Path(path).absolute()), "program": log.program,
             "model": log.model}
            for name, path, log in zip(names, models, logs, strict=True)
        ]  # fmt: skip
        write_json(written / _LOGS, {"logs": named, "tasks": list(tasks)})
        put(written, target)
    return target


def _names(models: Sequence[str], logs: Sequence[Log]) -> list[str]:
    """Return what logs are called: as their models, or after their files where these are alike."""
    by_model = [log.model for log in logs]
    return short_names(by_model if len(set(by_model)) == len(logs) else models)
