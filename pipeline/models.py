"""Models and tokenizers: made new, loaded strictly, saved as safetensors.

The only file that turns a reference into a module; adapters.py knows what an adapter is. Loading
refuses what would silently give another model: missing, unexpected or non-finite tensors, code in
the model's folder, pickled weights.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from accelerate.utils import is_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from eval.model import Form, LanguageModel
from pipeline.data.chat import ChatEncoder
from pipeline.data.tokens import TextEncoder
from pipeline.errors import CorruptArtifactError, InfrastructureError, PosttrainError
from pipeline.recipe.references import LocalModel, adapter_base
from pipeline.stage import StageInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.recipe.config import Precision, TrainingStage
    from pipeline.stage import StageContext

_DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def device() -> torch.device:
    """Return the accelerator if there is one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def on_device(module: PreTrainedModel) -> PreTrainedModel:
    """Move a model to the accelerator, if there is one, and return it."""
    torch.nn.Module.to(module, device())  # a quantised one stays where it is
    return module


def load_tokenizer(source: StageInput) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a stage, a local folder or the hub; its own code is never run."""
    _refuse_code(source)
    try:
        return AutoTokenizer.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise _not_loadable(source, "a tokenizer", error) from error


def load_policy(
    source: StageInput, *, precision: Precision = "fp32", quantization: Any = None
) -> PreTrainedModel:
    """Load a causal language model, every tensor accounted for and finite.

    Of an adapter: its base with the adapter merged in (fp32), or put on it (other precisions, in
    which merging would round). precision: of its weights. quantization: what upstream takes as
    `quantization_config`. Raises PosttrainError for a model that is not whole or not a model.
    """
    base = base_of(source)
    if base is None:
        return _whole(AutoModelForCausalLM, source, precision, quantization)
    from pipeline import adapters

    module = _whole(AutoModelForCausalLM, base, precision, quantization)
    folder = Path(source.path)
    if precision == "fp32" and quantization is None:
        return adapters.merged(module, folder)
    return adapters.attached(module, folder).get_base_model()  # pyright: ignore[reportReturnType]


def load_for_training(source: StageInput, config: TrainingStage) -> PreTrainedModel:
    """Load the model that a training stage begins with, its weights in fp32.

    With `load_in_4bit` (QLoRA) the frozen weights are kept in 4 bits instead.
    """
    if config.lora is None or not config.lora.load_in_4bit:
        return load_policy(source)
    from pipeline import adapters

    if base_of(source) is not None:
        message = "is an adapter, which cannot be merged into 4-bit weights to go on from it"
        raise PosttrainError(source.name, message, "put a `stage: merge` before this stage")
    quantization = adapters.quantization(config.precision)
    return load_policy(source, precision=config.precision, quantization=quantization)


def peft_config(config: TrainingStage, task: Literal["CAUSAL_LM", "SEQ_CLS"]) -> Any:
    """Return PEFT's config of the adapter that a stage trains; None when it trains all weights."""
    if config.lora is None:
        return None
    from pipeline import adapters

    return adapters.lora_config(config.lora, task=task)


def adapted(module: PreTrainedModel, config: TrainingStage) -> Any:
    """Put a new adapter on a model, for trainers that do not do it themselves."""
    from peft import get_peft_model

    return get_peft_model(module, peft_config(config, "CAUSAL_LM"))


def check_length(
    max_length: int | None, module: PreTrainedModel, source: StageInput, context: StageContext
) -> None:
    """Raise PosttrainError for rows longer than the model has positions."""
    limit = getattr(module.config, "max_position_embeddings", None)
    if isinstance(limit, int) and isinstance(max_length, int) and max_length > limit:
        raise PosttrainError(
            f"{context.name}: training_args",
            f"max_length {max_length} is beyond the {limit} positions of {source.name}",
            f"set it to {limit} or less",
        )


def load_reward_model(source: StageInput, *, precision: Precision = "fp32") -> PreTrainedModel:
    """Load a sequence classifier with one output, its head and any adapter included."""
    base = base_of(source)
    if base is None:
        return _whole(AutoModelForSequenceClassification, source, precision, None)
    from pipeline import adapters

    # In fp32: the head that the adapter brings replaces the new one made here.
    module = as_reward_model(load_policy(base), load_tokenizer(source))
    return adapters.merged(module, Path(source.path)).to(_DTYPES[precision])  # pyright: ignore[reportArgumentType]


def as_reward_model(policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return the policy's network with a new scalar head (random, from torch's generator).

    A score is read at the last token that is no padding: the tokenizer's padding must be none that
    ends a response (`padding_for_rewards`). Raises PosttrainError for an architecture without one.
    """
    config = copy.deepcopy(policy.config)
    config.num_labels = 1
    config.get_text_config().pad_token_id = tokenizer.pad_token_id
    try:
        module = AutoModelForSequenceClassification.from_config(config, dtype=policy.dtype)
    except ValueError as error:
        name = type(policy).__name__
        message = f"{name} has no form with a scalar head in transformers"
        raise PosttrainError("reward_model", message, "take another architecture") from error
    body = getattr(policy, policy.base_model_prefix)
    getattr(module, module.base_model_prefix).load_state_dict(body.state_dict(), assign=True)
    module.name_or_path = policy.name_or_path
    return module


def padding_for_rewards(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a token to pad with that never ends a response.

    A score is read at the last token that is no padding: where EOS pads, it would be read before
    the EOS, and a response with an end could not be told from one that was cut.
    """
    ends = ChatEncoder(tokenizer).end_ids() if tokenizer.chat_template else frozenset[int]()
    ends |= {tokenizer.eos_token_id} if isinstance(tokenizer.eos_token_id, int) else set()
    names = (tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token)
    for name in (*names, *tokenizer.convert_ids_to_tokens(list(range(len(ends) + 1)))):
        if isinstance(name, str) and tokenizer.convert_tokens_to_ids(name) not in ends:
            return name
    raise AssertionError  # of len(ends) + 1 tokens one is no end


def base_of(source: StageInput) -> StageInput | None:
    """Return the whole model below an adapter; None for a whole model or one on the hub."""
    folder = Path(source.path)
    if not (folder / "adapter_config.json").is_file():
        return None
    sibling = source.properties.get("base_artifact")
    if sibling is not None:
        path = folder.parent / sibling
        if not path.is_dir():
            hint = "run the recipe again to rebuild it"
            raise CorruptArtifactError(source.name, f"its base model {path} is gone", hint)
        return StageInput(f"the base of {source.name}", "policy", str(path))
    try:
        found = adapter_base(folder)
    except ValueError as error:
        raise PosttrainError(source.name, str(error)) from error
    if isinstance(found, LocalModel):
        return StageInput(f"the base of {source.name}", "policy", str(found.path))
    assert found is not None
    return StageInput(found.id, "policy", found.id, revision=found.revision)


def _whole(
    auto: type[Any], source: StageInput, precision: Precision, quantization: Any
) -> PreTrainedModel:
    """Load a whole model strictly: no tensor missing, left over, of another shape or non-finite."""
    _refuse_code(source)
    given = {} if quantization is None else {"quantization_config": quantization}
    try:
        loaded: Any = auto.from_pretrained(
            source.path,
            revision=source.revision,
            dtype=_DTYPES[precision],
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **given,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise _not_loadable(source, "a causal language model", error) from error
    module, report = loaded
    if getattr(module, "_hf_peft_config_loaded", False):  # upstream puts a hub adapter on its base
        hint = "download it to a folder and name that"
        raise PosttrainError(source.name, "is an adapter on the hub, not a whole model", hint)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[key]:
            first = sorted(str(name) for name in report[key])[0]
            raise CorruptArtifactError(
                source.name,
                f"{len(report[key])} {key.replace('_', ' ')}, the first `{first}`",
                "its weights do not belong to its config.json",
            )
    for name, tensor in module.named_parameters():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CorruptArtifactError(source.name, f"tensor `{name}` holds NaN or infinity")
    return module


def new_policy(
    architecture: str, fields: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """Make a model with random weights (from torch's generator) that fits the tokenizer.

    architecture: transformers' model type. fields: of its config class. Raises ValueError for sizes
    that do not fit together.
    """
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = AutoConfig.for_model(
        architecture, **{**special, "vocab_size": len(tokenizer), **fields}
    )
    module = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    module.generation_config = GenerationConfig(**special)
    return module


def save_policy(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path
) -> dict[str, Any]:
    """Save weights (safetensors), config, tokenizer and template; returns its size as metrics."""
    module.save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)
    return {"parameters": sum(parameter.numel() for parameter in module.parameters())}


def save_trained(
    trained: Any, tokenizer: PreTrainedTokenizerBase, source: StageInput, out: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Save what a trainer trained: the whole model, or the adapter, on the original base.

    source: the model that training began with; where that is an adapter itself, what is saved is
    one adapter that does what both do. Returns (metrics, properties for the stages that follow).
    """
    if not is_peft_model(trained):
        return save_policy(trained, tokenizer, out), {}
    from pipeline import adapters

    base = base_of(source)
    adapters.save(
        trained,
        out,
        base=base.path if base else source.path,
        revision=base.revision if base else source.revision,
        earlier=Path(source.path) if base else None,
    )
    tokenizer.save_pretrained(out)
    trainable, total = trained.get_nb_trainable_parameters()
    properties: dict[str, Any] = {"adapter": True}
    below = source.properties.get("base_artifact") if base else source.artifact
    return {"parameters": total, "trained_parameters": trainable}, (
        {**properties, "base_artifact": below} if below else properties
    )


def language_model(source: StageInput, *, form: Form | None, precision: Precision) -> LanguageModel:
    """Load a model for evaluation.

    form: how it is asked; without it, as the stage that made it says, else by whether its tokenizer
    has a chat template.
    """
    tokenizer = load_tokenizer(source)
    module = on_device(load_policy(source, precision=precision))
    chosen: Form = form or source.properties.get("form") or _guessed_form(tokenizer)
    return wrap(module, tokenizer, name=source.name, form=chosen)


def wrap(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, name: str, form: Form
) -> LanguageModel:
    """Hand a loaded model to evaluation; it is put into evaluation mode."""
    encoder = ChatEncoder(tokenizer) if form == "chat" else None
    return LanguageModel(
        name=name,
        module=module.eval(),
        tokenizer=tokenizer,
        form=form,
        encode_document=TextEncoder(tokenizer).document,
        encode_chat=encoder.prompt_ids if encoder else None,
        eos_token_ids=eos_token_ids(module, tokenizer, encoder),
    )


def _guessed_form(tokenizer: PreTrainedTokenizerBase) -> Form:
    return "chat" if tokenizer.chat_template else "document"


def eos_token_ids(
    module: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, encoder: ChatEncoder | None
) -> frozenset[int]:
    """Return every id that ends a response: of text, of generation, of a turn."""
    found = set[int]()
    for given in (tokenizer.eos_token_id, getattr(module.generation_config, "eos_token_id", None)):
        if isinstance(given, int):
            found.add(given)
        elif isinstance(given, list):
            found.update(number for number in given if isinstance(number, int))
    if encoder is not None:
        found.update(encoder.end_ids())
    return frozenset(found)


def _refuse_code(source: StageInput) -> None:
    """Refuse a local folder whose configuration names Python code to be run."""
    for name in ("config.json", "tokenizer_config.json"):
        path = Path(source.path) / name
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CorruptArtifactError(str(path), f"is not JSON ({error})") from error
        if "auto_map" in content:
            raise PosttrainError(
                str(path), "wants its own Python code to be run (`auto_map`)", "that is never done"
            )


def _not_loadable(source: StageInput, what: str, error: Exception) -> PosttrainError:
    first = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    if source.revision is not None or not Path(source.path).exists():
        return InfrastructureError(
            source.name, f"cannot be loaded from the hub as {what}: {first}", "is it in the cache?"
        )
    return CorruptArtifactError(source.name, f"cannot be loaded as {what}: {first}")
