"""A model's folder as one GGUF file, in pure Python; one tensor at a time is in memory."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import PosttrainError
from pipeline.llamacpp.architectures import (
    architecture_of,
    convert_tensor,
    rope_factors,
    write_sizes,
)
from pipeline.llamacpp.vocabulary import vocabulary_of, write_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from pipeline.llamacpp.architectures import Architecture
    from pipeline.llamacpp.vocabulary import Controls

EXTRA = "posttrain[gguf]"
# What the `gguf` package rounds to in Python; the K-quants are llama.cpp's own.
TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")
_LARGEST_F16 = 65_504.0
_NOT_WEIGHTS = ("rotary_emb.inv_freq",)  # made anew from the config
_ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True)
class Written:
    """A GGUF file. kept_f16: tensors whose rows do not fill whole blocks of its type."""

    path: Path
    type: str
    size_bytes: int
    kept_f16: int


def check_types(types: Sequence[str]) -> tuple[str, ...]:
    """Return the types asked for, in lower case; PosttrainError for others or without the extra."""
    names = tuple(dict.fromkeys(name.lower() for name in types))
    for name in names:
        if name not in TYPES:
            hint = f"take one of {', '.join(TYPES)}; llama.cpp's `llama-quantize` makes the others"
            raise PosttrainError("--gguf", f"`{name}` is no type that is written here", hint)
    if find_spec("gguf") is None:
        message = "needs the package `gguf`, which is not installed"
        raise PosttrainError("--gguf", message, f"pip install '{EXTRA}'")
    return names


def check_config(config: Mapping[str, Any], where: str) -> None:
    """Raise PosttrainError for a model that cannot be written, before anything is."""
    architecture_of(config, where)


def write_gguf(
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    controls: Controls,
    path: Path,
    *,
    name: str,
    kind: str,
    on_progress: Callable[[int, int], None],
) -> Written:
    """Write the whole model in a folder as a GGUF file. kind: one of TYPES.

    Raises PosttrainError for what llama.cpp would run as another model.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
    from transformers import AutoConfig

    where = str(folder)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False).to_dict()
    architecture = architecture_of(config, where)
    described = json.loads(cast("Any", tokenizer).backend_tokenizer.to_str())
    is_chat = controls.template is not None
    vocabulary = vocabulary_of(described, config["vocab_size"], where, is_chat=is_chat)
    writer = GGUFWriter(path, architecture.name)
    writer.add_type("model")
    writer.add_name(name)
    prefix = "ALL" if kind == "f32" else "MOSTLY"
    writer.add_file_type(LlamaFileType[f"{prefix}_{kind.upper()}"])
    write_sizes(writer, config)
    writer.add_vocab_size(config["vocab_size"])
    write_vocabulary(writer, vocabulary, controls)
    writer.add_quantization_version(2)
    preferred = GGMLQuantizationType[kind.upper()]
    kept = _write_tensors(writer, folder, architecture, config, preferred, on_progress)
    return Written(path, kind, path.stat().st_size, kept)


def _write_tensors(
    writer: GGUFWriter,
    folder: Path,
    architecture: Architecture,
    config: Mapping[str, Any],
    preferred: GGMLQuantizationType,
    on_progress: Callable[[int, int], None],
) -> int:
    """Write header and tensors; return how many are F16 since their rows do not fill blocks."""
    import numpy as np
    from gguf import GGMLQuantizationType
    from gguf.quants import quant_shape_to_byte_shape, quantize

    with ExitStack() as stack:
        stored = list(_list_tensors(folder, architecture, config, stack))
        factors = rope_factors(config)
        if factors is not None:
            stored.append((_ROPE_FACTORS, factors.shape, lambda: factors))
        types = [_type_of(shape, preferred) for _, shape, _ in stored]
        for (name, shape, _), kind in zip(stored, types, strict=True):
            plain = {GGMLQuantizationType.F32: 4, GGMLQuantizationType.F16: 2}
            if kind in plain:
                size, as_kept = int(np.prod(shape)) * plain[kind], shape
            else:
                as_kept = quant_shape_to_byte_shape(shape, kind)
                size = int(np.prod(as_kept))
            writer.add_tensor_info(
                name,
                as_kept,
                np.dtype(np.uint8 if kind not in plain else f"f{plain[kind]}"),
                size,
                kind,
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for number, ((name, _, read), kind) in enumerate(zip(stored, types, strict=True)):
            on_progress(number, len(stored))
            weights = read()
            if kind == GGMLQuantizationType.F16 and np.abs(weights).max(initial=0) > _LARGEST_F16:
                message = f"`{name}` has a weight beyond {_LARGEST_F16:g}, the largest of F16"
                raise PosttrainError(str(folder), message, "--gguf bf16 holds it")
            writer.write_tensor_data(quantize(weights, kind))
        writer.close()
    uneven = GGMLQuantizationType.F16
    return 0 if preferred == uneven else sum(kind == uneven for kind in types)


def _list_tensors(
    folder: Path, architecture: Architecture, config: Mapping[str, Any], stack: ExitStack
) -> Iterator[tuple[str, tuple[int, ...], Callable[[], NDArray[np.float32]]]]:
    """Yield the names and shapes of tensors in the GGUF, with functions that read them."""
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map
    from safetensors import safe_open

    arch = next(key for key in MODEL_ARCH if MODEL_ARCH_NAMES[key] == architecture.name)
    names = get_tensor_name_map(arch, config["num_hidden_layers"])
    for path in sorted(folder.glob("*.safetensors")):
        file: Any = stack.enter_context(safe_open(path, framework="pt"))
        for name in file.keys():  # noqa: SIM118  it is not a mapping
            is_tied = name == "lm_head.weight" and config.get("tie_word_embeddings")
            if is_tied or name.endswith(_NOT_WEIGHTS):
                continue
            there = names.get_name(name, try_suffixes=(".weight", ".bias"))
            if there is None:
                message = f"llama.cpp has no place for its tensor `{name}`"
                raise PosttrainError(str(folder), message, "take it as safetensors")

            def read(file: Any = file, name: str = name) -> NDArray[np.float32]:
                weights = file.get_tensor(name).float().numpy()
                return convert_tensor(name, weights, architecture, config)

            yield there, tuple(file.get_slice(name).get_shape()), read


def _type_of(shape: Sequence[int], preferred: GGMLQuantizationType) -> GGMLQuantizationType:
    """Return the type of a tensor: of vectors fp32, of rows without whole blocks F16."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    if len(shape) == 1:
        return GGMLQuantizationType.F32
    is_even = shape[-1] % GGML_QUANT_SIZES[preferred][0] == 0
    return preferred if is_even else GGMLQuantizationType.F16
