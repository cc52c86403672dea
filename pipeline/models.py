"""Models and tokenizers: made new, loaded strictly, saved as safetensors.

The only file that turns a reference into a module. Loading refuses what would silently give another
model: missing, unexpected or non-finite tensors, code in the model's folder, pickled weights.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from eval.model import Form, LanguageModel
from pipeline.data.chat import ChatEncoder
from pipeline.data.tokens import TextEncoder
from pipeline.errors import CorruptArtifactError, InfrastructureError, PosttrainError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.recipe.config import Precision
    from pipeline.stage import StageInput

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


def load_tokenizer(source: StageInput) -> PreTrainedTokenizerBase:
    """Load a tokenizer from a stage, a local folder or the hub; its own code is never run."""
    _refuse_code(source)
    try:
        return AutoTokenizer.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError) as error:
        raise _not_loadable(source, "a tokenizer", error) from error


def load_policy(source: StageInput, *, precision: Precision = "fp32") -> PreTrainedModel:
    """Load a causal language model, every tensor accounted for and finite.

    precision: of its weights. Raises PosttrainError for a model that is not whole or not a model.
    """
    _refuse_code(source)
    if (Path(source.path) / "adapter_config.json").exists():
        raise PosttrainError(
            source.name,
            "is a LoRA adapter, not a whole model",
            "merge it into its base and name the merged folder",
        )
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.path,
            revision=source.revision,
            dtype=_DTYPES[precision],
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _not_loadable(source, "a causal language model", error) from error
    module, report = loaded
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[key]:
            first = sorted(str(name) for name in report[key])[0]
            raise CorruptArtifactError(
                source.name,
                f"{len(report[key])} {key.replace('_', ' ')}, the first `{first}`",
                "its weights do not belong to its config.json",
            )
    for name, tensor in module.named_parameters():
        if not bool(torch.isfinite(tensor).all()):
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


def language_model(source: StageInput, *, form: Form | None, precision: Precision) -> LanguageModel:
    """Load a model for evaluation.

    form: how it is asked; without it, as the stage that made it says, else by whether its tokenizer
    has a chat template.
    """
    tokenizer = load_tokenizer(source)
    module = load_policy(source, precision=precision)
    torch.nn.Module.to(module, device())
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
        eos_token_ids=_eos_token_ids(module, tokenizer, encoder),
    )


def _guessed_form(tokenizer: PreTrainedTokenizerBase) -> Form:
    return "chat" if tokenizer.chat_template else "document"


def _eos_token_ids(
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
