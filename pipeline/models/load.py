"""Models and tokenizers loaded strictly, from a stage, a folder or the hub.

Loading refuses what would silently give another model: missing, unexpected or non-finite tensors,
code in the model's folder, pickled weights. adapters.py knows what an adapter is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.errors import CorruptArtifactError, InfrastructureError, PosttrainError
from pipeline.recipe.references import LocalModel, adapter_base
from pipeline.stage import StageInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.recipe.config import Precision


DTYPES: Mapping[str, torch.dtype] = {
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
        return load_whole(AutoModelForCausalLM, source, precision, quantization)
    from pipeline import adapters

    module = load_whole(AutoModelForCausalLM, base, precision, quantization)
    folder = Path(source.path)
    if precision == "fp32" and quantization is None:
        return adapters.merged(module, folder)
    return adapters.attached(module, folder).get_base_model()  # pyright: ignore[reportReturnType]


def load_whole(
    auto: type[Any], source: StageInput, precision: Precision, quantization: Any
) -> PreTrainedModel:
    """Load a whole model strictly: no tensor missing, left over, of another shape or non-finite."""
    _refuse_code(source)
    given = {} if quantization is None else {"quantization_config": quantization}
    try:
        loaded: Any = auto.from_pretrained(
            source.path,
            revision=source.revision,
            dtype=DTYPES[precision],
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
