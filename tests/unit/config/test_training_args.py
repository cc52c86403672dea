"""What becomes of upstream's training arguments, each of which needs a decision."""

from pathlib import Path

import pytest

from pipeline.config import trainer_fields as upstream
from pipeline.config.trainer_fields import fields
from pipeline.config.training_args import (
    EXECUTION_KEYS,
    HARMLESS_ON_RESUME,
    OURS,
    identity,
    ours,
    problem,
)
from pipeline.stages import BUILT_IN, stage_of
from tests.golden.contents import stored, trainer_fields, trainers

SYNCHRONISED = ("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps")


@pytest.mark.parametrize("class_name", trainers())
def test_every_field_of_upstream_is_execution_or_ours_or_identity_on_purpose(
    class_name: str,
) -> None:
    before, now = stored("trainer_fields")[class_name], trainer_fields()[class_name]
    assert now == before, (
        f"{class_name} or its sorts changed: put each new field into EXECUTION_KEYS (changes no "
        "result) or OURS (not the recipe's to set) in pipeline/config/training_args.py, or leave "
        "it identity; then run `make golden`"
    )


def test_no_field_is_both_execution_and_ours() -> None:
    """What one class refuses besides may be execution for the others."""
    assert EXECUTION_KEYS.isdisjoint(OURS)
    assert HARMLESS_ON_RESUME <= EXECUTION_KEYS


def test_execution_and_ours_name_only_fields_that_upstream_has() -> None:
    known = {name for class_name in trainers() for name in fields(class_name)}
    not_here = {key for class_name in trainers() for key in ours(class_name)}
    assert EXECUTION_KEYS | not_here <= known, (EXECUTION_KEYS | not_here) - known


@pytest.mark.parametrize("kind", BUILT_IN)
def test_our_own_defaults_are_what_a_recipe_may_set(kind: str) -> None:
    stage = stage_of(kind)
    for key, value in stage.training_defaults.items():
        assert stage.trainer is not None
        assert value is None or problem(key, value, stage.trainer) is None  # None: the model says


def test_a_default_of_ours_counts_like_the_same_value_in_a_recipe() -> None:
    defaults = {"learning_rate": 1e-3, "logging_steps": 10}
    assert identity({}, defaults) == identity({"learning_rate": 1e-3}, defaults)
    assert identity({"logging_steps": 1}, defaults) == identity({}, defaults)
    assert identity({"learning_rate": 2e-3}, defaults) != identity({}, defaults)


def test_a_number_is_one_value_however_it_is_written() -> None:
    """In the form that results were made with: a default's own, else that of a whole number."""
    defaults = {"num_train_epochs": 1, "router_aux_loss_coef": 0.0}
    for given, canonical in (
        ({"weight_decay": 0.0}, {**defaults, "weight_decay": 0}),
        ({"weight_decay": 0}, {**defaults, "weight_decay": 0}),
        ({"num_train_epochs": 1.0}, defaults),
        ({"num_train_epochs": 2.0}, {**defaults, "num_train_epochs": 2}),
        ({"router_aux_loss_coef": 0}, defaults),
        ({"learning_rate": 1e-3}, {**defaults, "learning_rate": 1e-3}),
        ({"learning_rate": 1e300}, {**defaults, "learning_rate": 1e300}),
        ({"dataloader_drop_last": True}, {**defaults, "dataloader_drop_last": True}),
    ):
        assert repr(sorted(identity(given, defaults).items())) == repr(sorted(canonical.items()))


@pytest.mark.parametrize(
    ("key", "taken"),
    [
        ("learning_rate", {int, float}),
        ("max_steps", {int}),
        ("dataloader_drop_last", {bool}),
        ("optim_args", {str}),
        ("lr_scheduler_kwargs", {dict, str}),
    ],
)
def test_a_value_of_another_type_is_refused(key: str, taken: set[type]) -> None:
    for value in (1, 0.5, "1e-4", True, {"a": 1}, [1]):
        found = problem(key, value, "SFTConfig")
        assert (found is None) == (type(value) in taken), (key, value, found)


def test_a_value_that_is_none_of_the_choices_is_refused_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "class Mine:\n    layout: Literal['auto', 'shared'] | None = 'auto'\n"
    (tmp_path / "config.py").write_text(source)
    monkeypatch.setitem(upstream._HOMES, "Mine", ("pipeline", str(tmp_path / "config.py")))
    assert problem("layout", "shared", "Mine") is None
    assert problem("layout", None, "Mine") is None
    said = ("`layout` is `shred`, not `auto` or `shared`", "did you mean `shared`?")
    assert problem("layout", "shred", "Mine") == said
    assert problem("layout", 3, "Mine") == (
        "`layout` is 3, not `auto` or `shared`",
        "write one of these",
    )


@pytest.mark.parametrize(
    ("class_name", "key", "why"),
    [
        *(("DPOConfig", key, "is in no checkpoint") for key in SYNCHRONISED),
        *(("KTOConfig", key, "is in no checkpoint") for key in SYNCHRONISED),
        ("DPOConfig", "train_sampling_strategy", "each epoch has a new order"),
        ("RewardConfig", "train_sampling_strategy", "each epoch has a new order"),
        ("KTOConfig", "train_sampling_strategy", "each epoch has a new order"),
    ],
)
def test_what_a_trainer_of_preferences_could_not_resume_or_would_not_look_at_is_refused(
    class_name: str, key: str, why: str
) -> None:
    found = problem(key, "random" if key.startswith("train") else 1, class_name)
    assert found is not None
    assert found[0] == f"`{key}` cannot be set in `training_args`"
    assert why in found[1]
