"""What DeepSpeed splits is what `launch` asks for, or the stage ends."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config.deepspeed import deepspeed_of
from pipeline.errors import InfrastructureError
from pipeline.training import zero
from pipeline.training.zero import check_split_by_deepspeed, deepspeed_arguments


def context() -> Any:
    sharding = deepspeed_of({"zero_optimization": {"stage": 3}})
    return SimpleNamespace(name="sft", processes=2, sharding=sharding)


def trainer(stage: int, processes: int) -> Any:
    engine = SimpleNamespace(zero_optimization_stage=lambda: stage, dp_world_size=processes)
    return SimpleNamespace(deepspeed=engine)


def test_a_stage_ends_where_less_is_split_than_was_asked_for() -> None:
    check_split_by_deepspeed(trainer(3, 2), context())
    for found in (trainer(2, 2), trainer(3, 1), SimpleNamespace(deepspeed=None)):
        with pytest.raises(InfrastructureError, match="stage 3 of ZeRO over 2 processes; it is"):
            check_split_by_deepspeed(found, context())


def test_what_the_recipe_says_is_left_to_it_and_weights_can_be_gathered() -> None:
    given = context()
    config = deepspeed_arguments(given)["deepspeed"]
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True
    assert config["bf16"] == config["fp16"] == {"enabled": "auto"}
    assert config["gradient_clipping"] == config["train_batch_size"] == "auto"
    assert "stage3_gather_16bit_weights_on_model_save" not in given.sharding.options


def test_a_head_that_is_not_split_is_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(zero, "_gather_all", lambda *given: asked.append(given))
    split = SimpleNamespace(ds_status=1)
    zero._gather_what_is_split(None, SimpleNamespace(), split)
    assert asked == [(split,)]
