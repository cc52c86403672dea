"""Stage `best_reward_model`: of several reward models, the best one; chosen as `best` chooses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.field_types import OR_ONE
from pipeline.config.field_types import STAGE as STAGE_PATTERN
from pipeline.config.marks import RefersTo
from pipeline.config.stage import Stage
from pipeline.stages.best import ChoiceConfig, run

StageReward = Annotated[str, RefersTo(("reward_model",)), Field(pattern=STAGE_PATTERN)]


class BestRewardModelConfig(ChoiceConfig):
    """Of models that score."""

    stage: Literal["best_reward_model"]
    models: Annotated[tuple[StageReward, ...], Field(min_length=1), OR_ONE]


STAGE = Stage(
    config=BestRewardModelConfig,
    run=run,
    produces="reward_model",
    version=1,
    is_seeded=False,
    uses_device=False,
)
