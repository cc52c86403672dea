"""`launch: {with: slurm}`: what each job asks for, and what is refused before anything is asked."""

from pathlib import Path

import pytest

from pipeline import load_recipe
from pipeline.errors import PosttrainError
from pipeline.recipe.launching import processes_of
from pipeline.recipe.slurm import in_its_job, option_words
from tests.conftest import TINY

TOP = "launch={with: slurm, sbatch: {partition: gpu, time: 2:00:00}}"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_a_stages_options_are_added_to_those_at_the_top(recipe: Path) -> None:
    own = "stages.sft.launch={with: slurm, sbatch: {time: 4:00:00, gpus: 2}, processes: 2}"
    loaded = load_recipe(recipe, overrides=[TOP, own])
    assert option_words(loaded, "base") == ["--partition=gpu", "--time=2:00:00"]
    assert option_words(loaded, "sft") == ["--partition=gpu", "--time=4:00:00", "--gpus=2"]


def test_in_its_job_a_stage_starts_the_processes_that_it_asks_for(recipe: Path) -> None:
    own = "stages.sft.launch={with: slurm, processes: 2}"
    inside = in_its_job(load_recipe(recipe, overrides=[TOP, own]))
    assert inside.launch.launcher == "in_process"
    block = inside.stages["sft"].launch
    assert block is not None
    assert (block.launcher, block.processes) == ("accelerate", 2)
    assert processes_of(inside, inside.stages["sft"]).count == 2


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["stages.sft.launch=slurm"], "one stage alone cannot run on Slurm"),
        ([TOP, "stages.sft.launch=python"], "where each stage is a job"),
        ([TOP, "jobs=2"], "how many jobs run at once is Slurm's to say"),
        (["launch={with: slurm, sbatch: {dependency: x}}"], "`dependency` is set for each"),
        (["launch={with: slurm, sbatch: {nodes: 2}}"], "one task on one machine"),
        (["launch={with: slurm, sbatch: {exclusive: false}}"], "`exclusive` is false"),
        (["launch={with: slurm, sbatch: {p: gpu}}"], "the long name of an option"),
        (["launch={with: python, sbatch: {partition: gpu}}"], "write `with: slurm`"),
        (
            [TOP, "stages.tokenizer.launch={with: slurm, processes: 2}"],
            "a stage of the kind tokenizer runs in one process",
        ),
    ],
)
def test_what_cannot_be_a_job_is_refused(recipe: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(PosttrainError) as caught:
        load_recipe(recipe, overrides=overrides)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2
