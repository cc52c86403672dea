"""The rows of training stages, encoded before anything runs just as the stages will encode them.

What a template cannot render, a tokenizer cannot read, or `max_length` leaves no room for is found
here, on all rows. The part of `check` that loads tokenizers, and with them torch: of local models,
and of those that a stage was or will be made from. Where the tokenizer itself is still to be made,
or data is to be fetched, nothing can be said yet.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.checks.keeping import keeping_of
from pipeline.checks.overlaps import evaluations_of
from pipeline.checks.packing import check_packing_of
from pipeline.checks.tools import describe_tools
from pipeline.checks.vocabularies import check_vocabularies
from pipeline.config.new_model import NewModelBlock
from pipeline.config.references import HubModel, LocalModel, StageOutput, model_source
from pipeline.config.stage import StageInput
from pipeline.config.stage_config import WithTemplate
from pipeline.config.training_stage import TrainingOnRows
from pipeline.data.encoding.label_balance import label_metrics, one_label_problem
from pipeline.data.encoding.lengths import describe_rows, is_worth_a_warning
from pipeline.data.reading.tasks import FileRows, task_rows
from pipeline.data.screening.screen import Screen
from pipeline.errors import PosttrainError
from pipeline.machine import threads_of
from pipeline.models.forms import form_of_model, form_of_rows
from pipeline.plan.followers import decontaminate_of
from pipeline.recipe.row_limit import row_limit
from pipeline.recipe.trainer_arguments import trainer_arguments
from pipeline.stages import stage_of
from pipeline.stages.generate import GenerateConfig
from pipeline.stages.rl.config import RolloutStage
from pipeline.stages.rl.unseen import evaluated_prompts
from pipeline.stages.sft import SftConfig
from pipeline.store.hub_lock import model_commits, read_lock
from pipeline.store.lineage import as_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from eval.model import Form
    from pipeline.config.blocks import DataBlock
    from pipeline.config.references import Places
    from pipeline.data.encoding.lengths import RowCounts
    from pipeline.data.encoding.row_table import RowTable
    from pipeline.data.encoding.unpaired import EncodedAnswer
    from pipeline.data.kept_rows import Reading, RowKind
    from pipeline.data.reading.records import Record
    from pipeline.plan.plan import Plan
    from pipeline.store.store import Artifact, Store

    Tell = Callable[[str, str, int, int], None]

_WithRows = TrainingOnRows | RolloutStage | GenerateConfig
_WHOLE_GROUPS = ("reward_model", "dpo", "kto")  # kinds whose epoch leaves out what fills no batch


@dataclass(frozen=True)
class CheckedRows:
    """What a stage will make of its rows. metrics: as the stage will report it."""

    name: str
    counts: RowCounts
    metrics: dict[str, Any]

    @property
    def is_warning(self) -> bool:
        """Whether more than a few rows are lost."""
        return is_worth_a_warning(self.metrics)

    def __str__(self) -> str:
        return f"{self.name}: {'warning: ' if self.is_warning else ''}{describe_rows(self.metrics)}"


@dataclass(frozen=True)
class UncheckedRows:
    """A stage whose rows cannot be encoded yet, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: how long its rows are is known once {self.why}"


def check_rows(
    plan: Plan,
    names: Iterable[str],
    made: Mapping[str, Artifact | None],
    *,
    fetches: bool,
    store: Store | None = None,
    tell: Tell = lambda name, what, done, of_about: None,
) -> Iterator[CheckedRows | UncheckedRows]:
    """Encode the rows of each named stage whose tokenizer and data are here; yield what came of it.

    made: the results that are there, by stage. fetches: whether a tokenizer may be fetched from the
    hub. store: where encoded rows are kept for the stages; None to keep none. tell: called again
    and again with a stage's name, what is encoded, how many rows are and of about how many; it may
    raise. Raises PosttrainError for what would stop the stage.
    """
    checks, chosen = _Checks(plan, made, fetches=fetches, store=store, tell=tell), set(names)
    for name, config in plan.recipe.stages.items():
        if name in chosen and isinstance(config, _WithRows):
            yield checks.rows(name, config)


@dataclass
class _Checks:
    """forms: how the models of stages checked so far will expect to be asked."""

    plan: Plan
    made: Mapping[str, Artifact | None]
    fetches: bool
    store: Store | None
    tell: Tell
    forms: dict[str, Form] = field(default_factory=dict[str, "Form"])
    _tokenizers: dict[str, Any] = field(default_factory=dict[str, Any])
    _by_stage: dict[str, Any] = field(default_factory=dict[str, Any])

    def rows(self, name: str, config: _WithRows) -> CheckedRows | UncheckedRows:
        """Return what a stage will make of its rows, or why that cannot be known yet."""
        places = self.plan.recipe.places
        source = self._tokenizer(_model(config))
        if isinstance(source, str):
            return UncheckedRows(name, source)
        away = [block for block in _blocks(config) if not _is_here(block, places)]
        if away:
            labels = ", ".join(block.label for block in away)
            is_made = away[0].stage is not None
            until = "has run" if is_made else "is fetched from the hub"
            return UncheckedRows(name, f"{labels} {until}")
        reading = self._reading(name, config)
        tokenizer = self._with_templates(name, config, self._load(source), reading)
        self._by_stage[name] = tokenizer
        if isinstance(config, RolloutStage):
            check_vocabularies(self.plan.recipe, name, config, tokenizer, self._find_tokenizer)
        counts, metrics = self._encode(name, config, tokenizer, reading)
        problem = counts.problem()
        if problem:
            field_name = "data" if getattr(config, "data", ()) else "prompts"
            raise self.plan.recipe.error(("stages", name, field_name), *problem)
        if isinstance(config, SftConfig) and config.packing:
            check_packing_of(self.plan, self.made, name, config, counts)
        if config.stage in _WHOLE_GROUPS:
            if counts.num_kept < config.batch_size:
                message = f"`batch_size` {config.batch_size} is more than all "
                message += f"{counts.num_kept} {counts.noun}"
                location = ("stages", name, "batch_size")
                raise self.plan.recipe.error(location, message, "lower `batch_size`")
            metrics["rows_left_out_per_epoch"] = counts.num_kept % config.batch_size
        return CheckedRows(name, counts, metrics)

    def _reading(self, name: str, config: _WithRows) -> Reading:
        from pipeline.data.kept_rows import Reading
        from pipeline.data.reading.data_blocks import read_held_out_records
        from pipeline.data.training_sources import Mixture

        recipe = self.plan.recipe
        forms = stage_of(config.stage).forms_of(config)
        seed = recipe.seed if config.seed is None else config.seed
        screen = self._screen(name, config)
        mixture = Mixture(config.sources, recipe.places, forms, screen, seed=seed)

        def held_out() -> list[Record]:
            if isinstance(config, RolloutStage):
                stage, asks = stage_of(config.stage), "prompt" in forms
                return evaluated_prompts(config, recipe.places, stage) if asks else []
            assert isinstance(config, TrainingOnRows)
            return read_held_out_records(config, recipe.places, forms)

        keeping = None
        # What is dropped may depend on items of the hub, which are not fetched here.
        drops = decontaminate_of(recipe, name) == "drop" and evaluations_of(recipe, name)
        if self.store is not None and not drops:
            keeping = keeping_of(self.plan, name, self.store)
        return Reading(mixture, held_out, forms, keeping)

    def _with_templates(
        self,
        name: str,
        config: _WithRows,
        tokenizer: Any,
        reading: Reading,
    ) -> Any:
        """Return a tokenizer with the chat templates of the stages before and of this one."""
        is_trained = isinstance(config, TrainingOnRows)
        before = self._before(_model(config))
        stages = [*before, name]
        if tokenizer.chat_template and not any(map(self._has_template, stages)):
            return tokenizer
        from pipeline.models.chat_templates import decides_by_rows, give_template

        recipe, tokenizer = self.plan.recipe, deepcopy(tokenizer)
        commits = model_commits(recipe.path)
        for stage_name in stages:
            stage = recipe.stages[stage_name]
            if not isinstance(stage, WithTemplate):
                continue
            is_chat = self.forms.get(stage_name) == "chat"
            if stage_name == name:
                is_chat = (
                    is_trained and decides_by_rows(tokenizer, stage) and reading.needs_template()
                )
            try:
                template = give_template(tokenizer, stage, recipe.places, commits, is_chat=is_chat)
            except PosttrainError as error:
                location = ("stages", stage_name, error.where)
                raise recipe.error(location, error.message, error.hint) from error
            if template.new_tokens and not isinstance(stage, TrainingOnRows):
                message = f"the model has no token `{template.new_tokens[0]}` of the chat template"
                hint = "`stage: sft` with this template adds and trains it"
                raise recipe.error(("stages", stage_name), message, hint)
        return tokenizer

    def _has_template(self, name: str) -> bool:
        stage = self.plan.recipe.stages[name]
        return isinstance(stage, WithTemplate) and bool(
            stage.chat_template or stage.chat_template_kwargs
        )

    def _before(self, reference: str) -> list[str]:
        """Return the stages that a model will have gone through, which have no result yet."""
        names: list[str] = []
        before: Any = reference
        while isinstance(before, str) and before.startswith("$"):
            name = before.removeprefix("$")
            if self.made.get(name) is not None:
                break
            names.insert(0, name)
            before = getattr(self.plan.recipe.stages[name], "model", None)
        return names

    def _load(self, source: StageInput) -> Any:
        """Return a tokenizer, loaded once."""
        if source.path not in self._tokenizers:
            from transformers.utils import logging

            from pipeline.models.load import load_tokenizer

            logging.disable_progress_bar()
            self._tokenizers[source.path] = load_tokenizer(source)
        return self._tokenizers[source.path]

    def _find_tokenizer(self, reference: str) -> Any:
        """Return the tokenizer of a reward model or a teacher; None where it is not here yet."""
        if reference.removeprefix("$") in self._by_stage and reference.startswith("$"):
            return self._by_stage[reference.removeprefix("$")]
        source = model_source(reference, self.plan.recipe.places)
        if isinstance(source, LocalModel):
            return self._load(StageInput(reference, "reward_model", str(source.path)))
        if isinstance(source, StageOutput) and self.made.get(source.name) is not None:
            artifact = self.made[source.name]
            assert artifact is not None
            return self._load(as_input(artifact, artifact.name))
        found = self._tokenizer(reference)
        return None if isinstance(found, str) else self._load(found)

    def _tokenizer(self, reference: str) -> StageInput | str:
        """Return where the tokenizer of a model lies, or what must be done before it is there."""
        plan = self.plan
        try:
            source = model_source(reference, plan.recipe.places)
        except ValueError as error:
            raise PosttrainError(reference, str(error)) from error
        if isinstance(source, LocalModel):
            return StageInput(reference, "policy", str(source.path))
        if isinstance(source, HubModel):
            if not self.fetches:
                return f"the tokenizer of {source.id} is fetched from the hub"
            revision = source.revision or read_lock(plan.recipe.path).get(f"models/{source.id}")
            return StageInput(reference, "policy", source.id, revision=revision)
        artifact, config = self.made.get(source.name), plan.recipe.stages[source.name]
        if artifact is not None:
            return as_input(artifact, source.name)
        before = getattr(config, "model", None)
        if isinstance(before, NewModelBlock):
            before = before.tokenizer
        return self._tokenizer(before) if isinstance(before, str) else f"`{source.name}` has run"

    def _encode(
        self,
        name: str,
        config: _WithRows,
        tokenizer: Any,
        reading: Reading,
    ) -> tuple[RowCounts, dict[str, Any]]:
        from pipeline.data.encoding.prompts import encode_prompts
        from pipeline.data.kept_rows import encode_kept

        recipe = self.plan.recipe
        limit = row_limit(recipe, config)
        if isinstance(config, GenerateConfig):
            form = config.form or self._form(config.model, tokenizer)
            _, report = encode_prompts(reading.mixture, tokenizer, limit=limit, form=form)
            return report, report.metrics()
        settings = trainer_arguments(recipe, config)
        evaluates = settings.get("eval_strategy", "no") not in ("no", False)
        kept = encode_kept(
            self._kind(name, config, tokenizer),
            reading,
            tokenizer,
            limit,
            may_be_none=isinstance(config, RolloutStage) or not evaluates,
            processes=recipe.threads or threads_of(1),
            tell=partial(self.tell, name),
            on_wait=partial(self.tell, name, "waiting", 0, 1),
        )
        if isinstance(config, RolloutStage):
            return kept.report, kept.report.metrics()
        self.forms[name] = form_of_rows(tokenizer, has_conversations=kept.has_conversations)
        labels = self._check_labels(name, settings, kept.trained) if config.stage == "kto" else {}
        metrics = kept.report.metrics() | kept.held_out_report.held_out_metrics()
        return kept.report, metrics | labels

    def _kind(
        self, name: str, config: TrainingOnRows | RolloutStage, tokenizer: Any
    ) -> RowKind[Any]:
        """Return what a stage makes of its rows."""
        from pipeline.data.row_kinds import ANSWERS, EXAMPLES, PAIRS, PARTED_ANSWERS, prompts_asked

        if not isinstance(config, RolloutStage):
            kinds: dict[str, RowKind[Any]] = {"sft": EXAMPLES, "kto": ANSWERS}
            return kinds.get(config.stage, PAIRS)
        if "prompt" not in stage_of(config.stage).forms_of(config):
            return PARTED_ANSWERS
        form = self._form(config.model, tokenizer)
        told = describe_tools(self.plan.recipe, name, config, tokenizer, form)
        return prompts_asked(form, told)

    def _check_labels(
        self, name: str, settings: Mapping[str, Any], rows: RowTable[EncodedAnswer]
    ) -> dict[str, str]:
        """Raise PosttrainError where one label is missing; return a warning about uneven ones."""
        num_desirable = int(rows.column("is_desirable").sum())
        counts = num_desirable, len(rows) - num_desirable
        problem = one_label_problem(*counts, settings)
        if problem:
            raise self.plan.recipe.error(("stages", name, "data"), *problem)
        return label_metrics(*counts, settings)

    def _screen(self, name: str, config: _WithRows) -> Screen | None:
        """Return what takes copies and test items out of the rows; None where nothing is."""
        if isinstance(config, GenerateConfig):
            return None
        recipe = self.plan.recipe
        policy = decontaminate_of(recipe, name)
        if policy != "drop" and not any(block.dedup for block in config.sources):
            return None
        evaluations = evaluations_of(recipe, name) if policy == "drop" else []
        return Screen(policy, evaluations, config.sources, recipe.places, reads_hub=False)

    def _form(self, model: str, tokenizer: Any) -> Form:
        """Return how the model of a reference expects to be asked."""
        name: str | None = model.removeprefix("$") if model.startswith("$") else None
        while name is not None:
            artifact = self.made.get(name)
            if artifact is not None and "form" in artifact.properties:
                return artifact.properties["form"]
            if name in self.forms:
                return self.forms[name]
            stage = self.plan.recipe.stages[name]
            if stage.stage == "pretrain":  # whatever template the tokenizer brings along
                return "document"
            before = getattr(stage, "model", None)
            is_stage = isinstance(before, str) and before.startswith("$")
            name = before.removeprefix("$") if is_stage and isinstance(before, str) else None
        return form_of_model(tokenizer)


def _model(config: _WithRows) -> str:
    model = getattr(config, "model", None)
    assert isinstance(model, str), "a stage that reads rows trains a model that is there"
    return model


def _blocks(config: _WithRows) -> tuple[DataBlock, ...]:
    return config.sources + (() if isinstance(config, GenerateConfig) else config.eval_data)


def _is_here(block: DataBlock, places: Places) -> bool:
    """Whether a source's rows can be read without fetching any."""
    if block.hub is not None:
        return False
    if block.stage is not None:
        return block.stage[1:] in places.made
    if block.task is None:
        return True
    try:
        return all(isinstance(rows, FileRows) for rows in task_rows(block.task, places).values())
    except ValueError:  # said where tasks are checked
        return False
