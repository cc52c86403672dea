"""How many parameters the model of a planned stage has. Nothing is loaded for it.

Sizes come from the recipe, from config.json and from the headers of safetensors files; what only a
download could tell is None. The formula is that of a llama (Touvron et al. 2023), which for other
dense architectures is about right; mixtures of experts are left out.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from pipeline.config.blocks import LoraBlock
from pipeline.config.new_model import NewModelBlock
from pipeline.config.references import (
    HubModel,
    LocalModel,
    StageOutput,
    adapter_base,
    model_source,
)
from pipeline.config.stage_config import StageConfig
from pipeline.config.training_stage import TrainingStage
from pipeline.files.names import CONFIG
from pipeline.plan.plan import Plan
from pipeline.stages.tokenizer import TokenizerConfig

_EXACT = frozenset({"llama", "mistral"})
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size")
_LARGEST_HEADER_BYTES = 100_000_000  # safetensors' own limit


@dataclass(frozen=True)
class Shape:
    """The widths of a dense decoder: of the residual stream, all heads, all key-value heads, ..."""

    width: int
    num_layers: int
    inner: int
    heads: int
    key_value: int
    vocab: int
    is_gated: bool
    is_tied: bool

    def linear_layers(self) -> dict[str, tuple[int, int]]:
        """Return (inputs, outputs) of each linear layer of a block by its name in a llama."""
        width, inner = self.width, self.inner
        return {
            "self_attn.q_proj": (width, self.heads),
            "self_attn.k_proj": (width, self.key_value),
            "self_attn.v_proj": (width, self.key_value),
            "self_attn.o_proj": (self.heads, width),
            **({"mlp.gate_proj": (width, inner)} if self.is_gated else {}),
            "mlp.up_proj": (width, inner),
            "mlp.down_proj": (inner, width),
        }

    def parameters(self) -> int:
        """Return the count for a llama without biases: it has a norm before each part and one last.

        Of a model with biases, learned positions or norms inside attention it is about right.
        """
        block = sum(prod(sizes) for sizes in self.linear_layers().values()) + 2 * self.width
        embeddings = self.vocab * self.width * (1 if self.is_tied else 2)
        return embeddings + self.num_layers * block + self.width


@dataclass(frozen=True)
class KnownModel:
    """What is known of a model; is_exact: whether `parameters` was not only estimated."""

    parameters: int | None = None
    shape: Shape | None = None
    is_exact: bool = True


def begins_with(plan: Plan, config: StageConfig) -> KnownModel:
    """Return what is known of the model that a stage starts from."""
    model = getattr(config, "model", None)
    if isinstance(model, NewModelBlock):
        return _new(plan, model)
    return model_of(plan, model) if isinstance(model, str) else KnownModel()


def model_of(plan: Plan, reference: str) -> KnownModel:
    """Return what is known of the model that a ModelRef stands for."""
    source = model_source(reference, plan.recipe.places)
    if isinstance(source, LocalModel):
        return _model_in(source.path)
    if not isinstance(source, StageOutput):
        return KnownModel()
    planned = plan.stage(source.name)
    is_adapter = isinstance(planned.config, TrainingStage) and planned.config.lora is not None
    if planned.artifact is None or is_adapter:
        return begins_with(plan, planned.config)  # training changes no sizes
    return _model_in(planned.artifact.path)


def shape_of(fields: Mapping[str, Any], vocab: int | None = None) -> Shape | None:
    """Return the shape that a model's config gives; None for one that is not dense or not told.

    fields: as in config.json or a recipe's `model:`. vocab: where the fields do not have it.
    """
    width = _number(fields, "hidden_size", "n_embd", "d_model")
    layers = _number(fields, "num_hidden_layers", "n_layer", "num_layers")
    heads = _number(fields, "num_attention_heads", "n_head", "num_heads")
    vocab = vocab or _number(fields, "vocab_size")
    if not (width and layers and heads and vocab) or any(fields.get(key) for key in EXPERTS):
        return None
    head = _number(fields, "head_dim") or width // heads
    inner = _number(fields, "intermediate_size")
    return Shape(
        width=width,
        num_layers=layers,
        inner=inner or _number(fields, "n_inner", "ffn_dim") or 4 * width,
        heads=heads * head,
        key_value=(_number(fields, "num_key_value_heads") or heads) * head,
        vocab=vocab,
        is_gated=inner is not None,
        is_tied=bool(fields.get("tie_word_embeddings", False)),
    )


def lora_parameters(shape: Shape, block: LoraBlock) -> int | None:
    """Return how many parameters an adapter has: r x (inputs + outputs) over the targeted layers.

    `modules_to_save` is counted for the embeddings; `rank_pattern` and the like are not. None when
    the target names none of a llama's layers.
    """
    layers = {
        f"model.layers.{number}.{name}": sizes
        for number in range(shape.num_layers)
        for name, sizes in shape.linear_layers().items()
    }
    if block.target_modules != "all-linear":
        layers["model.embed_tokens"] = layers["lm_head"] = (shape.vocab, shape.width)
        try:
            layers = {k: v for k, v in layers.items() if _is_target(k, block.target_modules)}
        except re.error:
            return None  # PEFT says what is wrong with the pattern
    if not layers:
        return None
    saved = (block.model_extra or {}).get("modules_to_save") or ()
    copies = sum(name in saved for name in ("embed_tokens", "lm_head"))
    return block.r * sum(map(sum, layers.values())) + copies * shape.vocab * shape.width


def parameters_in(folder: Path) -> int | None:
    """Return the numbers in a folder's *.safetensors, counted from their headers alone.

    None without such a file, or with a broken one: the stage that loads it says what is wrong.
    """
    paths = sorted(folder.glob("*.safetensors"))
    try:
        return sum(prod(shape) for path in paths for shape in _tensor_shapes(path)) or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _tensor_shapes(path: Path) -> Iterator[list[int]]:
    with path.open("rb") as stream:
        length_bytes = int.from_bytes(stream.read(8), "little")
        if length_bytes > _LARGEST_HEADER_BYTES:
            raise ValueError(f"{path} is no safetensors file")
        header = json.loads(stream.read(length_bytes))
    yield from (entry["shape"] for name, entry in header.items() if name != "__metadata__")


def _is_target(name: str, targets: str | list[str]) -> bool:
    """Whether PEFT puts an adapter on a layer: a text is a pattern, a list are names' ends."""
    if isinstance(targets, str):
        return re.fullmatch(targets, name) is not None
    return any(name == target or name.endswith(f".{target}") for target in targets)


def _number(fields: Mapping[str, Any], *names: str) -> int | None:
    numbers = [fields[name] for name in names if isinstance(fields.get(name), int)]
    return numbers[0] if numbers else None


def _model_in(folder: Path) -> KnownModel:
    """Return what a folder with a model, or with an adapter of one, tells about the model."""
    try:
        base = adapter_base(folder)
        if isinstance(base, HubModel):
            return KnownModel()
        folder = folder if base is None else base.path
        fields = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        shape = shape_of(fields.get("text_config", fields))
    except (
        OSError,
        ValueError,
        AttributeError,
        RecursionError,
    ):  # the stage that loads it says what is wrong
        return KnownModel()
    return KnownModel(parameters_in(folder), shape)


def _new(plan: Plan, block: NewModelBlock) -> KnownModel:
    fields = block.fields()
    if "head_dim" not in fields and block.architecture not in _EXACT:
        fields["head_dim"] = _default_head(block.architecture)
    shape = shape_of(fields, vocab_size(plan, block.tokenizer))
    if shape is None:
        return KnownModel()
    has_biases = fields.get("attention_bias") or fields.get("mlp_bias")
    return KnownModel(shape.parameters(), shape, block.architecture in _EXACT and not has_biases)


def _default_head(architecture: str) -> int | None:
    """Return how wide a head is where that is a default of its own, as qwen3's 128 at any width."""
    spec = find_spec("transformers")
    module = architecture.replace("-", "_")
    path = Path(spec.origin if spec and spec.origin else "").parent / "models" / module
    try:
        source = (path / f"configuration_{module}.py").read_text(encoding="utf-8")
    except OSError:  # a model type without a config file under its own name
        return None
    line = re.search(r"^    head_dim: int(?: \| None)? = (\d+)$", source, re.MULTILINE)
    return int(line[1]) if line else None


def vocab_size(plan: Plan, reference: str) -> int | None:
    """Return how many tokens a tokenizer has, or will have at most."""
    source = model_source(reference, plan.recipe.places)
    if isinstance(source, StageOutput):
        planned = plan.stage(source.name)
        if isinstance(planned.config, TokenizerConfig):
            metrics = planned.artifact.metrics if planned.artifact else {}
            return metrics.get("vocab_size", planned.config.vocab_size)
    shape = model_of(plan, reference).shape
    return shape.vocab if shape else None
