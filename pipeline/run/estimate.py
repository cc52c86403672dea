"""How big a planned training stage is: parameters, tokens, peak memory. Nothing is loaded for it.

Sizes come from the recipe, from config.json and from the headers of safetensors files; what only a
download or the data could tell is None. The formula is that of a llama (Touvron et al. 2023), which
for other dense architectures is about right; mixtures of experts are left out.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any

from eval.tasks import BENCHMARKS, parse
from pipeline.recipe.batch import split_batch
from pipeline.recipe.config import DataBlock, LoraBlock, StageConfig, TrainingStage
from pipeline.recipe.references import (
    HubModel,
    LocalModel,
    StageOutput,
    adapter_base,
    model_source,
)
from pipeline.run.plan import Plan
from pipeline.stage import Stage
from pipeline.stages import stage_of
from pipeline.stages.pretrain import NewModelBlock, PretrainConfig
from pipeline.stages.tokenizer import TokenizerConfig

_EXACT = frozenset({"llama", "mistral"})
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size")
_EPOCHS = 3.0  # transformers' default, for a stage kind that has none of its own
_FLOAT_BYTES = 4
_ADAM_FLOATS = 3  # the gradient and two moments of each trained parameter
_4BIT_BYTES = 0.5
# Measured on a CPU; see _memory_bytes.
_LAYERS_IN_FLIGHT = 2
_SHARE_OF_16_BIT = 0.75
_LOGIT_COPIES = 3
_FUSED_HEAD_COPIES = 8
_FUSED_HEAD_TOKENS = 4096
_FUSED_HEAD_VOCAB = 32768
_LARGEST_HEADER_BYTES = 100_000_000  # safetensors' own limit


@dataclass(frozen=True)
class Estimate:
    """What a training stage will take; None where it cannot be known yet.

    parameters: of the model. trained_parameters: those that an optimizer changes: all, or the
        adapter's. is_about: whether `parameters` is only about right.
    tokens: that training sees, padding included. memory_bytes: of one process at its peak, the
        libraries' 0.5 to 0.6 GB not counted.
    is_upper_bound: whether both are those of rows that are all `max_length` long.
    """

    parameters: int | None
    trained_parameters: int | None
    tokens: int | None
    memory_bytes: int | None
    is_about: bool
    is_upper_bound: bool


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
class _Model:
    """What is known of a model; is_exact: whether `parameters` was not only estimated."""

    parameters: int | None = None
    shape: Shape | None = None
    is_exact: bool = True


def estimates(plan: Plan) -> dict[str, Estimate]:
    """Return an estimate for each stage that trains a model, by its name."""
    return {
        planned.name: _estimate(plan, planned.config)
        for planned in plan.stages
        if isinstance(planned.config, TrainingStage)
    }


def shape_of(fields: Mapping[str, Any], vocab: int | None = None) -> Shape | None:
    """Return the shape that a model's config gives; None for one that is not dense or not told.

    fields: as in config.json or a recipe's `model:`. vocab: where the fields do not have it.
    """
    width = _number(fields, "hidden_size", "n_embd", "d_model")
    layers = _number(fields, "num_hidden_layers", "n_layer", "num_layers")
    heads = _number(fields, "num_attention_heads", "n_head", "num_heads")
    vocab = vocab or _number(fields, "vocab_size")
    if not (width and layers and heads and vocab) or any(fields.get(key) for key in _EXPERTS):
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


def stored_parameters(folder: Path) -> int | None:
    """Return the numbers in a folder's *.safetensors, counted from their headers alone.

    None without such a file, or with a broken one: the stage that loads it says what is wrong.
    """
    paths = sorted(folder.glob("*.safetensors"))
    try:
        return sum(prod(shape) for path in paths for shape in _stored_shapes(path)) or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _stored_shapes(path: Path) -> Iterator[list[int]]:
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
    found = [fields[name] for name in names if isinstance(fields.get(name), int)]
    return found[0] if found else None


@dataclass(frozen=True)
class _Job:
    """A training stage's settings: its arguments over our defaults, and how long its rows are.

    length: tokens of a sequence, at most; None where the recipe does not say.
    """

    config: TrainingStage
    stage: Stage
    given: Mapping[str, Any]
    length: int | None
    num_processes: int

    @property
    def sequences_per_row(self) -> int:
        """Two where a row is a chosen and a rejected response."""
        return 2 if "preference" in self.stage.data_forms else 1


def _job(plan: Plan, config: TrainingStage) -> _Job:
    stage = stage_of(config.stage)
    given = {**stage.training_defaults, **config.training_args}
    is_packed = isinstance(config, PretrainConfig)
    length = config.sequence_length if is_packed else given.get("max_length")
    launch = config.launch or plan.recipe.launch
    return _Job(config, stage, given, length, launch.processes)


def _estimate(plan: Plan, config: TrainingStage) -> Estimate:
    job = _job(plan, config)
    model = _begins_with(plan, config)
    shape, parameters, head = model.shape, model.parameters, 0
    if job.stage.produces == "reward_model" and shape and parameters:
        head = shape.width  # one output instead of a vocabulary
        parameters += head - (0 if shape.is_tied else shape.vocab * shape.width)
    trained = parameters
    if config.lora is not None:
        adapter = lora_parameters(shape, config.lora) if shape else None
        trained = None if adapter is None else adapter + head
    memory_bytes = None
    if shape and parameters and trained:
        memory_bytes = _memory_bytes(job, shape, parameters, trained)
    return Estimate(
        parameters=parameters,
        trained_parameters=trained,
        tokens=_tokens(job),
        memory_bytes=memory_bytes,
        is_about=not model.is_exact,
        is_upper_bound=not isinstance(config, PretrainConfig),
    )


def _tokens(job: _Job) -> int | None:
    """Return the tokens that all steps see; None where the number of rows is not in the recipe."""
    config, steps = job.config, job.given.get("max_steps", -1)
    if job.length is None:
        return None
    if steps > 0:
        return steps * config.batch_size * job.sequences_per_row * job.length
    epochs = job.given.get("num_train_epochs", _EPOCHS)
    if isinstance(config, PretrainConfig):
        return round(epochs * config.tokens)
    rows = [_most_rows(block) for block in config.data]
    known = [count for count in rows if count is not None]
    if len(known) < len(rows):
        return None
    return round(epochs * sum(known) * job.sequences_per_row * job.length)


def _most_rows(block: DataBlock) -> int | None:
    if block.rows is None and block.task is not None:
        if parse(block.task)[0] in BENCHMARKS:
            return None
        from pipeline.data.sources import ROWS_PER_TASK  # 10 ms, seldom needed

        return ROWS_PER_TASK
    return block.rows


def _memory_bytes(job: _Job, shape: Shape, parameters: int, trained: int) -> int | None:
    """Return what one process takes at its peak, beside the libraries; None if it cannot run.

    Kept for the backward pass: 12 x width + 4 x inner floats a token and layer (the inputs of a
    llama's norms, products and gates), and as much again as two layers have for the gradients on
    their way; with checkpointing only each layer's input, and three layers' worth. Logits: three
    copies in transformers' loss; TRL's fused head works on tiles, on a CPU with eight copies.

    Measured as growth of the largest resident set over four steps (transformers 5.23, TRL 1.16, two
    cores; llamas of 0.9M to 26M parameters, vocabularies of 1k and 8k, 512 to 4096 tokens a pass),
    in MB: pre-training 99, 341, 858, 719, 656 where this says 98, 348, 884, 715, 653; SFT 492,
    1431, 311 (432, 1386, 301); DPO 261 (226); with LoRA, whose sums are kept too, 584 (423), DPO
    281 (213); bf16 280 (277); with gradient checkpointing 206 (215).
    """
    config, vocab = job.config, shape.vocab
    try:
        per_device, _ = split_batch(
            config.batch_size,
            per_device=job.given.get("per_device_train_batch_size"),
            world_size=job.num_processes,
        )
    except ValueError:  # the stage says what is wrong, knowing how many processes there are
        return None
    if job.length is None:
        return None
    tokens = per_device * job.sequences_per_row * job.length
    layer = 12 * shape.width + 4 * shape.inner
    kept = (shape.num_layers + _LAYERS_IN_FLIGHT) * layer
    if job.given.get("gradient_checkpointing"):
        kept = shape.num_layers * shape.width + (1 + _LAYERS_IN_FLIGHT) * layer
    floats = tokens * kept * (1.0 if config.precision == "fp32" else _SHARE_OF_16_BIT)
    if job.stage.trainer == "TrainingArguments":
        floats += _LOGIT_COPIES * tokens * vocab
    elif job.stage.produces == "policy":
        tile = min(tokens, _FUSED_HEAD_TOKENS) * min(vocab, _FUSED_HEAD_VOCAB)
        floats += _FUSED_HEAD_COPIES * tile
    weights_bytes = _weights_bytes(job, parameters, trained)
    return round(weights_bytes + _FLOAT_BYTES * (_ADAM_FLOATS * trained + floats))


def _weights_bytes(job: _Job, parameters: int, trained: int) -> float:
    """Return the bytes of all weights in memory, a frozen reference's included."""
    if job.config.lora is not None:
        is_4bit = job.config.lora.load_in_4bit
        return parameters * (_4BIT_BYTES if is_4bit else _FLOAT_BYTES) + trained * _FLOAT_BYTES
    keeps_none = job.config.stage != "dpo" or job.given.get("precompute_ref_log_probs")
    return parameters * _FLOAT_BYTES * (1 if keeps_none else 2)


def _begins_with(plan: Plan, config: StageConfig) -> _Model:
    """Return what is known of the model that a stage starts from."""
    model = getattr(config, "model", None)
    if isinstance(model, NewModelBlock):
        return _new(plan, model)
    return _named(plan, model) if isinstance(model, str) else _Model()


def _named(plan: Plan, reference: str) -> _Model:
    """Return what is known of the model that a ModelRef stands for."""
    source = model_source(reference, plan.recipe.places)
    if isinstance(source, LocalModel):
        return _stored(source.path)
    if not isinstance(source, StageOutput):
        return _Model()
    planned = plan.stage(source.name)
    is_adapter = isinstance(planned.config, TrainingStage) and planned.config.lora is not None
    if planned.artifact is None or is_adapter:
        return _begins_with(plan, planned.config)  # training changes no sizes
    return _stored(planned.artifact.path)


def _stored(folder: Path) -> _Model:
    """Return what a folder with a model, or with an adapter of one, tells about the model."""
    try:
        base = adapter_base(folder)
        if isinstance(base, HubModel):
            return _Model()
        folder = folder if base is None else base.path
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shape = shape_of(fields.get("text_config", fields))
    except (OSError, ValueError, AttributeError):  # the stage that loads it says what is wrong
        return _Model()
    return _Model(stored_parameters(folder), shape)


def _new(plan: Plan, block: NewModelBlock) -> _Model:
    fields = block.fields()
    if "head_dim" not in fields and block.architecture not in _EXACT:
        fields["head_dim"] = _default_head(block.architecture)
    shape = shape_of(fields, _vocab_size(plan, block.tokenizer))
    if shape is None:
        return _Model()
    has_biases = fields.get("attention_bias") or fields.get("mlp_bias")
    return _Model(shape.parameters(), shape, block.architecture in _EXACT and not has_biases)


def _default_head(architecture: str) -> int | None:
    """Return how wide a head is where that is a default of its own, as qwen3's 128 at any width."""
    spec = find_spec("transformers")
    module = architecture.replace("-", "_")
    path = Path(spec.origin if spec and spec.origin else "").parent / "models" / module
    try:
        source = (path / f"configuration_{module}.py").read_text(encoding="utf-8")
    except OSError:  # a model type without a config file under its own name
        return None
    found = re.search(r"^    head_dim: int(?: \| None)? = (\d+)$", source, re.MULTILINE)
    return int(found[1]) if found else None


def _vocab_size(plan: Plan, reference: str) -> int | None:
    """Return how many tokens a tokenizer has, or will have at most."""
    source = model_source(reference, plan.recipe.places)
    if isinstance(source, StageOutput):
        planned = plan.stage(source.name)
        if isinstance(planned.config, TokenizerConfig):
            found = planned.artifact.metrics if planned.artifact else {}
            return found.get("vocab_size", planned.config.vocab_size)
    shape = _named(plan, reference).shape
    return shape.vocab if shape else None
