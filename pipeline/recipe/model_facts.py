"""What a recipe and a local folder say about the model that a stage starts from.

Its architecture, its number of positions, the adapter that it may be. Nothing is loaded. Nothing is
known of a model on the hub, which is checked when the stage runs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from pipeline.config.new_model import NewModelBlock
from pipeline.config.references import LocalModel, adapter_base, model_source
from pipeline.config.trainer_fields import architecture_fields, positions_field
from pipeline.config.training_stage import TrainingStage
from pipeline.files.names import ADAPTER_CONFIG, CONFIG
from pipeline.files.plain_files import other_than_a_file
from pipeline.stages.best import ChoiceConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pipeline.config.stage_config import StageConfig
    from pipeline.recipe.recipe import Recipe


def architecture_behind(recipe: Recipe, model: str) -> str | None:
    """Return the model type behind a reference; None where the recipe does not say (the hub)."""
    try:
        source = model_source(model, recipe.places)
        if isinstance(source, LocalModel):
            base = adapter_base(source.path)
            source = source if base is None else base
    except ValueError:  # an error where references are checked
        return None
    if isinstance(source, LocalModel):
        return _model_type(source.path)
    earlier = recipe.stages.get(model.removeprefix("$"))
    before = getattr(earlier, "model", None)
    if isinstance(before, NewModelBlock):
        return before.architecture
    return architecture_behind(recipe, before) if isinstance(before, str) else None


def num_positions(recipe: Recipe, model: str) -> int | None:
    """Return how many positions the model of a stage has, where the recipe or its folder says."""
    if not model.startswith("$"):
        return _positions_in(_json_beside(recipe, model, CONFIG) or {})
    config = recipe.stages[model[1:]]
    earlier = getattr(config, "model", None)
    return num_positions(recipe, earlier) if isinstance(earlier, str) else config.max_positions


def gives_scores(recipe: Recipe, model: str) -> bool | None:
    """Whether a folder holds a reward model, by its config, an adapter's by its task.

    None where neither says: of a model on the hub, and of kinds that are something else.
    """
    for file, key in ((ADAPTER_CONFIG, "task_type"), (CONFIG, "architectures")):
        value = str((_json_beside(recipe, model, file) or {}).get(key) or "")
        if value:
            is_language_model = any(part in value for part in ("CAUSAL_LM", "CausalLM", "LMHead"))
            is_classifier = "SEQ_CLS" in value or "ForSequenceClassification" in value
            return is_classifier if is_language_model or is_classifier else None
    return None


def adapter_below(recipe: Recipe, config: StageConfig) -> Mapping[str, Any] | None:
    """Return the fields of the LoraConfig of the adapter that a stage starts from, if any."""
    model = getattr(config, "model", None)
    if not isinstance(model, str):
        return None
    if not model.startswith("$"):
        return _json_beside(recipe, model, ADAPTER_CONFIG)
    earlier = recipe.stages[model[1:]]
    if isinstance(earlier, TrainingStage) and earlier.lora is not None:
        return earlier.lora.fields()
    return adapter_below(recipe, earlier) if isinstance(earlier, ChoiceConfig) else None


def has_tied_embeddings(recipe: Recipe, model: Any) -> bool:
    """Whether a model's input and output embeddings are known to share their weight."""
    if isinstance(model, str) and model.startswith("$"):
        return has_tied_embeddings(recipe, getattr(recipe.stages[model[1:]], "model", None))
    if isinstance(model, str):
        config_json = _json_beside(recipe, model, CONFIG)
        if config_json is None:
            return False  # an adapter or a hub model, which is checked before training
        return bool(config_json.get("tie_word_embeddings"))
    fields = getattr(model, "fields", None)
    return bool(fields and fields().get("tie_word_embeddings"))


def is_dense(recipe: Recipe, config: TrainingStage) -> bool:
    """Whether a stage's model is known not to be a mixture of experts, which has a router loss."""
    model = getattr(config, "model", None)
    kind = architecture_behind(recipe, model) if isinstance(model, str) else None
    if kind is None:
        return False
    try:
        return "router_aux_loss_coef" not in architecture_fields(kind)
    except ValueError:  # a model type that transformers does not have
        return False


def _model_type(folder: Path) -> str | None:
    try:
        model_type = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # an error of the folder
        return None
    return model_type if isinstance(model_type, str) else None


def _positions_in(config: Mapping[str, Any]) -> int | None:
    """Return how many positions a config.json says, by the name its model type has for them."""
    inner = config.get("text_config")
    text = cast("Mapping[str, Any]", inner) if isinstance(inner, dict) else config
    try:
        name = positions_field(str(text.get("model_type")))
    except ValueError:  # a model type that transformers does not have
        return None
    count = text.get(name) if name else None
    return count if isinstance(count, int) and count > 0 else None


def _json_beside(recipe: Recipe, model: str, file: str) -> Mapping[str, Any] | None:
    """Return what a file of a local model folder says; None if it is missing or not a mapping."""
    try:
        source = model_source(model, recipe.places)
        if not isinstance(source, LocalModel):
            return None
        if other_than_a_file(source.path / file) is not None:
            return None
        contents = json.loads((source.path / file).read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        return None
    return contents if isinstance(contents, dict) else None  # pyright: ignore[reportUnknownVariableType]
