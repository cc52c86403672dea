"""What decides the rows that a training stage reads, so that they are encoded once for all runs.

Hashed already are files, tasks and commits of the hub: they stand in a stage's identity. Imports no
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.checks.overlaps import evaluations_of
from pipeline.config.keeping import Keeping
from pipeline.config.training_stage import TrainingOnData
from pipeline.data.encoding.made_with import made_with
from pipeline.plan.followers import decontaminate_of, measuring_stages
from pipeline.plan.identity import Identifier
from pipeline.stages.rl.config import RolloutStage
from pipeline.store.fingerprint import canonical
from pipeline.store.hashed_files import BIG_BYTES, HashedFiles
from pipeline.store.hub_lock import UNRESOLVED, read_lock
from pipeline.store.kept import ENCODED, find, find_or_make
from pipeline.store.store import VERIFIED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipeline.config.blocks import DataBlock
    from pipeline.config.references import Places
    from pipeline.data.screening.evaluation_items import Evaluation
    from pipeline.plan.plan import Plan
    from pipeline.store.store import Store

_CHECKED_WITH = ("dpo", "kto")  # kinds whose rows are checked against `training_args`
_OF_ROWS = ("data", "prompts", "eval_data", "leaves_out")
_WithRows = TrainingOnData | RolloutStage


def keeping_of(plan: Plan, name: str, store: Store) -> Keeping | None:
    """Return where the encoded rows of a stage are kept; None where that is not for it, or unknown.

    Rows with weights are drawn by the seed.
    """
    planned = plan.stage(name)
    config = planned.config
    if not isinstance(config, _WithRows):
        return None
    blocks = (*config.sources, *config.eval_data)
    reads: dict[str, Any] = {
        **{key: planned.identity[key] for key in _OF_ROWS if key in planned.identity},
        "called": [block.label for block in blocks],
        "seed": planned.identity["seed"] if any(block.weight for block in blocks) else None,
    }
    files = HashedFiles(store.root / VERIFIED)
    screened = _screened(plan, name, config, reads, files)
    if f'"{UNRESOLVED}"' in canonical([reads, screened]):
        return None
    return Keeping(store.root / ENCODED, reads, screened, planned.path.name)


def was_checked(plan: Plan, name: str, store: Store) -> bool:
    """Whether every row that a stage reads has been read and found good, by the same rules."""
    payload = _check_of(plan, name, store)
    reader = plan.stage(name).path.name
    return payload is not None and find(store.root / ENCODED, payload, reader=reader) is not None


def note_checked(plan: Plan, name: str, store: Store) -> None:
    """Note that every row that a stage reads is good, where it takes seconds to find out."""
    payload = _check_of(plan, name, store)
    if payload is not None:
        reader = plan.stage(name).path.name
        find_or_make(store.root / ENCODED, payload, lambda _: {}, reader=reader)


def _check_of(plan: Plan, name: str, store: Store) -> dict[str, Any] | None:
    """Return what decides whether rows are good; None where that is not known, or soon seen."""
    planned = plan.stage(name)
    config = planned.config
    if not isinstance(config, _WithRows) or not _is_big(config, plan.recipe.places):
        return None
    keeping = keeping_of(plan, name, store)
    if keeping is None:
        return None
    args = planned.identity["training_args"] if planned.kind in _CHECKED_WITH else None
    return {
        "what": "checked",
        "stage": planned.kind,
        "reads": keeping.reads,
        "training_args": args,
        "reward": planned.identity.get("reward"),  # with the pairs that its terms are examined on
        "made_with": made_with(),
    }


def _is_big(config: _WithRows, places: Places) -> bool:
    paths = [places.file(block.file) for block in config.sources if block.file is not None]
    return sum(path.stat().st_size for path in paths if path.is_file()) >= BIG_BYTES


def _screened(
    plan: Plan, name: str, config: _WithRows, reads: Mapping[str, Any], files: HashedFiles
) -> dict[str, Any] | None:
    """Return what rows are compared with, and the rows; None where nothing is noted of them."""
    recipe = plan.recipe
    evaluations = evaluations_of(recipe, name)
    if not evaluations and not any(block.dedup for block in config.sources):
        return None
    fingerprints = {planned.name: planned.fingerprint for planned in plan.stages}
    identifier = Identifier(recipe, fingerprints, read_lock(recipe.path), files)
    return {
        "reads": reads,
        "policy": decontaminate_of(recipe, name),
        "asked": [identifier.questions(later) for later in measuring_stages(recipe, name)],
        "evaluations": [_as_json(evaluation) for evaluation in evaluations],
    }


def _as_json(evaluation: Evaluation) -> dict[str, Any]:
    def dumped(blocks: Sequence[DataBlock]) -> list[Any]:
        return [block.model_dump(mode="json", exclude_none=True) for block in blocks]

    return {
        "stage": evaluation.stage,
        "tasks": list(evaluation.tasks),
        "texts": dumped(evaluation.texts),
        "prompts": dumped(evaluation.prompts),
        "pairs": dumped(evaluation.pairs),
        "limit": evaluation.limit,
        "harness": list(evaluation.harness),
    }
