"""How big a planned training stage is: parameters, tokens, peak memory. Nothing is loaded for it.

How big its model is says sizes.py; what only a download or the data could tell is None.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from eval.tasks import BENCHMARKS, parse
from pipeline.config.batch import split_batch
from pipeline.config.blocks import DataBlock
from pipeline.config.sharding import Split
from pipeline.config.stage import Stage
from pipeline.config.training_stage import TrainingStage
from pipeline.plan.plan import Plan
from pipeline.plan.sizes import KnownModel, Shape, begins_with, lora_parameters, model_of
from pipeline.recipe.launching import processes_of
from pipeline.recipe.model_facts import num_positions
from pipeline.recipe.trainer_arguments import trainer_arguments
from pipeline.stages import stage_of
from pipeline.stages.pretrain import PretrainConfig
from pipeline.stages.rl.config import RolloutStage
from pipeline.stages.rl.ppo_config import PpoConfig

_USUAL_TOKENS = 1024  # of a row of which the recipe says no length; TRL's default
_EPOCHS = 3.0  # transformers' default, for a stage kind that has none of its own
_FLOAT_BYTES = 4
_ADAM_FLOATS = 3  # the gradient and two moments of each trained parameter
_4BIT_BYTES = 0.5
_HALF_BYTES = 2
# Measured on a CPU; see _memory_bytes.
_LAYERS_IN_FLIGHT = 2
_SHARE_OF_16_BIT = 0.75
_LOGIT_COPIES = 3
# pipeline/training/loss_head.py: what is kept of it at most, and a chunk of logits.
_HEAD_KEPT, _HEAD_CHUNK, _HEAD_CHUNK_TOKENS = 2**26, 2**19, 64
_HEAD_COPIES, _CHUNK_COPIES = 2, 4
_CHUNK_FLOATS = 3 * 2**24  # pipeline/rl/logprobs.py: logits, their gradient and one more


@dataclass(frozen=True)
class Estimate:
    """What a training stage will take; None where it cannot be known yet.

    parameters: of the model. trained_parameters: those that an optimizer changes: all, or the
        adapter's; of ppo, the critic's too. is_about: whether `parameters` is only about right.
    tokens: that training sees, padding included; of ppo, in each pass over a rollout. memory_bytes:
        of one process at its peak, the libraries' 0.5 to 0.6 GB not counted.
    row_tokens: of a row, for both; None where the recipe does not say. is_upper_bound: whether
        rows may have fewer.
    """

    parameters: int | None
    trained_parameters: int | None
    tokens: int | None
    memory_bytes: int | None
    row_tokens: int | None
    is_about: bool
    is_upper_bound: bool


def estimates(plan: Plan) -> dict[str, Estimate]:
    """Return an estimate for each stage that trains a model, by its name."""
    return {
        planned.name: _estimate(plan, planned.config)
        for planned in plan.stages
        if isinstance(planned.config, TrainingStage)
    }


@dataclass(frozen=True)
class _Job:
    """A training stage's settings: its arguments over our defaults, and how long its rows are.

    length: tokens of a sequence, at most; None where the recipe does not say. Where it leaves
    `max_length` to the model, which may have room for a book, rows are taken to be usual ones.
    """

    config: TrainingStage
    stage: Stage
    arguments: Mapping[str, Any]
    length: int | None
    num_processes: int
    split: Split | None = None

    @property
    def sequences_per_row(self) -> int:
        """Two where a row is a chosen and a rejected response, which `kto` takes apart."""
        return 2 if self.stage.data_forms == ("preference",) else 1


def _job(plan: Plan, config: TrainingStage) -> _Job:
    stage = stage_of(config.stage)
    arguments = trainer_arguments(plan.recipe, config)
    length = config.training_args.get("max_length") or min(
        arguments.get("max_length") or _USUAL_TOKENS, _USUAL_TOKENS
    )
    if isinstance(config, PretrainConfig):
        length = config.sequence_length
    elif isinstance(config, RolloutStage):
        prompt = arguments.get("max_prompt_length")
        length = prompt + arguments["max_completion_length"] if prompt else None
        length = length or num_positions(plan.recipe, config.model)
    processes = processes_of(plan.recipe, config)
    split = processes.sharding.split if processes.sharding else None
    return _Job(config, stage, arguments, length, processes.count, split)


def _estimate(plan: Plan, config: TrainingStage) -> Estimate:
    job = _job(plan, config)
    model = begins_with(plan, config)
    if isinstance(config, RolloutStage):
        return _rollout_estimate(plan, job, config, model)
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
        row_tokens=job.length,
        is_about=not model.is_exact,
        is_upper_bound=not isinstance(config, PretrainConfig),
    )


def _tokens(job: _Job) -> int | None:
    """Return the tokens that all steps see; None where the number of rows is not in the recipe."""
    config, steps = job.config, job.arguments.get("max_steps", -1)
    if job.length is None:
        return None
    if steps > 0:
        return steps * config.batch_size * job.sequences_per_row * job.length
    epochs = job.arguments.get("num_train_epochs", _EPOCHS)
    if isinstance(config, PretrainConfig):
        return round(epochs * config.tokens)
    rows = _rows(config.sources)
    return None if rows is None else round(epochs * rows * job.sequences_per_row * job.length)


def _rows(blocks: Sequence[DataBlock]) -> int | None:
    """Return how many rows some sources have at most; None where the recipe does not say."""
    known = [count for block in blocks if (count := _most_rows(block)) is not None]
    return sum(known) if len(known) == len(blocks) else None


def _most_rows(block: DataBlock) -> int | None:
    if block.rows is None and block.task is not None:
        if parse(block.task)[0] in BENCHMARKS:
            return None
        from pipeline.data.reading.sources import ROWS_PER_TASK  # 10 ms, seldom needed

        return ROWS_PER_TASK
    return block.rows


def _memory_bytes(job: _Job, shape: Shape, parameters: int, trained: int) -> int | None:
    """Return what one process takes at its peak, beside the libraries; None if it cannot run.

    Kept for the backward pass: 12 x width + 4 x inner floats a token and layer (the inputs of a
    llama's norms, products and gates), and as much again as two layers have for the gradients on
    their way; with checkpointing only each layer's input, and three layers' worth. Logits: three
    copies in transformers' loss; the fused head keeps probabilities of trained tokens, and here all
    tokens of a pass are counted, twice, since pieces of them leave holes.

    Measured as growth of the largest resident set over four steps (transformers 5.23, TRL 1.16, two
    cores; llamas of 0.9M to 26M parameters, vocabularies of 1k and 8k, 512 to 4096 tokens a pass),
    in MB: pre-training 99, 341, 858, 719, 656 where this says 98, 348, 884, 715, 653; SFT with
    2,048 trained tokens a pass and 8k words 342 (306).
    """
    tokens, vocab = _tokens_of_a_pass(job), shape.vocab
    if tokens is None:
        return None
    floats = _activation_floats(job, shape, tokens)
    if job.stage.trainer == "TrainingArguments":
        floats += _LOGIT_COPIES * tokens * vocab
    elif job.stage.produces == "policy":
        floats += _HEAD_COPIES * min(tokens * vocab, _HEAD_KEPT)
        floats += _CHUNK_COPIES * max(_HEAD_CHUNK, _HEAD_CHUNK_TOKENS * vocab)
    weights_bytes = _weights_bytes(job, shape, parameters, trained)
    trained_bytes = _FLOAT_BYTES * _ADAM_FLOATS * trained
    if job.split == "weights":  # which each process reads as a whole before, one afterwards
        share = (weights_bytes + trained_bytes) / job.num_processes
        weights_bytes, trained_bytes = max(weights_bytes, share), 0
    return round(weights_bytes + trained_bytes + _FLOAT_BYTES * floats)


def _tokens_of_a_pass(job: _Job) -> int | None:
    """Return the tokens of one forward pass in training; None where they are not known."""
    try:
        per_device, _ = split_batch(
            job.config.batch_size,
            per_device=job.arguments.get("per_device_train_batch_size"),
            world_size=job.num_processes,
        )
    except ValueError:  # the stage says what is wrong, knowing how many processes there are
        return None
    return None if job.length is None else per_device * job.sequences_per_row * job.length


def _activation_floats(job: _Job, shape: Shape, tokens: int) -> float:
    """Return what a forward pass keeps for its backward pass, in floats; see _memory_bytes."""
    layer = 12 * shape.width + 4 * shape.inner
    kept = (shape.num_layers + _LAYERS_IN_FLIGHT) * layer
    if job.arguments.get("activation_checkpointing"):
        kept = shape.num_layers * shape.width + (1 + _LAYERS_IN_FLIGHT) * layer
    return tokens * kept * (1.0 if job.config.precision == "fp32" else _SHARE_OF_16_BIT)


def _weights_bytes(job: _Job, shape: Shape, parameters: int, trained: int) -> float:
    """Return the bytes of all weights in memory, a frozen reference's included."""
    if job.config.lora is not None:
        return _frozen_bytes(job.config, shape, parameters) + trained * _FLOAT_BYTES
    keeps_none = job.config.stage not in ("dpo", "kto") or job.arguments.get(
        "precompute_ref_log_probs"
    )
    reference = 0.0 if keeps_none else _frozen_bytes(job.config, shape, parameters)
    return parameters * _FLOAT_BYTES + reference


def _frozen_bytes(config: TrainingStage, shape: Shape, parameters: int) -> float:
    """Return the bytes of a model that is never trained: projections as they are multiplied.

    Embeddings stay in fp32, beside a head of its own in few bits where it is tied to them.
    """
    if config.lora is not None and config.lora.load_in_4bit:
        return parameters * _4BIT_BYTES
    if config.precision == "fp32" or (config.lora and config.lora.fields().get("use_dora")):
        return parameters * _FLOAT_BYTES
    embeddings = shape.vocab * shape.width
    projections = parameters - (0 if shape.is_tied else embeddings)
    return projections * _HALF_BYTES + embeddings * _FLOAT_BYTES


def _rollout_estimate(plan: Plan, job: _Job, config: RolloutStage, model: KnownModel) -> Estimate:
    """Return what learning from rewards takes: policy, reference, critic, reward models together.

    Measured like _memory_bytes (a llama of 5M parameters, two steps of 16 responses, 256 tokens
    each), in MB: separate 1073 where this says 983, four responses a pass 469 (417), a shared trunk
    748 (904), with LoRA, whose sums are kept too, 1278 (832).
    """
    trained = memory_bytes = None
    if model.shape and model.parameters:
        weights = _model_weights(plan, config, model.shape, model.parameters)
        tokens = _tokens_of_a_pass(job)
        if weights is not None:
            trained, weights_bytes = weights
            if tokens is not None:
                training = _activation_floats(job, model.shape, tokens) + _CHUNK_FLOATS
                floats = max(training, _cache_floats(job, config, model.shape))
                of_adam: float = _ADAM_FLOATS * trained
                if job.split == "moments":  # whole gradients; parts of moments and of weights
                    of_adam = trained + _ADAM_FLOATS * trained / job.num_processes
                memory_bytes = round(weights_bytes + _FLOAT_BYTES * (of_adam + floats))
    return Estimate(
        parameters=model.parameters,
        trained_parameters=trained,
        tokens=_rollout_tokens(job, config),
        memory_bytes=memory_bytes,
        row_tokens=job.length,
        is_about=not model.is_exact,
        is_upper_bound=True,
    )


def _model_weights(
    plan: Plan, config: RolloutStage, shape: Shape, parameters: int
) -> tuple[int, float] | None:
    """Return (trained parameters, bytes of all weights); None for an adapter of unknown size."""
    adapter = lora_parameters(shape, config.lora) if config.lora else None
    if config.lora is not None and adapter is None:
        return None
    critic = 0
    if isinstance(config, PpoConfig):
        critic = _critic_weights(config, shape, parameters, adapter or 0)
    teacher = getattr(config, "teacher", None)
    frozen = [*config.reward_models, *([] if teacher is None else [teacher])]
    scorers = sum(model_of(plan, name).parameters or parameters for name in frozen)
    # With an adapter the frozen network below is the reference; else a copy of the policy is.
    frozen_bytes = _frozen_bytes(config, shape, parameters)
    weights_bytes = frozen_bytes + _FLOAT_BYTES * ((adapter or parameters) + critic)
    weights_bytes += frozen_bytes * scorers / parameters
    return (parameters if adapter is None else adapter) + critic, weights_bytes


def _critic_weights(config: PpoConfig, shape: Shape, parameters: int, adapter: int) -> int:
    """Return the weights that a critic has of its own, its head among them."""
    network = parameters - (0 if shape.is_tied else shape.vocab * shape.width)
    layout = config.training_args.get("layout", "auto")
    if layout == "auto":
        layout = "shared_lora" if config.lora and config.critic_source == "policy" else "separate"
    own = {"shared_lora": adapter, "shared_trunk": 0}.get(layout, network)
    return own + shape.width + 1


def _cache_floats(job: _Job, config: RolloutStage, shape: Shape) -> float:
    """Return what sampling keeps: keys and values of all rows that are decoded together."""
    size = config.schedule(job.arguments).responses
    rows = job.arguments.get("rollout_batch_size") or ceil(size / job.num_processes)
    return rows * (job.length or 0) * 2 * shape.key_value * shape.num_layers


def _rollout_tokens(job: _Job, config: RolloutStage) -> int | None:
    """Return the tokens that all steps see; None where the number of prompts is not known."""
    arguments, schedule = job.arguments, config.schedule(job.arguments)
    size = schedule.responses
    rows = _rows(config.sources)
    if arguments.get("max_steps", -1) > 0:
        episodes = arguments["max_steps"] * config.batch_size / schedule.epochs
    elif arguments.get("total_episodes"):
        episodes = arguments["total_episodes"]
    elif rows is not None:
        episodes = arguments["num_train_epochs"] * rows * schedule.group_size
    else:
        return None
    if job.length is None:
        return None
    return ceil(episodes / size) * size * schedule.epochs * job.length
