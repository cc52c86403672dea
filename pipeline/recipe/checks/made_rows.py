"""What can be known to be wrong with rows that stages make, before any is made.

A stage that reads `$name` must be able to learn from what that stage will write, a score must be
there to choose by, and the rewards of `label` need responses that they are for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.recipe.checks.licences import check_judge, licence_blocks
from pipeline.recipe.checks.measuring import check_rewards
from pipeline.recipe.model_facts import num_positions
from pipeline.stages import stage_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.config.blocks import DataBlock
    from pipeline.config.field_types import DataForm
    from pipeline.config.judge import JudgeBlock
    from pipeline.config.reward_terms import RewardBlock
    from pipeline.config.stage_config import Makes
    from pipeline.recipe.messages import Location
    from pipeline.recipe.recipe import Recipe

_JUDGING = ("label", "best_of_n")  # kinds that read responses with all their columns
_HOW = {
    "preference": "`stage: label` with `pairs: best_worst` makes pairs of responses",
    "unpaired_preference": "`stage: label` with `thumbs: mean` says which are wanted",
}


def check_made_rows(recipe: Recipe, name: str) -> None:
    """Raise PosttrainError, with its place, for the first thing that is wrong with a stage."""
    config = recipe.stages[name]
    for location, block, forms in _sources(recipe, name):
        if block.stage is not None:
            makes = recipe.stages[block.stage[1:]].makes
            if makes is not None:
                _check_form(recipe, location, block, makes, forms)
        elif config.stage in _JUDGING and block.task is not None and location[2] == "data":
            message = f"`{config.stage}` reads responses, and a task has none"
            hint = "sample some with `stage: generate`, and write `$name` of that stage"
            raise recipe.error((*location, "task"), message, hint)
    if config.stage == "generate":
        _check_generate(recipe, name)
    if config.stage == "label":
        _check_label(recipe, name)
    if config.stage == "best_of_n":
        _check_scores(recipe, name)


def _sources(recipe: Recipe, name: str) -> Iterator[tuple[Location, DataBlock, Sequence[DataForm]]]:
    """Yield a stage's data blocks with their places and the forms that are read of each."""
    config = recipe.stages[name]
    stage = stage_of(config.stage)
    for field in (*config.trained_on, *config.measured_on):
        blocks: tuple[DataBlock, ...] = getattr(config, field, ())
        for number, block in enumerate(blocks):
            yield ("stages", name, field, number), block, stage.forms_for(field, block)
    for location, block in licence_blocks(config):
        yield ("stages", name, *location), block, ("preference",)


def _check_form(
    recipe: Recipe,
    location: Location,
    block: DataBlock,
    makes: Makes,
    forms: Sequence[DataForm],
) -> None:
    """Refuse rows of a form that the stage does not read."""
    read = (block.form,) if block.form is not None else forms
    is_answer = makes.form == "prompt_completion" and "chat" in read
    if not forms or "prompt" in read or makes.form in read or is_answer:
        return
    columns = ", ".join(makes.columns)
    message = f"`{block.stage}` makes rows of the form {makes.form} ({columns})"
    if makes.form == "preference" and "chat" in forms:
        hint = f"write `{{stage: {block.stage}, form: preference}}` to learn the chosen ones"
    else:
        hint = next((_HOW[form] for form in read if form in _HOW), "")
    reads = " or ".join(dict.fromkeys(read))
    raise recipe.error(location, f"{message}, and this stage reads {reads}", hint)


def _check_generate(recipe: Recipe, name: str) -> None:
    """Refuse rows that are no prompts, and responses that leave no room for a prompt."""
    config = recipe.stages[name]
    for location, block, _ in _sources(recipe, name):
        if block.form not in (None, "prompt"):
            message = f"`form` {block.form} is not what this stage reads"
            hint = "leave it out; `columns: {prompt: THEIRS}` names the prompt"
            raise recipe.error((*location, "form"), message, hint)
    model, length = getattr(config, "model", ""), getattr(config, "max_new_tokens", 0)
    limit = num_positions(recipe, model)
    if limit is not None and length >= limit:
        message = f"`max_new_tokens` {length} leaves no room in the {limit} positions of `{model}`"
        raise recipe.error(("stages", name, "max_new_tokens"), message, "lower it")


def _check_label(recipe: Recipe, name: str) -> None:
    """Refuse rewards that are for none of the responses."""
    config = recipe.stages[name]
    blocks: tuple[DataBlock, ...] = getattr(config, "data", ())
    sources, tasks, is_known = _behind(recipe, blocks)
    terms: tuple[RewardBlock, ...] = getattr(config, "reward", ())
    verifies = any(term.verify for term in terms)
    # The rows of a file may name any source.
    names = sources if is_known or verifies else None
    check_rewards(recipe, name, "reward", terms, names, tasks)
    judge: JudgeBlock | None = getattr(config, "judge", None)
    if judge is not None:
        check_judge(recipe, ("stages", name, "judge"), judge.label, judge, tasks)
    for number, term in enumerate(terms):
        if term.judge is not None and term.weight:
            location = ("stages", name, "reward", number, "judge")
            of_term = [task for task in tasks if term.is_for(task, ())]
            check_judge(recipe, location, term.label, term.judge, of_term)


def _behind(recipe: Recipe, blocks: Sequence[DataBlock]) -> tuple[list[str], list[str], bool]:
    """Return the sources of the prompts behind some rows, the tasks among them, if all are known.

    Not known are those of files and the hub, whose rows may have a column `source`.
    """
    sources: list[str] = []
    tasks: list[str] = []
    is_known = True
    for block in blocks:
        if block.stage is None:
            sources.append(block.label)
            if block.task is not None:
                tasks.append(block.task)
            is_known = is_known and block.task is not None
            continue
        config = recipe.stages[block.stage[1:]]
        earlier = getattr(config, "prompts", None) or getattr(config, "data", ())
        below, below_tasks, known = _behind(recipe, earlier)
        sources += below
        tasks += below_tasks
        is_known = is_known and known
    return list(dict.fromkeys(sources)), list(dict.fromkeys(tasks)), is_known


def _check_scores(recipe: Recipe, name: str) -> None:
    """Refuse to choose by a column that the rows are known not to have."""
    config = recipe.stages[name]
    by = getattr(config, "by", "")
    for location, block, _ in _sources(recipe, name):
        makes = recipe.stages[block.stage[1:]].makes if block.stage is not None else None
        if makes is None or by != "score" or by in makes.columns:
            continue  # any other may be a column of the prompts' rows
        hint = "`stage: label` without `pairs` gives responses a `score`"
        message = f"`{block.stage}` makes no column `{by}` ({', '.join(makes.columns)})"
        raise recipe.error(location, message, hint)
