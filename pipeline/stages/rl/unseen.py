"""Prompts that a stage on rollouts is measured with, and never trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.data.reading.data_blocks import read_held_out_prompts, read_held_out_records

if TYPE_CHECKING:
    from pipeline.config.references import Places
    from pipeline.config.stage import Stage
    from pipeline.data.reading.records import Record

HELD_OUT_PROMPTS = 128  # of all sources together, for best-of-n and evaluation


def held_out_prompts(config: Any, places: Places) -> list[Record]:
    """Return a few prompts of the sources' held-out parts. config: a RolloutStage."""
    at_most = HELD_OUT_PROMPTS // len(config.asked)
    return read_held_out_prompts(config.asked, places, at_most=at_most)


def evaluated_prompts(config: Any, places: Places, stage: Stage) -> list[Record]:
    """Return the prompts to evaluate on: `eval_data`, else those that are held out."""
    if not config.eval_data:
        return held_out_prompts(config, places)
    return read_held_out_records(config, places, stage.data_forms)
