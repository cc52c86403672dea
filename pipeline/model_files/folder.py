"""A model's folder, checked before anything loads it: its JSON, and the headers of its weights.

Finds what bytes alone tell, in milliseconds and without torch; pipeline/models/ finds what takes
the libraries. Raises PosttrainError for what the user can change, CorruptArtifactError for files
that are torn or do not belong together; both name the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from pipeline.config.references import LocalModel, adapter_base
from pipeline.errors import PosttrainError
from pipeline.files.foreign_files import check_readable, is_there, read_object, read_text
from pipeline.files.names import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    GENERATION,
    TOKENIZER,
    TOKENIZER_CONFIG,
)
from pipeline.model_files.layer_patterns import LAYERS, adapter_patterns, pattern_problem
from pipeline.model_files.tensors import (
    UNQUANTISED,
    StoredTensor,
    check_types,
    names_of_modules,
    read_file_tensors,
    read_folder_tensors,
)
from pipeline.model_files.token_rows import RESIZE, token_problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TEMPLATE = "chat_template.jinja"
_TOKENIZER_JSON = (
    *(TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "chat_template.json"),
)
_TOKENIZER_FILES = (TOKENIZER, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
WITH_NEW_TOKENS = (
    "was it trained with added tokens? Merge it where it was trained, into the resized model, and"
    " name the merged model"
)
_EMBEDDINGS = (
    *("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight"),
    *("lm_head.weight", "embed_out.weight"),
)
_IDS = "take the file that belongs to the model, or remove it"
_CODE = "that is never done; take a model that transformers knows without"

# Far above any published model: larger values would take gigabytes or hours before any error.
_LARGEST: Mapping[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 10_000),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 10_000),
    **dict.fromkeys(("num_labels", "num_experts", "num_local_experts"), 100_000),
    **dict.fromkeys(("n_routed_experts", "num_attention_heads", "n_head"), 100_000),
    **dict.fromkeys(("n_heads", "num_heads", "num_key_value_heads"), 100_000),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "head_dim"), 10_000_000),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "d_ff"), 100_000_000),
    **dict.fromkeys(("vocab_size",), 100_000_000),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 10_000_000_000),
}
_WIDTHS = (
    *("hidden_size", "n_embd", "d_model", "intermediate_size", "n_inner", "ffn_dim", "d_ff"),
    "vocab_size",
)
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers")


def check_folder(folder: Path) -> None:
    """Check whatever the folder holds: a model, an adapter and its base model, a tokenizer."""
    check_is_folder(folder)
    if is_there(folder / ADAPTER_CONFIG):
        check_adapter(folder)
        base = _base(folder)
        if base is not None:
            check_model(base)
            _check_whole_tensors(folder, base)
    elif is_there(folder / CONFIG):
        check_model(folder)
    if any(is_there(folder / name) for name in (*_TOKENIZER_JSON, *_TOKENIZER_FILES, TEMPLATE)):
        check_tokenizer(folder)
        _check_tokens(folder)


def check_is_folder(folder: Path) -> None:
    """Raise PosttrainError for a path that is not a folder with files in it."""
    if not folder.exists():
        raise PosttrainError(str(folder), "does not exist", "give the folder of a saved model")
    if not folder.is_dir():
        raise PosttrainError(str(folder), "is a file", "name the folder that holds the model")
    if not any(folder.iterdir()):
        raise PosttrainError(str(folder), "is empty", "give the folder of a saved model")


def check_model(folder: Path) -> None:
    """Check config, generation config and weights of a whole model."""
    check_is_folder(folder)
    config = _read_needed(folder, CONFIG)
    generation = folder / GENERATION
    _check_ids(str(generation), read_object(generation) if is_there(generation) else {}, config)
    where = str(folder / CONFIG)
    _refuse_code(where, config)
    problem = size_problem(config)
    if problem:
        raise PosttrainError(where, problem, "it does not belong to a model that can be loaded")
    quantised: Any = config.get("quantization_config")
    if quantised:
        method = (
            cast("dict[str, Any]", quantised).get("quant_method", "?")
            if isinstance(quantised, dict)
            else quantised
        )
        message = f"the model is quantised ({method})"
        hint = f"{UNQUANTISED}; a stage's `lora: {{load_in_4bit: true}}` quantises it by itself"
        raise PosttrainError(where, message, hint)
    if config.get("transformers_weights") is not None:
        message = "names its weights by `transformers_weights`"
        raise PosttrainError(where, message, "save the model anew, as model.safetensors")
    tensors = read_folder_tensors(folder)
    check_types(folder, tensors)
    layers = next((config[key] for key in _LAYERS if isinstance(config.get(key), int)), 0)
    if layers > len(tensors):
        message = f"says {layers} layers, and the weights are {len(tensors)} tensors"
        raise PosttrainError(where, message, "it does not belong to these weights")
    # Upstream allocates tensors of the config's shapes before it says that the stored ones differ.
    longest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    for problem in _size_problems(config, dict.fromkeys(_WIDTHS, 2 * longest)):
        raise PosttrainError(where, f"{problem} with these weights", "take the config beside them")


def size_problem(fields: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a size in a config that no model can have, or None."""
    return next(_size_problems(fields, _LARGEST), None)


def check_adapter(folder: Path) -> None:
    """Check a LoRA adapter's config and weights, but not its base model."""
    check_is_folder(folder)
    config = _read_needed(folder, ADAPTER_CONFIG)
    where = str(folder / ADAPTER_CONFIG)
    _refuse_code(where, config)
    kind = config.get("peft_type")
    if kind != "LORA":
        message = f"is an adapter of type {kind!r}" if kind else "does not say its `peft_type`"
        raise PosttrainError(where, message, "LoRA adapters (`LORA`) can be used")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 0 < rank <= 1_000_000:
        raise PosttrainError(where, f"its rank `r` is {rank!r}", "it is a whole number above 0")
    tensors = read_adapter_tensors(folder)
    _refuse_embeddings(folder, config, tensors)
    names = names_of_modules(name.removeprefix("base_model.model.") for name in tensors)
    problem = pattern_problem(adapter_patterns(config), [*names, *LAYERS])
    if problem:
        raise PosttrainError(where, *problem)


def read_adapter_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Return the tensors of an adapter by name; PosttrainError unless they are safetensors."""
    path = folder / ADAPTER_WEIGHTS
    if not is_there(path):
        is_pickled = is_there(folder / "adapter_model.bin")
        hint = "save it as safetensors" if is_pickled else "give the folder of a saved adapter"
        raise PosttrainError(str(folder), f"has no {ADAPTER_WEIGHTS}", hint)
    tensors = read_file_tensors(path)
    check_types(path, tensors)
    return tensors


def _refuse_embeddings(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]
) -> None:
    """Raise PosttrainError for layers stored whole that the adapter's config does not mention.

    PEFT stores embeddings whole where `resize_token_embeddings` was called before the adapter was
    made. They belong to that larger model, not to the base that the config names. With
    `ensure_weight_tying` it also stores layers that are tied to one that the config names.
    """
    if config.get("ensure_weight_tying"):
        return
    for name in tensors:
        module = name.removeprefix("base_model.model.").removesuffix(".weight")
        if "lora_" in name or not name.endswith(".weight"):
            continue
        if not any(f".{saved}." in f".{module}." for saved in _modules_saved_whole(config)):
            message = f"holds the layer `{module}` whole, which `modules_to_save` does not name"
            raise PosttrainError(str(folder), message, WITH_NEW_TOKENS)


def _modules_saved_whole(config: Mapping[str, Any]) -> list[str]:
    """Return the modules that an adapter trained whole, including PEFT's heads of classifiers."""
    modules = config.get("modules_to_save")
    names = cast("list[Any]", modules) if isinstance(modules, list) else [modules]
    return ["classifier", "score", *(name for name in names if isinstance(name, str))]


def _check_whole_tensors(folder: Path, base: Path) -> None:
    """Raise PosttrainError for a tensor that an adapter replaces by one of a different shape."""
    below, own = read_folder_tensors(base), read_adapter_tensors(folder)
    # Added tokens are recognised only if both ends of the model have rows for them.
    ends = [name for name in own if name.endswith(_EMBEDDINGS)]
    has_both = len(ends) > 1 or bool(
        read_object(folder / ADAPTER_CONFIG).get("ensure_weight_tying")
    )
    for name, tensor in own.items():
        there = below.get(name.removeprefix("base_model.model."))
        if there is None or there.shape == tensor.shape:
            continue
        is_embedding = name.endswith(_EMBEDDINGS) and there.shape[1:] == tensor.shape[1:]
        if not has_both or not is_embedding or there.shape[0] > tensor.shape[0]:
            sizes = f"{list(tensor.shape)}, and {list(there.shape)} in its base model"
            raise PosttrainError(str(folder), f"its tensor `{name}` is {sizes}", WITH_NEW_TOKENS)


def check_tokenizer(folder: Path) -> None:
    """Check a tokenizer's JSON, its chat templates, and a config beside them."""
    check_is_folder(folder)
    if is_there(folder / CONFIG):
        _refuse_code(str(folder / CONFIG), read_object(folder / CONFIG))
    for name in _TOKENIZER_JSON:
        if not is_there(folder / name):
            continue
        fields = read_object(folder / name)
        _refuse_code(str(folder / name), fields)
        if name in (TOKENIZER_CONFIG, "chat_template.json"):
            _check_template(folder / name, fields.get("chat_template"))
    if is_there(folder / TEMPLATE):
        _check_template(folder / TEMPLATE, read_text(folder / TEMPLATE))
    for name in _TOKENIZER_FILES:
        if is_there(folder / name):
            check_readable(folder / name)
    if not any(is_there(folder / name) for name in (*_TOKENIZER_FILES, TOKENIZER_CONFIG)):
        message = "holds no tokenizer (tokenizer.json)"
        raise PosttrainError(str(folder), message, "save the model's tokenizer there")


def _check_tokens(folder: Path) -> None:
    """Raise PosttrainError for a token that would be read but has no row in the embedding."""
    if not is_there(folder / CONFIG) or not is_there(folder / TOKENIZER):
        return
    rows = vocabulary_size(read_object(folder / CONFIG))
    if rows is None or is_there(folder / ADAPTER_CONFIG):
        return
    settings = folder / TOKENIZER_CONFIG
    config = read_object(settings) if is_there(settings) else {}
    template = config.get("chat_template")
    if is_there(folder / TEMPLATE):
        template = read_text(folder / TEMPLATE)
    problem = token_problem(read_object(folder / TOKENIZER), config, template, rows)
    if problem:
        raise PosttrainError(str(folder), problem, RESIZE)


def _read_needed(folder: Path, name: str) -> dict[str, Any]:
    if not is_there(folder / name):
        raise PosttrainError(str(folder), f"has no {name}", "give the folder of a saved model")
    return read_object(folder / name)


def _base(folder: Path) -> Path | None:
    """Return the folder of an adapter's base model; None for one on the hub."""
    try:
        base = adapter_base(folder)
    except ValueError as error:
        raise PosttrainError(str(folder / ADAPTER_CONFIG), str(error)) from error
    return base.path if isinstance(base, LocalModel) else None


def _refuse_code(where: str, content: Mapping[str, Any]) -> None:
    if content.get("auto_map"):
        raise PosttrainError(where, "wants its own Python code to be run (`auto_map`)", _CODE)


def _size_problems(
    config: Mapping[str, Any], largest: Mapping[str, int], inside: str = ""
) -> Iterator[str]:
    """Yield what is wrong with sizes in a config, and in the configs of its parts.

    largest: the largest value of a field, by its name.
    """
    for key, value in config.items():
        name = f"{inside}{key}"
        if key.endswith("_config") and isinstance(value, dict):
            yield from _size_problems(cast("dict[str, Any]", value), largest, f"{name}.")
        elif key in largest:
            sizes = cast("list[Any]", value) if isinstance(value, list) else [value]
            for size in sizes:
                if size is None:
                    continue
                if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                    yield f"`{name}` is {str(size)[:40]!r}, not a size"
                elif size > largest[key]:
                    shown = str(size) if size < 10**9 else f"{size:.3g}"
                    yield f"`{name}` is {shown}, which cannot be"


def _check_ids(where: str, generation: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise PosttrainError for ends of responses that are not ids, or not ids of the model."""
    rows = vocabulary_size(config)
    for key in ("bos_token_id", "eos_token_id"):
        ids = generation.get(key)
        for number in cast("list[Any]", ids) if isinstance(ids, list) else [ids]:
            if number is None:
                continue
            if not isinstance(number, int) or isinstance(number, bool):
                raise PosttrainError(where, f"`{key}` is {number!r}, not the id of a token", _IDS)
            if rows is not None and number >= rows:
                message = f"`{key}` {number} is beyond the embedding, which has {rows} rows"
                raise PosttrainError(where, message, _IDS)


def vocabulary_size(config: Mapping[str, Any]) -> int | None:
    """Return how many tokens the model has according to a config.json, if it says."""
    for fields in (config, config.get("text_config")):
        rows = (
            cast("dict[str, Any]", fields).get("vocab_size") if isinstance(fields, dict) else None
        )
        if isinstance(rows, int):
            return rows
    return None


def _check_template(path: Path, template: Any) -> None:
    """Raise PosttrainError for a template that cannot be one. Several come as a list of objects."""
    from pipeline.model_files.template_text import template_problem

    for entry in cast("list[Any]", template) if isinstance(template, list) else [template]:
        text = cast("dict[str, Any]", entry).get("template") if isinstance(entry, dict) else entry
        if text is None:
            continue
        problem = f"the chat template is a {type(text).__name__}, not a text"
        problem = template_problem(text) if isinstance(text, str) else problem
        if problem:
            raise PosttrainError(str(path), problem, "give another template")
