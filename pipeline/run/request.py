"""stage.json: what a worker is asked to do, written by whoever starts it and read by the worker.

A stage of a run (stage_run.py) and a comparison without a recipe (commands/compare_models.py) are
both asked for with a Request.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.blocks import DataBlock
from pipeline.config.keeping import Keeping
from pipeline.config.references import Places
from pipeline.config.sharding import Sharding
from pipeline.config.stage import StageInput
from pipeline.data.screening.evaluation_items import Evaluation
from pipeline.run.course import Course
from pipeline.stages import stage_for
from pipeline.store.manifest import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.field_types import Decontaminate
    from pipeline.config.stage_config import StageConfig


@dataclass(frozen=True, kw_only=True)
class Request:
    """One stage, and how it is to run.

    run: the name of its run. fingerprint, identity: "" and None where nothing goes into the store.
    inputs: what the stage is built on, by name. execution: how it runs, as far as that could change
    a number (`resume.execution_of`). sharding: how weights are split over processes, if they are.
    measured_by: what later stages ask the model that it makes.
    resume_from: a whole checkpoint. is_exact: whether nothing has changed since that was written.
    answers: the folder of judges' answers; None outside of a store. keeping: where its encoded rows
    are kept; None where they are not. course: where it stands in its
    run; None outside of one.
    """

    run: str
    name: str
    config: StageConfig
    seed: int
    inputs: Mapping[str, StageInput]
    places: Places
    execution: Mapping[str, Any]
    fingerprint: str = ""
    identity: Mapping[str, Any] | None = None
    processes: int = 1
    sharding: Sharding | None = None
    decontaminate: Decontaminate = "warn"
    measured_by: Sequence[Evaluation] = ()
    resume_from: Path | None = None
    is_exact: bool = True
    answers: Path | None = None
    keeping: Keeping | None = None
    course: Course | None = None


def write_request(path: Path, request: Request) -> None:
    """Write a request as JSON; `clean` reads its `outputs`, the store its run and identity."""
    places = request.places
    write_json(
        path,
        {
            "run": request.run,
            "name": request.name,
            "kind": request.config.stage,
            "fingerprint": request.fingerprint,
            "identity": request.identity,
            "config": request.config.model_dump(mode="json", by_alias=True, exclude_unset=True),
            "seed": request.seed,
            "outputs": {name: asdict(source) for name, source in request.inputs.items()},
            "base": str(places.base),
            "elsewhere": str(places.elsewhere) if places.elsewhere else None,
            "roots": {name: str(folder) for name, folder in places.roots.items()},
            "revisions": dict(places.revisions),
            "execution": request.execution,
            "processes": request.processes,
            "sharding": request.sharding.as_json() if request.sharding else None,
            "decontaminate": request.decontaminate,
            "measured_by": [_evaluation_json(evaluation) for evaluation in request.measured_by],
            "resume_from": str(request.resume_from) if request.resume_from else None,
            "is_exact": request.is_exact,
            "answers": str(request.answers) if request.answers else None,
            "keeping": _keeping_json(request.keeping) if request.keeping else None,
            "course": asdict(request.course) if request.course else None,
        },
    )


def read_request(path: Path) -> Request:
    """Read a request back. ValueError for a stage of the user's own whose code is wrong."""
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    base, elsewhere, resume_from = record["base"], record["elsewhere"], record["resume_from"]
    config = stage_for(record["kind"], Path(base)).config
    inputs = {name: StageInput(**fields) for name, fields in record["outputs"].items()}
    return Request(
        run=record["run"],
        name=record["name"],
        config=config.model_validate_json(json.dumps(record["config"])),
        seed=record["seed"],
        inputs=inputs,
        places=Places(
            Path(base),
            {name: Path(folder) for name, folder in record["roots"].items()},
            record["revisions"],
            Path(elsewhere) if elsewhere else None,
            {name: Path(source.path) for name, source in inputs.items() if source.kind == "data"},
        ),
        execution=record["execution"],
        fingerprint=record["fingerprint"],
        identity=record["identity"],
        processes=record["processes"],
        sharding=Sharding(**record["sharding"]) if record["sharding"] else None,
        decontaminate=record["decontaminate"],
        measured_by=[_evaluation(fields) for fields in record["measured_by"]],
        resume_from=Path(resume_from) if resume_from else None,
        is_exact=record["is_exact"],
        answers=Path(record["answers"]) if record["answers"] else None,
        keeping=_keeping(record["keeping"]) if record["keeping"] else None,
        course=Course(**record["course"]) if record["course"] else None,
    )


def _keeping_json(keeping: Keeping) -> dict[str, Any]:
    return {**asdict(keeping), "folder": str(keeping.folder)}


def _keeping(fields: Mapping[str, Any]) -> Keeping:
    return Keeping(**{**fields, "folder": Path(fields["folder"])})


def _evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    blocks = {
        field: [block.model_dump(mode="json", exclude_unset=True) for block in sources]
        for field, sources in (
            ("texts", evaluation.texts),
            ("prompts", evaluation.prompts),
            ("pairs", evaluation.pairs),
        )
    }
    return {
        "stage": evaluation.stage,
        "tasks": list(evaluation.tasks),
        **blocks,
        "limit": evaluation.limit,
        "harness": list(evaluation.harness),
    }


def _evaluation(fields: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        stage=fields["stage"],
        tasks=tuple(fields["tasks"]),
        texts=tuple(DataBlock.model_validate(block) for block in fields["texts"]),
        prompts=tuple(DataBlock.model_validate(block) for block in fields["prompts"]),
        pairs=tuple(DataBlock.model_validate(block) for block in fields["pairs"]),
        limit=fields["limit"],
        harness=tuple(fields["harness"]),
    )
