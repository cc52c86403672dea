"""GGUF files of an export, the Modelfile beside them, and what llama.cpp made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.errors import PosttrainError
from pipeline.files.names import CONFIG, GENERATION
from pipeline.llamacpp.architectures import context_length
from pipeline.llamacpp.write import check_config, check_types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from pipeline.commands.export_contents import Export, Prompting
    from pipeline.llamacpp.agreement import Agreement
    from pipeline.llamacpp.vocabulary import Controls
    from pipeline.llamacpp.write import Written

MODELFILE = "Modelfile"
PROMPTS = 200


@dataclass(frozen=True)
class GgufOptions:
    """Which GGUF files are written; is_verified: whether llama.cpp is asked about each."""

    types: tuple[str, ...]
    is_verified: bool


@dataclass(frozen=True)
class GgufFile:
    """A file that was written, and how far llama.cpp agrees with transformers on it."""

    name: str
    written: Written
    agreement: Agreement | None

    def record(self) -> dict[str, Any]:
        """Return what posttrain.json says of it."""
        agreement = None if self.agreement is None else self.agreement.record()
        return {"file": self.name, "type": self.written.type, "agreement": agreement}

    def describe(self) -> str:
        """Return it in a line."""
        line = f"{self.name}, {self.written.size_bytes / 1e6:,.1f} MB"
        if self.written.kept_f16:
            line += f", {self.written.kept_f16} tensors in f16 (rows of no whole blocks)"
        return line if self.agreement is None else f"{line}: {self.agreement.sentence()}"


def gguf_options(types: Sequence[str], *, is_verified: bool) -> GgufOptions | None:
    """Return what the command line asks for; PosttrainError for what cannot be done here."""
    if not types:
        if is_verified:
            message = "has a meaning with --gguf only"
            raise PosttrainError("--verify", message, "say which: --gguf f16")
        return None
    checked = check_types(types)
    if is_verified:
        from pipeline.llamacpp.agreement import check_installed

        check_installed()
    return GgufOptions(checked, is_verified)


def check(export: Export) -> None:
    """Raise PosttrainError for a model that no GGUF is written of, before anything is written."""
    where = str(export.plan.recipe.path)
    if export.artifact.produces != "policy":
        message = f"`{export.planned.name}` is a reward model, and a GGUF here is a language model"
        raise PosttrainError(where, message, "leave out --gguf")
    if export.form == "adapter":
        message = "a GGUF holds the whole model, with the adapter merged into it"
        raise PosttrainError("--gguf", message, "leave out --adapter")
    base = export.base
    folder = export.artifact.path if base is None else getattr(base, "path", None)
    if folder is not None:  # of a base on the hub it is known once that is loaded
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        check_config(config, f"{where}: {export.planned.name}")


def write_files(
    export: Export,
    out: Path,
    tokenizer: PreTrainedTokenizerBase,
    prompting: Prompting,
    what: GgufOptions,
    show: Callable[[str, int, int], None],
) -> list[GgufFile]:
    """Write the GGUF files and the Modelfile of the model that lies in `out`."""
    from pipeline.llamacpp.write import write_gguf

    controls = _controls(out, tokenizer, prompting)
    name = export.planned.name
    files: list[GgufFile] = []
    for kind in what.types:
        path = out / f"{name}-{kind}.gguf"
        written = write_gguf(
            out, tokenizer, controls, path, name=f"{export.plan.recipe.name} {name}", kind=kind,
            on_progress=lambda done, total, kind=kind: show(f"{kind}, tensors", done, total),
        )  # fmt: skip
        files.append(GgufFile(path.name, written, None))
    (out / MODELFILE).write_text(
        _modelfile(out, files[0].name, tokenizer, controls), encoding="utf-8"
    )
    return _verify(export, out, prompting, files, show) if what.is_verified else files


def _verify(
    export: Export,
    out: Path,
    prompting: Prompting,
    files: Sequence[GgufFile],
    show: Callable[[str, int, int], None],
) -> list[GgufFile]:
    from pipeline.commands.trial_prompts import trial_prompts
    from pipeline.config.stage import StageInput
    from pipeline.llamacpp.agreement import compare_with_llama_cpp, make_reference
    from pipeline.models.language import language_model

    name = export.planned.name
    prompts = trial_prompts(export.plan, name, is_chat=prompting.is_chat, most=PROMPTS)
    source = StageInput(name, "policy", str(out))
    form = "chat" if prompting.is_chat else "document"
    model = language_model(source, form=form, precision="fp32")
    expected = make_reference(
        model,
        prompts,
        lambda done, total: show("responses by transformers", done, total),
        context=_context(out),
    )
    return [
        replace(
            file,
            agreement=compare_with_llama_cpp(
                out / file.name,
                file.written.type,
                expected,
                lambda done, total, kind=file.written.type: show(
                    f"{kind}, responses by llama.cpp", done, total
                ),
            ),
        )
        for file in files
    ]


def _controls(out: Path, tokenizer: PreTrainedTokenizerBase, prompting: Prompting) -> Controls:
    """Return the control tokens, with all that end a response in transformers."""
    from pipeline.data.encoding.template import chat_template
    from pipeline.data.encoding.tokens import TextEncoder
    from pipeline.llamacpp.vocabulary import Controls

    ids: list[Any] = [
        tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id,
        tokenizer.pad_token_id,
    ]  # fmt: skip
    bos, eos, unknown, padding = (number if isinstance(number, int) else None for number in ids)
    ends = {*prompting.end_ids, *_ends_of_generation(out / GENERATION)}
    # A chat template that wants BOS writes it; a second one would be put before it.
    adds_bos = not prompting.is_chat and bool(TextEncoder(tokenizer).start)
    template = chat_template(tokenizer) if prompting.is_chat else None
    return Controls(bos, eos, unknown, padding, tuple(sorted(ends)), adds_bos, template)


def _ends_of_generation(path: Path) -> list[int]:
    """Return the ids that end a response of transformers' `generate`."""
    if not path.is_file():
        return []
    ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id")
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def _modelfile(out: Path, gguf: str, tokenizer: PreTrainedTokenizerBase, controls: Controls) -> str:
    from pipeline.llamacpp.modelfile import modelfile, turns_of

    is_chat = controls.template is not None
    return modelfile(
        gguf,
        turns_of(tokenizer) if is_chat else None,
        is_chat=is_chat,
        stops=[str(tokenizer.convert_ids_to_tokens(number)) for number in controls.ends],
        context=_context(out),
    )


def _context(out: Path) -> int:
    """Return how many tokens llama.cpp takes with the model."""
    return context_length(json.loads((out / CONFIG).read_text(encoding="utf-8")))
