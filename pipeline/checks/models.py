"""What stages ask of their models, tried out on empty ones: all layers, and no weights.

A new model that cannot be made, an adapter whose `target_modules` meet no layer, or one that could
not be saved, is found here before the first stage runs. Loads transformers and PEFT, and so torch,
where there is something to try.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.lora import loss_of
from pipeline.config.new_model import NewModelBlock
from pipeline.config.references import HubModel, LocalModel, model_source
from pipeline.config.stage import StageInput
from pipeline.config.training_stage import TrainingStage
from pipeline.errors import PosttrainError
from pipeline.model_files.layer_patterns import adapter_patterns, pattern_problem
from pipeline.stages import stage_of
from pipeline.stages.pretrain import PretrainConfig
from pipeline.store.hub_lock import read_lock
from pipeline.store.lineage import as_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transformers import PretrainedConfig

    from pipeline.config.blocks import LoraBlock
    from pipeline.plan.plan import Plan
    from pipeline.store.store import Artifact

_VOCABULARY = 1000  # rows of an embedding whose tokenizer is not made yet


@dataclass(frozen=True)
class Shape:
    """A model's config; adapter: the folder of the adapter on it, where that is there."""

    config: PretrainedConfig
    adapter: Path | None = None


def check_models(
    plan: Plan, names: Iterable[str], made: Mapping[str, Artifact | None], *, fetches: bool
) -> None:
    """Raise PosttrainError for a new model that cannot be made, or an adapter that has no place.

    made: the results that are there, by stage. fetches: whether a model's config may be fetched
    from the hub.
    """
    tried: set[str] = set()  # a sweep of tokens or rates has one model or adapter many times
    for name in names:
        config = plan.recipe.stages[name]
        if not isinstance(config, TrainingStage):
            continue
        model = getattr(config, "model", None)
        shown = repr((model, config.stage, config.lora, getattr(config, "defaults", None)))
        if shown in tried:
            continue
        tried.add(shown)
        # `check` alone would import torch for it, and it fails within seconds of a run.
        if isinstance(model, NewModelBlock) and fetches:
            _new_model(plan, name)
        if config.lora is None or not isinstance(model, str):
            continue
        shape = shape_of(plan, model, made, fetches=fetches)
        if shape is not None:
            try:
                with warnings.catch_warnings(action="ignore", category=FutureWarning):
                    _try_adapter(shape, config.stage, config.lora)
            except PosttrainError as error:
                location = ("stages", name, "lora")
                raise plan.recipe.error(location, error.message, error.hint) from error


def _new_model(plan: Plan, name: str) -> PretrainedConfig:
    """Return the config of a new model, after one of that shape was made."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from pipeline.models.foreign import NONSENSE

    config = plan.recipe.stages[name]
    assert isinstance(config, PretrainConfig)
    assert isinstance(config.model, NewModelBlock)
    unread = {"vocab_size": _VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    fields = {**unread, **config.defaults, **config.model.fields()}
    try:
        shape = AutoConfig.for_model(config.model.architecture, **fields)
        _empty(AutoModelForCausalLM, shape)
    except NONSENSE as error:
        first = " ".join(str(error).split())[:300]
        location = ("stages", name, "model")
        raise plan.recipe.error(location, f"the model cannot be made: {first}") from error
    return shape


def shape_of(
    plan: Plan, reference: str, made: Mapping[str, Artifact | None], *, fetches: bool
) -> Shape | None:
    """Return the shape of the model that a reference stands for; None where it is not here."""
    source = model_source(reference, plan.recipe.places)
    if isinstance(source, LocalModel):
        return _shape_at(StageInput(reference, "policy", str(source.path)), fetches=fetches)
    if isinstance(source, HubModel):
        revision = source.revision or read_lock(plan.recipe.path).get(f"models/{source.id}")
        model = StageInput(reference, "policy", source.id, revision=revision)
        return _shape_at(model, fetches=fetches) if fetches else None
    artifact, config = made.get(source.name), plan.recipe.stages[source.name]
    if artifact is not None:
        return _shape_at(as_input(artifact, source.name), fetches=fetches)
    before = getattr(config, "model", None)
    if isinstance(before, NewModelBlock):
        return Shape(_new_model(plan, source.name))
    below = shape_of(plan, before, made, fetches=fetches) if isinstance(before, str) else None
    return None if below is None else Shape(below.config)


def _shape_at(source: StageInput, *, fetches: bool) -> Shape | None:
    """Return the shape of a model in a folder or on the hub; of an adapter, that of its base."""
    from transformers import AutoConfig

    from pipeline.models.foreign import Loading
    from pipeline.models.load import base_of, is_local

    base = base_of(source)
    whole = base or source
    if not is_local(whole) and not fetches:
        return None
    with Loading(whole.name, "a causal language model", is_local=is_local(whole)):
        config = AutoConfig.from_pretrained(
            whole.path, revision=whole.revision, trust_remote_code=False
        )
    return Shape(config, Path(source.path) if base is not None else None)


def _try_adapter(shape: Shape, kind: str, block: LoraBlock) -> None:
    """Put a stage's adapter on an empty model; PosttrainError says what has no place there."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    from pipeline.models import adapter_checks, adapters, quantised

    if block.load_in_4bit:
        quantised.quantization("fp32")
    is_scored = stage_of(kind).produces == "reward_model"
    config = shape.config
    if is_scored:
        config.num_labels = 1
    auto = AutoModelForSequenceClassification if is_scored else AutoModelForCausalLM
    module = _empty(auto, config)
    names = [name for name, _ in module.named_modules() if name]
    problem = pattern_problem(adapter_patterns(block.fields()), names)
    if problem:
        raise PosttrainError("lora", *problem)
    adapter = adapters.lora_config(block, task="SEQ_CLS" if is_scored else "CAUSAL_LM")
    adapter.init_lora_weights = False  # there are none
    try:
        adapted = get_peft_model(module, adapter)
    except ValueError as error:
        message = str(error).splitlines()[0].partition(". ")[0].rstrip(".")
        layers = block.fields().get("layers_to_transform")
        if layers is not None and "not found" in message:
            message += f" among the layers {layers} (`layers_to_transform`)"
        hint = f"name others in `target_modules`: {adapter_checks.name_layers(module)}"
        raise PosttrainError("lora", message, hint) from error
    adapter_checks.check_new(adapted, block, shape.adapter, loss=loss_of(kind))


def _empty(auto: Any, config: PretrainedConfig) -> Any:
    """Return a model whose parameters have shapes alone."""
    import torch

    with torch.device("meta"):
        return auto.from_config(config)
