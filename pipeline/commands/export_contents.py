"""What an export holds, and how its model is prompted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pipeline.config.references import HubModel, LocalModel
    from pipeline.plan.plan import Plan, PlannedStage
    from pipeline.store.store import Artifact


@dataclass(frozen=True)
class Export:
    """What is exported.

    form: whole (its files as they are), adapter (likewise), or merged (an adapter, with its base).
    base: what an adapter belongs to, None for a whole model.
    """

    plan: Plan
    planned: PlannedStage
    artifact: Artifact
    form: Literal["whole", "adapter", "merged"]
    base: LocalModel | HubModel | None


@dataclass(frozen=True)
class Prompting:
    """How the exported model is prompted, and where its responses end.

    is_chat: through its chat template. end_ids: the tokens that end a response, sorted.
    pad_token_id: of its tokenizer.
    """

    is_chat: bool
    end_ids: tuple[int, ...]
    pad_token_id: int | None
