"""Stage `adopt`: takes in a model that was trained elsewhere, after checking it.

The files are copied, so that the chain below does not change when the folder does; pickled weights
and code in the folder are refused, and the model is loaded once to see that every tensor is there
and finite. A GGUF file is dequantised, once.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from pipeline.config.field_types import FileName, ModelRef
from pipeline.config.stage import Stage, StageContext, StageInput, StageResult
from pipeline.config.stage_config import WithTemplate
from pipeline.errors import PosttrainError
from pipeline.files.names import ADAPTER_CONFIG

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

KEPT = (".json", ".safetensors", ".model", ".txt", ".jinja", ".md")
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5")


class AdoptConfig(WithTemplate):
    """One of `model` and `gguf`.

    model: a local folder or hub id. gguf: a GGUF file. form: how it expects to be asked, if that
    cannot be told.
    """

    stage: Literal["adopt"]
    model: ModelRef | None = None
    gguf: FileName | None = None
    form: Literal["document", "chat"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> AdoptConfig:
        if (self.model is None) == (self.gguf is None):
            which = "neither of them" if self.model is None else "both"
            raise ValueError(f"one of `model` and `gguf` is taken in; this has {which}")
        return self


def run(config: AdoptConfig, context: StageContext) -> StageResult:
    """Copy (or, from the hub or a GGUF, save) the model and check it."""
    from pipeline.models.forms import form_of_model

    if config.model is None:
        module, tokenizer = _save_gguf(config, context)
    else:
        module, tokenizer = _save_model(config.model, context)
    _give_template(tokenizer, config, context)
    form = config.form or form_of_model(tokenizer)
    return StageResult(
        metrics={"parameters": sum(parameter.numel() for parameter in module.parameters())},
        properties={"form": form, "adopted_from": config.model or config.gguf},
    )


def _save_model(
    reference: str, context: StageContext
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Copy a local model's files, or save one of the hub's; return it as it was loaded."""
    from pipeline.models.load import load_policy, load_tokenizer
    from pipeline.models.save import save_policy

    source = context.model(reference)
    folder = Path(source.path)
    if (folder / ADAPTER_CONFIG).is_file():
        hint = "name it as the `model:` of a stage; `stage: merge` makes a whole model of it"
        raise PosttrainError(reference, "is an adapter, and whole models are adopted", hint)
    if folder.is_dir():
        copy_model(folder, context.out)
        copied = StageInput(source.name, "policy", str(context.out))
        return load_policy(copied), load_tokenizer(copied)
    module, tokenizer = load_policy(source), load_tokenizer(source)
    save_policy(module, tokenizer, context.out)
    return module, tokenizer


def _save_gguf(
    config: AdoptConfig, context: StageContext
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Dequantise a GGUF file and save it; what was saved is loaded once, as proof."""
    from pipeline.llamacpp.read import read_gguf
    from pipeline.models.load import load_policy
    from pipeline.models.save import save_policy

    assert config.gguf is not None
    try:
        path = context.places.file(config.gguf)
    except ValueError as error:
        raise PosttrainError(context.name, str(error)) from error
    module, tokenizer = read_gguf(path)
    save_policy(module, tokenizer, context.out)
    load_policy(StageInput(context.name, "policy", str(context.out)))
    return module, tokenizer


def _give_template(
    tokenizer: PreTrainedTokenizerBase, config: AdoptConfig, context: StageContext
) -> None:
    if config.chat_template or config.chat_template_kwargs:
        from pipeline.models.chat_templates import give_known_template

        give_known_template(tokenizer, config, context)
        tokenizer.save_pretrained(context.out)


def copy_model(folder: Path, out: Path, *, needs_weights: bool = True) -> None:
    """Copy a model's files; PosttrainError when its weights are not safetensors."""
    if needs_weights and not any(folder.glob("*.safetensors")):
        pickled = next((path.name for path in folder.iterdir() if path.suffix in _PICKLED), None)
        message = f"`{pickled}` is a pickle, which can run code" if pickled else "has no weights"
        raise PosttrainError(str(folder), message, "save the model as safetensors")
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix in KEPT or path.name.startswith("LICENSE")):
            shutil.copyfile(path, out / path.name)


STAGE = Stage(
    config=AdoptConfig,
    run=run,
    produces="policy",
    version=1,
    is_seeded=False,
    uses_device=False,
)
