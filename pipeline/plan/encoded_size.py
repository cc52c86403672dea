"""How much of the disk encoded rows and documents will take (`.encoded`), from their files' sizes.

Hub data, tasks and rows of stages count nothing: hub data is not here, the others are small. What
is kept already counts again, since only a tokenizer could say that it is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.config.training_stage import TrainingOnRows
from pipeline.files.text_files import ending
from pipeline.stages.pretrain import PretrainConfig
from pipeline.stages.rl.config import RolloutStage

if TYPE_CHECKING:
    from pipeline.config.blocks import DataBlock
    from pipeline.config.references import Places
    from pipeline.config.stage_config import StageConfig

_BYTES_A_TOKEN = 4  # of a document, at most
# Of chats in JSON lines 1.6 were measured: a token of four letters takes 4 for its id and 4 for its
# label. Packed files hold several times their size.
_OF_PLAIN, _OF_PACKED = 2, 8


def encoded_bytes(config: StageConfig, places: Places) -> int:
    """Return about how much what a stage reads takes once it is encoded."""
    if isinstance(config, PretrainConfig):
        return _BYTES_A_TOKEN * config.tokens
    if not isinstance(config, TrainingOnRows | RolloutStage):
        return 0
    return sum(_of_block(block, places) for block in (*config.sources, *config.eval_data))


def _of_block(block: DataBlock, places: Places) -> int:
    if block.file is None:
        return 0
    try:
        path = places.file(block.file)
        size_bytes = path.stat().st_size
    except (OSError, ValueError):  # whoever reads it says what is wrong
        return 0
    if ending(path) == ".parquet" or path.suffix == ".gz":
        return _OF_PACKED * size_bytes
    if block.rows is None:
        return _OF_PLAIN * size_bytes
    from pipeline.data.reading.amount import likely_rows  # looks at the beginning of the file

    whole = likely_rows([block.model_copy(update={"rows": None, "skip": None})], places)
    return round(_OF_PLAIN * size_bytes * min(1.0, block.rows / whole)) if whole else 0
