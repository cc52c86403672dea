"""`posttrain compare A B`: models against each other without a recipe.

The compare stage does the work, in this process and in a folder that is not in the store: nothing
is cached, and the same command asks again.

    runs/compare/<A>-vs-<B>/    comparison.json, items.jsonl, log.txt, stage.json (what was asked of
    which models)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pipeline.commands.comparison_folders import check_target, short_names, target_of
from pipeline.commands.named_model import resolve_model
from pipeline.config.references import Places
from pipeline.data.reading.tasks import load_task
from pipeline.errors import PosttrainError
from pipeline.files.disk_errors import one_line
from pipeline.run import progress
from pipeline.run.interrupt import stop_requests
from pipeline.run.request import Request, write_request
from pipeline.run.resume import execution_of
from pipeline.run.worker import execute
from pipeline.stages.compare import CompareConfig
from pipeline.store.staging import put, staging
from pipeline.store.store import Store, Working

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def compare_models(
    models: Sequence[str],
    store: Store,
    *,
    settings: Mapping[str, Any],
    out: Path | None = None,
    seed: int = 0,
    roots: Mapping[str, Path] | None = None,
) -> Path:
    """Compare models with the first of them; return the folder of the result.

    models: folders, hub ids or finished stages of recipes, as `named_model` reads them.
    settings: fields of the compare stage (`tasks`, `texts`, `limit`, ...), paths from the current
    folder. out: an earlier comparison there is replaced, and nothing else.
    Raises PosttrainError for what the user can mend, InterruptedRunError when asked to stop.
    """
    names = short_names(models)
    config = _config(names, settings)
    for task in config.tasks:
        try:
            load_task(task, Places(Path.cwd(), roots or {}))
        except ValueError as error:
            raise PosttrainError("--tasks", str(error)) from error
    sources = [
        replace(resolve_model(text, store, roots=roots), name=name)
        for text, name in zip(models, names, strict=True)
    ]
    target = target_of(names, store, out)
    check_target(target)
    request = Request(
        run="compare",
        name="compare",
        config=config,
        seed=seed,
        inputs={source.name: source for source in sources},
        places=Places(Path.cwd(), {name: path.resolve() for name, path in (roots or {}).items()}),
        execution=execution_of(config),
    )
    with one_line(str(target)), staging(target) as beside:
        check_target(target)  # a killed one's earlier comparison is back by now
        working = Working(beside)
        working.start_over()
        write_request(working.request, request)
        with stop_requests() as should_stop, progress.show_progress("compare") as show:
            execute(working, show=show, should_stop=should_stop)
        working.request.rename(working.out / working.request.name)
        put(working.out, target)
    return target


def _config(names: Sequence[str], settings: Mapping[str, Any]) -> CompareConfig:
    fields = {
        "stage": "compare",
        "baseline": f"${names[0]}",
        "candidates": [f"${name}" for name in names[1:]],
        **settings,
    }
    try:
        return CompareConfig.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        option = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else ""
        message = first["msg"].removeprefix("Value error, ")
        message = f"{message[:1].lower()}{message[1:]}"  # pydantic writes whole sentences
        raise PosttrainError(option or "posttrain compare", message) from error
