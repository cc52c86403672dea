"""Loads models and tokenizers strictly, from a stage, a folder or the hub.

Loading refuses what would silently give another model: missing, unexpected or non-finite tensors,
code in the model's folder, pickled weights. What the bytes of a folder tell is checked in
model_files/folder.py, before the libraries see it; adapters are in adapters.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.configuration_auto import (
    CONFIG_MAPPING_NAMES,  # pyright: ignore[reportPrivateImportUsage]
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from pipeline.config.references import LocalModel, adapter_base
from pipeline.config.stage import StageInput
from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.files.foreign_files import is_there, read_object
from pipeline.files.names import ADAPTER_CONFIG, CONFIG
from pipeline.model_files.folder import check_adapter, check_model, check_tokenizer, vocabulary_size
from pipeline.models.foreign import Loading
from pipeline.models.fused import fuse
from pipeline.models.quantised import keep_packed_as_it_is
from pipeline.models.vocabulary import count_stored_rows, fit_vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from pipeline.config.field_types import Precision


DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


_KINDS = {
    "AutoModelForCausalLM": "a causal language model",
    "AutoModelForSequenceClassification": "a reward model",
}
_ARCHITECTURES = {
    "AutoModelForCausalLM": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "AutoModelForSequenceClassification": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
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
    """Load a tokenizer from a stage, a local folder or the hub; its own code is never run.

    Held against the embedding of the model it lies beside: see fit_vocabulary.
    """
    if is_local(source):
        check_tokenizer(Path(source.path))
    tokenizer: PreTrainedTokenizerBase
    with Loading(source.name, "a tokenizer", is_local=is_local(source)):
        tokenizer = AutoTokenizer.from_pretrained(
            source.path, revision=source.revision, trust_remote_code=False
        )
        rows = _embedding_rows(source)
    if rows is not None:
        fit_vocabulary(tokenizer, rows, source.name)
    return tokenizer


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
    from pipeline.models import adapters

    module = load_whole(AutoModelForCausalLM, base, precision, quantization)
    folder = Path(source.path)
    if precision == "fp32" and quantization is None:
        return adapters.merge(module, folder)
    return adapters.attach(module, folder).get_base_model()  # pyright: ignore[reportReturnType]


def load_whole(
    auto: type[Any], source: StageInput, precision: Precision, quantization: Any
) -> PreTrainedModel:
    """Load a whole model strictly: no tensor missing, left over, of another shape or non-finite."""
    options = {} if quantization is None else {"quantization_config": quantization}
    if is_local(source):
        check_model(Path(source.path))
        described = read_object(Path(source.path) / CONFIG)
        _check_kind(auto, source, described)
        options |= _without_padding_beyond(described)
    module: Any
    report: Any
    with Loading(source.name, _KINDS[auto.__name__], is_local=is_local(source)):
        module, report = auto.from_pretrained(
            source.path,
            revision=source.revision,
            dtype=DTYPES[precision],
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
    if quantization is not None:
        keep_packed_as_it_is(module)
    if getattr(module, "_hf_peft_config_loaded", False):  # upstream puts a hub adapter on its base
        hint = "download it to a folder and name that"
        raise PosttrainError(source.name, "is an adapter on the hub, not a whole model", hint)
    if auto is AutoModelForCausalLM and _sees_what_follows(module):
        message = f"is an encoder ({module.config.model_type}), whose tokens see those after them"
        raise PosttrainError(source.name, message, "take a causal language model")
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
    fuse(module)
    return module


@torch.no_grad()
def _sees_what_follows(module: PreTrainedModel) -> bool:
    """Whether a token's logits depend on the token after it: an encoder's do.

    Asked only where the config does not say that it is a decoder; GPT-NeoX's says so of decoders.
    """
    if getattr(module.config, "is_decoder", None) is not False:
        return False
    run: Any = module
    first = run(input_ids=torch.tensor([[0, 1], [0, 2]], device=module.device)).logits[:, 0]
    return not torch.allclose(first[0], first[1], rtol=1e-4, atol=1e-5)


def base_of(source: StageInput) -> StageInput | None:
    """Return the whole model below an adapter; None for a whole model or one on the hub."""
    folder = Path(source.path)
    if not is_there(folder / ADAPTER_CONFIG):
        return None
    check_adapter(folder)
    sibling = source.properties.get("base_artifact")
    if sibling is not None:
        path = folder.parent / sibling
        if not path.is_dir():
            hint = "run the recipe again to rebuild it"
            raise CorruptArtifactError(source.name, f"its base model {path} is gone", hint)
        return StageInput(f"the base of {source.name}", "policy", str(path))
    try:
        base = adapter_base(folder)
    except ValueError as error:
        raise PosttrainError(source.name, str(error)) from error
    if isinstance(base, LocalModel):
        return StageInput(f"the base of {source.name}", "policy", str(base.path))
    assert base is not None
    return StageInput(base.id, "policy", base.id, revision=base.revision)


def is_local(source: StageInput) -> bool:
    """Whether a model comes from a path; one that is not there may be meant as a hub id."""
    return source.revision is None and is_there(Path(source.path))


def tokens_are_new(source: StageInput, num_tokens: int) -> bool:
    """Whether a tokenizer has more tokens than the whole model below has rows for."""
    rows = _embedding_rows(base_of(source) or source)
    return rows is not None and num_tokens > rows


def _embedding_rows(source: StageInput) -> int | None:
    """Return the rows of the embedding that a tokenizer is for; None for a tokenizer alone.

    None too for a model on the hub that is out of reach: who needs more of it than its tokenizer
    hears of that in loading it.
    """
    if not is_local(source):
        try:
            config = AutoConfig.from_pretrained(
                source.path, revision=source.revision, trust_remote_code=False
            )
        except OSError:
            return None
        return vocabulary_size(config.to_dict())
    base = base_of(source)
    if base is None or is_local(base):
        return count_stored_rows(Path(source.path), None if base is None else Path(base.path))
    return count_stored_rows(Path(source.path), None) or _embedding_rows(base)


def _check_kind(auto: type[Any], source: StageInput, config: Mapping[str, Any]) -> None:
    """Raise PosttrainError for an architecture that upstream does not have in this form.

    Upstream says so too, after importing every architecture for its message.
    """
    kind = config.get("model_type")
    if isinstance(kind, str) and kind not in _ARCHITECTURES[auto.__name__]:
        message = f"is a `{kind}`, which cannot be loaded as {_KINDS[auto.__name__]}"
        hint = "take another model" if kind in CONFIG_MAPPING_NAMES else "is transformers too old?"
        raise PosttrainError(source.name, message, hint)


def _without_padding_beyond(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what keeps upstream from making an embedding whose padding has no row in it."""
    pad, rows = config.get("pad_token_id"), vocabulary_size(config)
    is_beyond = isinstance(pad, int) and rows is not None and pad >= rows
    return {"pad_token_id": None} if is_beyond else {}
