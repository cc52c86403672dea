"""`posttrain check`: whatever can be known to be wrong before anything expensive begins.

Every row of local data is read, and where a tokenizer is there encoded as its stage will encode it.
`run` begins with the same checks (run/runner.py).
"""

from collections.abc import Iterator

from pipeline.checks.data import check_recipe_data
from pipeline.checks.laws import check_laws
from pipeline.checks.models import check_models
from pipeline.checks.questions import check_questions
from pipeline.checks.rows import CheckedRows, check_rows
from pipeline.checks.slurm import check_options
from pipeline.checks.trackers import check_trackers
from pipeline.data.encoding.histogram import histogram
from pipeline.plan.plan import Plan
from pipeline.recipe.checks.judges import check_judges
from pipeline.recipe.slurm import is_on_slurm


def check_all(plan: Plan) -> Iterator[str]:
    """Check a recipe's data, rows and trackers; yield a line for each thing that was looked at.

    Raises PosttrainError at the first thing that would stop a stage. Nothing is fetched.
    """
    recipe = plan.recipe
    pending = [planned.name for planned in plan.stages if planned.artifact is None]
    if is_on_slurm(recipe) and (line := check_options(recipe, pending)):
        yield line
    check_trackers(recipe, recipe.stages)
    check_judges(recipe, pending)
    yield from check_recipe_data(recipe)
    check_questions(recipe, recipe.stages)
    check_laws(plan, recipe.stages)
    made = {planned.name: planned.artifact for planned in plan.stages}
    check_models(plan, recipe.stages, made, fetches=False)
    for rows in check_rows(plan, recipe.stages, made, fetches=False):
        yield str(rows)
        if isinstance(rows, CheckedRows):
            yield from histogram(rows.counts.lengths, rows.counts.limit.max_length)
