"""The plan: recipe + what is on disk -> which stages run and why, which are there already."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any, Literal

from pipeline.config.stage_config import StageConfig
from pipeline.config.training_args import WITHOUT_ROUTER_LOSS, settings_in_use
from pipeline.config.training_stage import TrainingStage
from pipeline.plan.identity import Identifier
from pipeline.recipe.model_facts import is_dense
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.remarks import describe_changed_execution
from pipeline.recipe.trainer_arguments import trainer_arguments
from pipeline.stages import stage_of
from pipeline.stages.pretrain import PretrainConfig
from pipeline.store import checkpoints
from pipeline.store.fingerprint import explain, fingerprint
from pipeline.store.hashed_files import HashedFiles
from pipeline.store.hub_lock import read_lock
from pipeline.store.run_record import last_run
from pipeline.store.store import VERIFIED, Artifact, Store

Status = Literal["cached", "resume", "run"]


@dataclass(frozen=True)
class PlannedStage:
    """What will be done about one stage.

    identity: the payload behind `fingerprint`. inputs: names of the stages that it is built on.
    because: why it is not cached, in the user's words; empty when it is.
    artifact: what is there already, when it is cached.
    ignored: settings that have changed since it was made, and change nothing about it.
    """

    name: str
    config: StageConfig
    identity: Mapping[str, Any]
    inputs: tuple[str, ...]
    fingerprint: str
    path: Path
    status: Status
    because: str
    artifact: Artifact | None
    ignored: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The stage's kind."""
        return self.config.stage

    @property
    def although(self) -> str:
        """Which changed settings a finished stage does not take up; empty if there are none."""
        if not self.ignored:
            return ""
        again = f"--stage {quote(self.name)} --force runs it anew"
        return f"{'; '.join(self.ignored)}: what is stored stays as it is ({again})"


@dataclass(frozen=True)
class Plan:
    """The stages in order. unresolved: hub ids whose commit the run will look up first."""

    recipe: Recipe
    stages: tuple[PlannedStage, ...]
    unresolved: frozenset[str]

    def stage(self, name: str) -> PlannedStage:
        """Return the planned stage of this name."""
        return next(planned for planned in self.stages if planned.name == name)

    def with_made(self, made: Mapping[str, Artifact | None]) -> "Plan":
        """Return the plan whose recipe finds the rows that finished stages made, by stage."""
        folders = {
            name: artifact.path.resolve()
            for name, artifact in made.items()
            if artifact is not None and artifact.produces == "data"
        }
        places = replace(self.recipe.places, made=folders)
        return replace(self, recipe=replace(self.recipe, places=places))


def make(recipe: Recipe, store: Store) -> Plan:
    """Compute every fingerprint and look it up.

    Raises PosttrainError where a file, a model or a task is not there, or a pin does not hold.
    """
    fingerprints: dict[str, str] = {}
    files = HashedFiles(store.root / VERIFIED)
    identifier = Identifier(recipe, fingerprints, read_lock(recipe.path), files)
    last = last_run(store, recipe.run_name)
    planned: dict[str, PlannedStage] = {}
    for name, config in recipe.stages.items():
        payload = identifier.payload(name)
        key = fingerprint(payload)
        fingerprints[name] = key
        if config.pin is not None and config.pin not in (key, key[: len(config.pin)]):
            raise recipe.error(
                ("stages", name, "pin"),
                f"the fingerprint is {key[:16]}, not the pinned {config.pin[:16]}",
                f"`posttrain why {recipe.path} {quote(name)}` names what changed",
            )
        inputs = tuple(dict.fromkeys(reference.name for reference in recipe.references(name)))
        artifact = store.find(config.stage, key)
        status: Status = "cached"
        because, ignored = "", ()
        if artifact is not None:
            ignored = _changes_without_effect(recipe, config, artifact)
        else:
            has_checkpoint = checkpoints.has_any(store.working(config.stage, key).checkpoints)
            status = "resume" if has_checkpoint else "run"
            because = _because(recipe.run_name, name, payload, inputs, planned, last, store)
        planned[name] = PlannedStage(
            name=name,
            config=config,
            identity=payload,
            inputs=inputs,
            fingerprint=key,
            path=store.folder(config.stage, key),
            status=status,
            because=because,
            artifact=artifact,
            ignored=ignored,
        )
    plan = Plan(recipe, tuple(planned.values()), frozenset(identifier.unresolved))
    return plan.with_made({name: stage.artifact for name, stage in planned.items()})


def _changes_without_effect(
    recipe: Recipe, config: StageConfig, artifact: Artifact
) -> tuple[str, ...]:
    """Return what was changed of how a finished stage runs; another stage may have made it."""
    before = artifact.provenance.get("execution", {})
    return tuple(describe_changed_execution(config, config.launch or recipe.launch, before))


def changes(planned: PlannedStage, last: Mapping[str, Any], store: Store) -> list[str] | None:
    """Return a line per difference from the artifact of the last run; None without one."""
    before = last.get(planned.name)
    if before is None:
        return None
    artifact = store.read_manifest(before["kind"], before["fingerprint"])
    return None if artifact is None else explain(artifact.identity, planned.identity)


def _because(
    run_name: str,
    name: str,
    payload: Mapping[str, Any],
    inputs: tuple[str, ...],
    planned: Mapping[str, PlannedStage],
    last: Mapping[str, Any],
    store: Store,
) -> str:
    if name in last:
        artifact = store.read_manifest(last[name]["kind"], last[name]["fingerprint"])
        before = None if artifact is None else artifact.identity
    else:
        before = store.unfinished_identity(run_name, name)
    if before is None:
        return "its last result is gone" if name in last else "first time"
    differences = explain(before, payload)
    if not differences:  # what was stopped, once more
        return "first time"
    own = [line for line in differences if ".artifact: " not in line]
    if own:
        return own[0] if len(own) == 1 else f"{own[0]} (and {len(own) - 1} more)"
    upstream = [f"${needed}" for needed in inputs if planned[needed].status != "cached"]
    return f"{' and '.join(upstream) or 'an input'} changed"


def schedule_of(plan: Plan) -> dict[str, frozenset[str]]:
    """Return for each stage all stages it is built on, directly or not."""
    closure: dict[str, frozenset[str]] = {}
    for planned in plan.stages:
        direct = frozenset(planned.inputs)
        closure[planned.name] = direct.union(*(closure[name] for name in direct))
    return closure


def training_summary(plan: Plan, config: StageConfig) -> dict[str, Any]:
    """Return our defaults below the user's settings, as `plan` prints them."""
    new_model = config.defaults if isinstance(config, PretrainConfig) else {}
    if not isinstance(config, TrainingStage):
        return {}
    arguments = settings_in_use(trainer_arguments(plan.recipe, config))
    ours = stage_of(config.stage).defaults(config).keys() - config.training_args.keys()
    ours -= WITHOUT_ROUTER_LOSS.keys() if is_dense(plan.recipe, config) else set()
    if arguments.get("max_length", 0) is None:
        arguments["max_length"] = "what the model has"
    return {**new_model, **{key: value for key, value in arguments.items() if key in ours}}
