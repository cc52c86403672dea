"""Weights on disk, by their headers: which tensors a folder holds, and whether they are complete.

Loads no tensor and needs no torch: a safetensors file begins with the length of a JSON table, and
the table. Pickles are never read. Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.files.foreign_files import (
    DOWNLOAD_AGAIN,
    check_readable,
    is_there,
    is_web_page,
    read_object,
)
from pipeline.files.names import WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5")
_LARGEST_HEADER_BYTES = 100_000_000  # safetensors' own limit
_TORN = "copy or download it again: it was cut, or its writing never ended"
_BITS = {
    **{"F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32},
    **{"F16": 16, "BF16": 16, "I16": 16, "U16": 16, "I8": 8, "U8": 8, "BOOL": 8},
    **{"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8},
    **{"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4},
}
UNQUANTISED = "take the model in bf16, fp16 or fp32"
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor's entry: its type as safetensors names it (`BF16`) and its shape."""

    dtype: str
    shape: tuple[int, ...]


def read_folder_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a whole model's folder by name, from the files that are loaded.

    These are model.safetensors, or the shards that the index names. Raises PosttrainError for
    weights that are missing, not safetensors or outside the folder, CorruptArtifactError for
    weights that are torn or disagree with their index.
    """
    single, index = folder / WEIGHTS, folder / INDEX
    if is_there(single):
        return read_file_tensors(single)
    if is_there(index):
        return _read_shards(folder, index)
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    if pickled:
        message = f"holds its weights as a pickle (`{pickled[0]}`), which can run code"
        raise PosttrainError(str(folder), message, "save the model as safetensors")
    if names:
        hint = f"give the single file that name, or add the index of the shards, {INDEX}"
        raise PosttrainError(str(folder), f"has no {WEIGHTS}, only `{names[0]}`", hint)
    raise PosttrainError(str(folder), f"has no weights ({WEIGHTS})", "save the model there")


def read_file_tensors(path: Path) -> dict[str, StoredTensor]:
    """Return the tensors of a safetensors file; CorruptArtifactError where it is not whole."""
    check_readable(path)
    size_bytes = path.stat().st_size
    with path.open("rb") as stream:
        begin = stream.read(8)
        header_bytes = int.from_bytes(begin, "little")
        if len(begin) < 8 or header_bytes > min(_LARGEST_HEADER_BYTES, size_bytes - 8):
            raise _not_safetensors(path, begin + stream.read(40))
        text = stream.read(header_bytes)
    try:
        header = json.loads(text, object_pairs_hook=_once)
        entries = {
            name: _entry(fields) for name, fields in header.items() if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        complaint = f"has a header that makes no sense ({_first_line(error)})"
        raise CorruptArtifactError(str(path), complaint, _TORN) from error
    end = 0
    for name, (_, start, stop) in sorted(entries.items(), key=lambda item: item[1][1:]):
        if start != end or stop < start:
            what = "overlaps another" if start < end else "leaves a gap before it"
            raise CorruptArtifactError(str(path), f"tensor `{name}` {what}", _TORN)
        end = stop
    if 8 + header_bytes + end != size_bytes:
        message = f"is torn: its header says {8 + header_bytes + end} bytes, there are {size_bytes}"
        raise CorruptArtifactError(str(path), message, _TORN)
    return {name: entry for name, (entry, _, _) in entries.items()}


def check_types(where: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Raise PosttrainError for integers or 8-bit floats, which mean nothing without scales."""
    for name, tensor in tensors.items():
        if name.endswith((".weight", ".lora_A", ".lora_B")) and tensor.dtype not in _FLOATS:
            message = f"tensor `{name}` is of type {tensor.dtype}: the model is quantised"
            raise PosttrainError(str(where), message, UNQUANTISED)


def names_of_modules(tensors: Iterable[str]) -> list[str]:
    """Return the modules that hold the tensors, and the modules around them, without the root."""
    modules: dict[str, None] = {}
    for name in tensors:
        parts = name.split(".")[:-1]
        modules |= dict.fromkeys(".".join(parts[: stop + 1]) for stop in range(len(parts)))
    return list(modules)


def _read_shards(folder: Path, index: Path) -> dict[str, StoredTensor]:
    places = _weight_map(index)
    tensors: dict[str, StoredTensor] = {}
    holder: dict[str, str] = {}
    for shard in sorted(set(places.values())):
        path = folder / shard
        if not is_there(path):
            message = f"names the file `{shard}`, which is not there"
            raise CorruptArtifactError(str(index), message, "copy or download the folder again")
        for name, tensor in read_file_tensors(path).items():
            if name in holder:
                message = f"tensor `{name}` is both in `{holder[name]}` and in `{shard}`"
                raise CorruptArtifactError(str(folder), message, "save the model anew")
            holder[name] = shard
            tensors[name] = tensor
    for name, shard in places.items():
        if holder.get(name) != shard:
            message = f"tensor `{name}` is not in `{shard}`, where {INDEX} has it"
            raise CorruptArtifactError(str(folder), message, "copy or download the folder again")
    return tensors


def _weight_map(index: Path) -> dict[str, str]:
    """Return the shard of every tensor by its name; all shards must lie beside the index."""
    weight_map: Any = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptArtifactError(str(index), "has no `weight_map`", "download it again")
    for name, shard in cast("dict[str, Any]", weight_map).items():
        if not isinstance(shard, str):
            raise CorruptArtifactError(str(index), f"`{name}` is in no file", "download it again")
        if shard.endswith(PICKLED):
            message = f"names the pickle `{shard}`, which can run code"
            raise PosttrainError(str(index), message, "save the model as safetensors")
        if "/" in shard or "\\" in shard or not shard.endswith(".safetensors"):
            message = f"names `{shard}`, which is no safetensors file of this folder"
            raise PosttrainError(str(index), message, "shards lie beside their index")
    return cast("dict[str, str]", weight_map)


def _entry(entry: Any) -> tuple[StoredTensor, int, int]:
    """Return a tensor, and where its bytes begin and end; raises anything for nonsense."""
    dtype, shape, (start, stop) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    numbers = (*shape, start, stop)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a size is no whole number")
    if stop - start != (prod(shape) * _BITS[dtype] + 7) // 8:
        raise ValueError(f"{stop - start} bytes for a {dtype} of shape {list(shape)}")
    return StoredTensor(dtype, shape), start, stop


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a name stands there twice")
    return fields


def _not_safetensors(path: Path, begin: bytes) -> PosttrainError:
    if not begin:
        return CorruptArtifactError(str(path), "is empty", _TORN)
    if is_web_page(path):
        return CorruptArtifactError(str(path), "is a web page, not weights", DOWNLOAD_AGAIN)
    if begin.startswith((b"PK\x03\x04", b"\x80")):
        hint = "save the model as safetensors"
        return PosttrainError(str(path), "is a pickle under another name", hint)
    return CorruptArtifactError(str(path), "is no safetensors file, or a torn one", _TORN)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
