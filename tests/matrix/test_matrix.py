"""The page says what the code does; each architecture that differs in kind is run anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.matrix.architectures import ARCHITECTURES, SUBSET, named
from tests.matrix.bench import COLUMNS, bench
from tests.matrix.cells import STAGES, outcome
from tests.matrix.page import PAGE, Matrix, read, text_of

if TYPE_CHECKING:
    from pathlib import Path

# Of the eighteen cells of an architecture those that reach most of the code.
QUICK = (("LoRA", "sft"), ("full", "pretrain"), ("full", "dpo"), ("full", "evaluate"))


@pytest.fixture(scope="module")
def said() -> Matrix:
    """What the page says of every cell."""
    return read(PAGE.read_text(encoding="utf-8"))


def test_the_page_has_every_cell_of_every_architecture_and_none_is_wrong(said):
    assert list(said) == [each.name for each in ARCHITECTURES]
    for cells in said.values():
        assert list(cells) == [(column, stage) for column in COLUMNS for stage in STAGES]
        assert not [cell for cell, found in cells.items() if found.verdict == "wrong"]


def test_the_page_is_what_the_command_writes(said):
    assert text_of(said) == PAGE.read_text(encoding="utf-8")


# Those whose attention, positions or layers differ most from a Llama's; `make matrix` runs all.
_MOST_UNLIKE = ("gpt2", "gemma2", "mamba")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in _MOST_UNLIKE else pytest.mark.slow) for name in SUBSET],
)
def test_stages_do_what_the_page_says(name, said, tmp_path: Path):
    made = bench(named(name), tmp_path)
    for column, stage in QUICK:
        assert outcome(made, column, stage) == said[name][column, stage], f"{column} {stage}"


@pytest.mark.parametrize("stage", ["dpo", "reward_model"])
def test_dropout_that_a_network_reads_itself_is_off_in_training_on_preferences(stage, tmp_path):
    opt = named("opt")
    made = bench(replace(opt, fields={**opt.fields, "dropout": 0.1}), tmp_path)
    found = outcome(made, "full", stage)
    assert found.verdict == "right", found.said


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_layers_that_take_no_adapter_are_refused_before_training(stage, tmp_path):
    mamba = named("mamba")
    made = bench(mamba, tmp_path)
    path = made.recipe("LoRA", stage)
    asked = path.read_text().replace('["in_proj", "x_proj"]', '"all-linear"')
    path.write_text(asked.replace("./adapter", "./model"))
    found = outcome(made, "LoRA", stage)
    assert found.verdict == "refused"
    assert "'out_proj' is incompatible" in found.said
