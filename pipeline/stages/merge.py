"""Stage `merge`: an adapter merged into its base, as one plain model.

In fp32, into the base as it lies on disk; a quantised base is refused, since the merged weights
would be rounded for good.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pipeline.config.field_types import ModelRef
from pipeline.config.stage import Stage, StageContext, StageResult
from pipeline.config.stage_config import StageConfig
from pipeline.errors import PosttrainError
from pipeline.files.names import CONFIG


class MergeConfig(StageConfig):
    """model: the adapter, as a stage or a folder."""

    stage: Literal["merge"]
    model: ModelRef


def run(config: MergeConfig, context: StageContext) -> StageResult:
    """Merge and save."""
    from pipeline.models.load import base_of, load_policy, load_tokenizer
    from pipeline.models.save import save_policy

    source = context.model(config.model)
    base = base_of(source)
    if base is None:
        message = "is a whole model already: there is nothing to merge"
        raise PosttrainError(source.name, message, "take the stage out, and name the model itself")
    config_file = Path(base.path) / CONFIG
    if config_file.is_file() and "quantization_config" in json.loads(config_file.read_text()):
        message = "its base model is quantised, and merging would round the result for good"
        raise PosttrainError(source.name, message, "name the base model in full precision")
    tokenizer = load_tokenizer(source)
    metrics = save_policy(load_policy(source), tokenizer, context.out)
    kept = {key: value for key, value in source.properties.items() if key in _INHERITED}
    return StageResult(metrics=metrics, properties=kept)


_INHERITED = ("form", "template_sha256", "trained_length")

STAGE = Stage(
    config=MergeConfig,
    run=run,
    produces="policy",
    version=1,
    is_seeded=False,
    uses_device=False,
)
