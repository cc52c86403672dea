"""`posttrain run RECIPE --seeds 1,2,3`: the recipe once per seed, its comparisons pooled over them.

    runs/<recipe>/seed-<n>/             run.json and links, as of any run
    runs/<recipe>/seeds/<stage>.json    a compare stage pooled over the seeds

Each run is an ordinary one with another `seed`: stages with a seed of their own, and those that a
seed does not change, are the same in all of them and run once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eval.comparison.divergence_table import pool_divergence
from eval.comparison.gate import judge
from eval.comparison.paired_results import pair_results
from eval.comparison.pool import PooledComparison, mean_row, pool
from pipeline.errors import PosttrainError
from pipeline.measuring.model_scores import read_items
from pipeline.recipe.recipe import Recipe
from pipeline.recipe.slurm import is_on_slurm
from pipeline.run.outcomes import Outcome
from pipeline.run.runner import Selection, run, run_together
from pipeline.stages.compare import CompareConfig, bounds, read_comparison
from pipeline.store.manifest import write_sealed
from pipeline.store.store import Artifact, Store, verify

_SEEDS_BELOW = 2**32  # as of a recipe's `seed`
_OF_SEEDS = re.compile(r"seeds|seed-\d+")


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read `1,2,3`: whole numbers from 0, each once; PosttrainError for anything else."""
    seeds: list[int] = []
    for part in (part.strip() for part in text.split(",")):
        if not re.fullmatch(r"[0-9]{1,10}", part) or int(part) >= _SEEDS_BELOW:
            raise PosttrainError(
                "--seeds",
                f"`{part[:40]}` is not a seed: a whole number from 0 to {_SEEDS_BELOW - 1}",
                "write for example --seeds 1,2,3",
            )
        if int(part) in seeds:
            raise PosttrainError("--seeds", f"the seed {int(part)} is there twice", "name it once")
        seeds.append(int(part))
    return tuple(seeds)


def run_seeds(
    recipe: Recipe,
    store: Store,
    seeds: Sequence[int],
    *,
    selection: Selection | None = None,
    resume_anyway: bool = False,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
    describe: Callable[[Artifact], str] = lambda artifact: "",
) -> dict[str, PooledComparison]:
    """Run the recipe once per seed; return the selected compare stages, pooled, by name.

    What is returned is written to runs/<recipe>/seeds/<stage>.json: `rows` are those of
    `eval.comparison.pool`, in the order of `seeds`.

    jobs: how many stages run side by side, of several seeds too. Raises as
    `pipeline.run.runner.run` does; a seed that ended is kept, and cached the next time.
    """
    for name in recipe.stages:
        if _OF_SEEDS.fullmatch(name):
            raise recipe.error(
                ("stages", name), f"with --seeds the name `{name}` is taken", "rename the stage"
            )
    options: dict[str, Any] = {"resume_anyway": resume_anyway, "jobs": jobs, "describe": describe}
    selection = selection or Selection()
    if (recipe.jobs if jobs is None else jobs) > 1 or is_on_slurm(recipe):
        recipes = {f"seed {seed}: ": recipe.with_seed(seed) for seed in seeds}
        results = run_together(recipes, store, selection=selection, say=say, **options)
    else:
        results = _run_in_turn(recipe, store, seeds, selection, say, options)
    runs = [{outcome.name: outcome for outcome in outcomes} for outcomes in results]
    pooled: dict[str, PooledComparison] = {}
    folder = store.runs / recipe.name / "seeds"
    for name, outcome in runs[0].items():
        if outcome.artifact.produces == "comparison":
            artifacts = [outcomes[name].artifact for outcomes in runs]
            config = recipe.stages[name]
            assert isinstance(config, CompareConfig)
            pooled[name] = _pool(name, config, seeds, artifacts, store)
            folder.mkdir(exist_ok=True)
            write_sealed(folder / f"{name}.json", pooled[name].to_json())
    return pooled


def _run_in_turn(
    recipe: Recipe,
    store: Store,
    seeds: Sequence[int],
    selection: Selection,
    say: Callable[[str], None],
    options: Mapping[str, Any],
) -> list[list[Outcome]]:
    """Run one seed after another; with --force, what they share is run again once."""
    results: list[list[Outcome]] = []
    for number, seed in enumerate(seeds, 1):
        say(f"seed {seed} ({number} of {len(seeds)})")
        outcomes = run(recipe.with_seed(seed), store, selection=selection, say=say, **options)
        results.append(outcomes)
        made = {outcome.artifact.fingerprint for outcome in outcomes}
        selection = replace(selection, spared=selection.spared | made)
    return results


def _pool(
    name: str,
    config: CompareConfig,
    seeds: Sequence[int],
    artifacts: Sequence[Artifact],
    store: Store,
) -> PooledComparison:
    for artifact in artifacts:
        verify(artifact)
    first = read_comparison(artifacts[0])
    try:
        results = [read_items(artifact.path) for artifact in artifacts]
        rows = pool(results, first.baseline, pass_at=config.pass_at)
        trained_from = {row.model: row.trained_from for row in first.divergence}
        items = [pair_results(seed, first.baseline) for seed in results]
        divergence = pool_divergence(items, trained_from)
        means = [mean_row(row) for row in rows]
        gate = judge(means, bounds(config.gate), first.baseline) if config.gate else None
    except ValueError as error:
        raise PosttrainError(name, str(error)) from error
    return PooledComparison(
        baseline=first.baseline,
        models=first.models,
        seeds=tuple(seeds),
        comparisons=tuple(str(artifact.path.relative_to(store.runs)) for artifact in artifacts),
        rows=tuple(rows),
        gate=gate,
        divergence=tuple(divergence),
    )
