"""A GGUF file read as a model of transformers, its weights dequantised to fp32."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.llamacpp.pretokenizers import PRE_TOKENIZERS, pre_tokenizer
from pipeline.llamacpp.write import EXTRA

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_MAGIC = b"GGUF"
_BYTES = {"ByteLevel": {"trim_offsets": True}}  # which the file must say, though it decides nothing


def check_gguf(path: Path) -> None:
    """Raise PosttrainError for a file that is not a GGUF, or where nothing can read one."""
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise PosttrainError(str(path), "is no GGUF file", "copy or download it again")
    if find_spec("gguf") is None:
        message = "is read with the package `gguf`, which is not installed"
        raise PosttrainError(str(path), message, f"pip install '{EXTRA}'")


def read_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return the model in fp32 and its tokenizer, which cuts texts as llama.cpp does.

    Raises PosttrainError for an architecture or a tokenizer that is not read, and
    CorruptArtifactError for a file that is torn.
    """
    check_gguf(path)
    where = str(path)
    try:
        with TemporaryDirectory() as alone:
            # What lies beside the file, a tokenizer.json say, would go before what it holds.
            (Path(alone) / path.name).symlink_to(path.resolve())
            module, tokenizer, report = _load(Path(alone), path.name, where)
    except (ValueError, KeyError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        hint = "take the model's safetensors, which transformers reads"
        raise PosttrainError(where, f"cannot be read ({reason})", hint) from error
    is_tied = bool(module.config.tie_word_embeddings)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = [name for name in report[key] if name != "lm_head.weight" or not is_tied]
        if names:
            message = f"{len(names)} {key.replace('_', ' ')}, the first `{min(names)}`"
            raise CorruptArtifactError(where, message, "copy or download it again")
    module.config.name_or_path = tokenizer.name_or_path = ""
    return module, tokenizer


def _load(folder: Path, name: str, where: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return the model, its tokenizer and what was missing, as transformers reads them."""
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.quantization_config import GgufConfig

    options: dict[str, Any] = {"gguf_file": name, "trust_remote_code": False}
    fields = GGUFReader(folder / name).fields
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    if _text(fields, "tokenizer.ggml.model") == "gpt2":
        _cut_as_llama_cpp(tokenizer, _text(fields, "tokenizer.ggml.pre"), where)
    auto: Any = AutoModelForCausalLM
    read, report = auto.from_pretrained(
        folder,
        dtype="float32",
        output_loading_info=True,
        quantization_config=GgufConfig(dequantize=True),
        **options,
    )
    # Upstream saves no model that it has once called quantised: the weights go to a plain one.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = auto.from_config(config, dtype="float32")
    plain.load_state_dict(read.state_dict())
    return plain, tokenizer, report


def _text(fields: Any, name: str) -> str:
    field = fields.get(name)
    return "" if field is None else str(field.contents())


def _cut_as_llama_cpp(tokenizer: PreTrainedTokenizerBase, pre: str, where: str) -> None:
    """Set how texts are cut before BPE, which transformers does not take from every file."""
    known = pre_tokenizer(pre)
    if known is None:
        names = ", ".join(one.name for one in PRE_TOKENIZERS)
        message = f"its tokenizer cuts texts as `{pre}`, and known here are {names}"
        raise PosttrainError(where, message, "take the model's safetensors")
    backend = cast("Any", tokenizer).backend_tokenizer
    described = json.loads(backend.to_str())
    steps = [{**step, **_BYTES.get(step["type"], {})} for step in known.steps]
    described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    described["model"]["ignore_merges"] = known.ignores_merges
    cast("Any", tokenizer)._tokenizer = type(backend).from_str(json.dumps(described))
