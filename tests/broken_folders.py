"""Ways to break a model's folder: each returns a function that changes a folder in place."""

from __future__ import annotations

import json
import shutil
import struct
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1000\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n" * 5
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"
ADAPTER = "adapter_model.safetensors"


def text(name: str, content: str) -> Callable[[Path], object]:
    """Write a file anew."""
    return lambda folder: (folder / name).write_text(content)


def raw(name: str, content: bytes) -> Callable[[Path], object]:
    """Write a file's bytes anew."""
    return lambda folder: (folder / name).write_bytes(content)


def edit(name: str, **fields: Any) -> Callable[[Path], object]:
    """Set fields of a JSON object."""

    def change(folder: Path) -> None:
        given = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**given, **fields}))

    return change


def config(**fields: Any) -> Callable[[Path], object]:
    """Set fields of config.json."""
    return edit("config.json", **fields)


def gone(*names: str) -> Callable[[Path], object]:
    """Remove files."""
    return lambda folder: [(folder / name).unlink() for name in names]


def folder_instead(name: str) -> Callable[[Path], object]:
    """Put a folder in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return change


def linked(name: str, target: str) -> Callable[[Path], object]:
    """Put a link in the place of a file."""

    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return change


def cut(name: str, count: int) -> Callable[[Path], object]:
    """Take bytes off the end; with a negative count put some there."""

    def change(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-count] if count > 0 else whole + b"\0" * -count)

    return change


def header(change_entries: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the table at the beginning of the weights."""

    def change(folder: Path) -> None:
        whole = (folder / WEIGHTS).read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        entries = json.loads(whole[8 : 8 + size])
        change_entries(entries)
        table = json.dumps(entries).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(table)) + table + whole[8 + size :])

    return change


def tensors(change_tensors: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Change the weights."""

    def change(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        change_tensors(found)
        save_file(found, folder / WEIGHTS, {"format": "pt"})

    return change


def sharded(
    places: Callable[[dict[str, str]], object] = lambda places: None, *, twice: bool = False
) -> Callable[[Path], object]:
    """Split the weights into two shards with an index, and change what the index says."""

    def change(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names = sorted(found)
        halves = names[:5], names[5:] + ([names[0]] if twice else [])
        weight_map: dict[str, str] = {}
        for number, half in enumerate(halves, start=1):
            shard = f"model-{number:05}-of-00002.safetensors"
            save_file({name: found[name] for name in half}, folder / shard, {"format": "pt"})
            weight_map |= dict.fromkeys(half, shard)
        places(weight_map)
        index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index))

    return change


def both(*changes: Callable[[Path], object]) -> Callable[[Path], object]:
    """Make several changes."""
    return lambda folder: [change(folder) for change in changes]


def pickled(folder: Path) -> None:
    found = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    torch.save(found, folder / "pytorch_model.bin")


def outside(folder: Path) -> None:
    shutil.copyfile(folder / WEIGHTS, folder.parent / f"{folder.name}-outside.safetensors")
    names = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places = dict.fromkeys(names, f"../{folder.name}-outside.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def file_instead(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a model")


def overlapping(entries: dict[str, Any]) -> None:
    names = sorted(name for name in entries if name.endswith("norm.weight"))
    entries[names[1]]["data_offsets"] = entries[names[0]]["data_offsets"]


def cast_to(dtype: torch.dtype) -> Callable[[dict[str, Any]], object]:
    def change(found: dict[str, Any]) -> None:
        found[EMBEDDING] = found[EMBEDDING].to(dtype)

    return change


def with_nan(found: dict[str, Any]) -> None:
    found[EMBEDDING][3, 1] = float("nan")


def adapter(**fields: Any) -> Callable[[Path], object]:
    return edit("adapter_config.json", **fields)


def adapter_tensors(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def changed(folder: Path) -> None:
        found = load_file(folder / ADAPTER)
        change(found)
        save_file(found, folder / ADAPTER, {"format": "pt"})

    return changed


def widened(found: dict[str, Any]) -> None:
    name = next(name for name in found if name.endswith("q_proj.lora_A.weight"))
    found[name] = torch.zeros(found[name].shape[0], found[name].shape[1] + 1)


def renamed(found: dict[str, Any]) -> None:
    name = next(name for name in found if name.endswith("q_proj.lora_A.weight"))
    found[name.replace("layers.0", "layers.7")] = found.pop(name)


def embedded(found: dict[str, Any]) -> None:
    """Add embeddings of more tokens, as PEFT does after `resize_token_embeddings`."""
    found[f"base_model.model.{EMBEDDING}"] = torch.zeros(999, 32)


def adapter_nan(found: dict[str, Any]) -> None:
    next(iter(found.values()))[0, 0] = float("nan")


def deep(depth: int) -> str:
    return "[" * depth + "]" * depth


def two_outputs(folder: Path) -> None:
    """Put a classifier with two outputs, upstream's default, in the model's place."""
    config = AutoConfig.from_pretrained(folder, num_labels=2)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def encoder(folder: Path) -> None:
    """Put an encoder in the model's place, which upstream loads as a causal model."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(vocab_size=260, intermediate_size=64, **sizes)
    (folder / "generation_config.json").unlink()
    BertForMaskedLM(config).save_pretrained(folder)
