"""The local data that stages read, every row of it, and what else of theirs has to be there.

Rows are read here, and encoded in rows.py. Imports no torch.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from pipeline.config.blocks import DataBlock
from pipeline.config.field_types import DataForm
from pipeline.config.licence import LicenceBlock
from pipeline.config.stage_config import StageConfig
from pipeline.config.training_stage import TrainingStage
from pipeline.data.encoding.label_balance import check_pair, one_label_problem
from pipeline.data.encoding.pair_labels import check_labels
from pipeline.data.reading.checks import DataCounts, check_data
from pipeline.data.reading.contests import ContestRow, read_contests
from pipeline.data.reading.data_blocks import read_records
from pipeline.data.reading.records import DroppedRow, PreferenceRow, PromptRow, UnpairedRow
from pipeline.data.reading.responses import read_responses
from pipeline.data.reading.tasks import check_task
from pipeline.errors import PosttrainError
from pipeline.recipe.checks.licences import licence_blocks
from pipeline.recipe.recipe import Recipe
from pipeline.stages import stage_of
from pipeline.stages.best_of_n import BestOfNConfig
from pipeline.stages.generate import GenerateConfig, check_columns
from pipeline.stages.label import LabelConfig

INSTALL = "pip install 'posttrain[harness]'"

PAIRS = "pairs"  # the field of stages that measure

_Source = tuple[DataBlock, tuple[DataForm, ...], bool]


def check_recipe_data(recipe: Recipe, names: Sequence[str] | None = None) -> Iterator[str]:
    """Read every local file that the named stages (without names: all) use; yield a line a source.

    What several stages read in the same way is read once. Raises PosttrainError at the first row
    that cannot be used, and where lm-evaluation-harness is asked for and missing. Hub data is not
    fetched, and generated tasks need no check. Imports no torch.
    """
    known: dict[str, DataCounts] = {}
    benchmarks: dict[str, str] = {}
    for name in names if names is not None else recipe.stages:
        if getattr(recipe.stages[name], "harness", ()) and find_spec("lm_eval") is None:
            raise PosttrainError(name, "lm-evaluation-harness is not installed", INSTALL)
        for task in _tasks(recipe.stages[name]):
            if task not in benchmarks:
                benchmarks[task] = check_task(task, recipe.places)
            if benchmarks[task]:
                yield f"{name}: {benchmarks[task]}"
        for source in _sources(recipe.stages[name]):
            block, forms, held_out = source
            if not _is_here(block, recipe) or not forms:
                continue
            key = _what_is_read(source)
            if key not in known:
                known[key] = check_data(block, recipe.places, forms, held_out=held_out)
            if not isinstance(block, LicenceBlock):
                _check_labels(recipe, name, source)
                _check_responses(recipe, name, block)
            yield f"{name}: {known[key]}"
        yield from _check_pairs(recipe, name)
        _check_answers(recipe, name)


def _check_pairs(recipe: Recipe, name: str) -> Iterator[str]:
    """Read the pairs that reward models are to rank; yield a line a source."""
    config = recipe.stages[name]
    blocks = getattr(config, PAIRS, ()) if PAIRS in config.measured_on else ()
    for number, block in enumerate(blocks):
        if not _is_here(block, recipe):
            continue
        rows = list(read_contests(block, recipe.places))
        kept = [row for row in rows if isinstance(row, ContestRow)]
        if not kept:
            message = f"every row of `{block.label}` is dropped"
            raise recipe.error(("stages", name, PAIRS, number), message, "is it the right file?")
        dropped = Counter(row.why for row in rows if isinstance(row, DroppedRow))
        subsets = {row.subset for row in kept if row.subset}
        parts = [f"{len(rows)} rows to rank", *([f"{len(subsets)} subsets"] if subsets else [])]
        parts += [f"{count} dropped ({why})" for why, count in dropped.items()]
        yield f"{name}: {block.label}: {', '.join(parts)}"


def _check_responses(recipe: Recipe, name: str, block: DataBlock) -> None:
    """Raise PosttrainError for a row that `generate`, `label` or `best_of_n` cannot take."""
    config = recipe.stages[name]
    if isinstance(config, GenerateConfig) and block.stage is None:
        for record in read_records(block, recipe.places, ("prompt",)):
            if isinstance(record, PromptRow):
                check_columns(record.where, record.columns)
    if isinstance(config, LabelConfig | BestOfNConfig):
        for row in read_responses([block], recipe.places, written=config.written):
            if isinstance(config, BestOfNConfig):
                config.score_of(row)


def _check_labels(recipe: Recipe, name: str, source: _Source) -> None:
    """Refuse pairs whose `probability` or `margin` the loss of a `dpo` stage cannot use."""
    config = recipe.stages[name]
    if config.stage != "dpo" or not isinstance(config, TrainingStage):
        return
    settings = {**stage_of(config.stage).defaults(config), **config.training_args}
    try:
        check_labels(settings, name, probability=0.5, margin=1.0)
    except PosttrainError:
        pass
    else:
        return  # nothing that a row may say would be refused
    block, forms, held_out = source
    for row in read_records(block, recipe.places, forms, held_out=held_out):
        if isinstance(row, PreferenceRow):
            label = {"probability": row.probability, "margin": row.margin}
            check_labels(settings, row.where, **label)


def _check_answers(recipe: Recipe, name: str) -> None:
    """Refuse rows of a `kto` stage that all have one label, and pairs that it cannot use.

    Nothing is said where some of them are not here: they may have the other label.
    """
    config = recipe.stages[name]
    if config.stage != "kto" or not isinstance(config, TrainingStage):
        return
    forms = stage_of(config.stage).data_forms
    counts, are_all_here = {True: 0, False: 0}, True
    for block in config.sources:
        if not _is_here(block, recipe):
            are_all_here = False
            continue
        for row in read_records(block, recipe.places, forms):
            if isinstance(row, PreferenceRow):
                check_pair(row)
                counts = {label: count + 1 for label, count in counts.items()}
            elif isinstance(row, UnpairedRow):
                counts[row.is_desirable] += 1
    settings = {**stage_of(config.stage).defaults(config), **config.training_args}
    problem = one_label_problem(counts[True], counts[False], settings)
    if problem and are_all_here:
        raise recipe.error(("stages", name, "data"), *problem)


def _is_here(block: DataBlock, recipe: Recipe) -> bool:
    """Whether a source is a file, or rows that a stage has made."""
    return block.file is not None or (block.stage or "$")[1:] in recipe.places.made


def _sources(config: StageConfig) -> Iterator[_Source]:
    """Yield a stage's data blocks, the forms it reads and whether it reads the held-out part."""
    stage = stage_of(config.stage)
    for field in (*config.trained_on, *config.measured_on):
        if field == PAIRS:  # contests of more than two are no rows of any form
            continue
        for block in getattr(config, field, ()):
            forms = stage.forms_for(field, block)
            yield block, forms, field in config.measured_on and block.holdout is not None
    for _, block in licence_blocks(config):
        yield block, ("preference",), block.holdout is not None


def _tasks(config: StageConfig) -> Iterator[str]:
    """Yield the names of the tasks that a stage trains on or asks, each once."""
    fields = (*config.trained_on, *config.measured_on)
    blocks = [block for field in fields for block in getattr(config, field, ())]
    licences = (block for _, block in licence_blocks(config))
    named = [*getattr(config, "tasks", ()), *(block.task for block in (*blocks, *licences))]
    yield from dict.fromkeys(name for name in named if name is not None)


def _what_is_read(source: _Source) -> str:
    """Return a key that is equal where the same rows are read in the same way."""
    block, forms, held_out = source
    return f"{block.model_dump_json(exclude={'weight'})} {forms} {held_out}"
