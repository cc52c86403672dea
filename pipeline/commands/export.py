"""`posttrain export`: a finished stage's model as a folder that other libraries load.

What is exported, what is refused, and the copying. pipeline/report/card.py writes the card,
push.py uploads, gguf.py writes GGUF files. Nothing that is written names a place on this machine:
an adapter on a model from the hub keeps its id, any other base is exported with it, in `base/`.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path, PurePath
from shlex import quote
from typing import TYPE_CHECKING, Any, cast

from pipeline.commands import gguf
from pipeline.commands.export_contents import Export, Prompting
from pipeline.config.references import BASE_FOLDER, HubModel, LocalModel, adapter_base
from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.files.disk_errors import one_line
from pipeline.files.names import (
    ADAPTER_CONFIG,
    CONFIG,
    EXPORTED,
    GENERATION,
    TOKENIZER,
    TOKENIZER_CONFIG,
)
from pipeline.plan.plan import Plan
from pipeline.run import progress
from pipeline.store.lineage import as_input, base_artifact, verify_closure
from pipeline.store.manifest import describe_files, write_json
from pipeline.store.staging import put, staging
from pipeline.store.store import Artifact, Store

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from pipeline.config.stage import Progress

RECORD = EXPORTED
CARD = "README.md"
BASE = "base"
_FORMAT = 1
# What belongs to a model; of a folder, all else (logs, samples, pickles, code) stays behind.
_KEPT = (
    *("*.safetensors", "*.safetensors.index.json", CONFIG, GENERATION, ADAPTER_CONFIG),
    *(TOKENIZER, TOKENIZER_CONFIG, "*.model", "special_tokens_map.json"),
    *("added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
    *("LICENSE*", "NOTICE*"),
)
# Where libraries write down which folder a file was once loaded from; none of them reads it.
_PLACES = frozenset({"_name_or_path", "name_or_path", "tokenizer_file", "special_tokens_map_file"})


def prepare(
    plan: Plan, name: str, *, merged: bool | None, as_gguf: gguf.GgufOptions | None = None
) -> Export:
    """Find a stage's model and decide its form: as it lies on disk, unless `merged` says so.

    A GGUF holds a whole model, so that an adapter is merged for it. Raises PosttrainError for a
    stage that has not run or makes no model, or none that llama.cpp runs, and CorruptArtifactError
    when a file is not what was published. Imports no torch.
    """
    planned, recipe = plan.stage(name), plan.recipe.path
    artifact = finished_artifact(plan, name)
    if artifact.produces not in ("policy", "reward_model"):
        models = [
            stage.name for stage in plan.stages if stage.artifact and _is_model(stage.artifact)
        ]
        hint = f"stages that made one: {', '.join(models) or 'none'}"
        raise PosttrainError(str(recipe), f"`{name}` makes no model ({artifact.produces})", hint)
    verify_closure(artifact)
    base = _base_of(artifact)
    if base is None and merged is False:
        message = f"`{name}` is a whole model: it has no adapter"
        raise PosttrainError(str(recipe), message, "leave out --adapter")
    is_merged = merged or (merged is None and as_gguf is not None)
    form = "whole" if base is None else "merged" if is_merged else "adapter"
    export = Export(plan, planned, artifact, form, base)
    if as_gguf is not None:
        gguf.check(export)
    return export


def finished_artifact(plan: Plan, name: str) -> Artifact:
    """Return a stage's result; PosttrainError where there is none for the recipe as it is."""
    planned, recipe = plan.stage(name), plan.recipe.path
    if planned.artifact is not None:
        return planned.artifact
    words = "has not run yet"
    if planned.because not in ("", "first time"):
        words = f"has no result for the recipe as it is ({planned.because})"
    hint = f"run `posttrain run {recipe} --until {quote(name)}` first"
    raise PosttrainError(str(recipe), f"`{name}` {words}", hint)


Card = Callable[[Prompting, Sequence[gguf.GgufFile]], str]


def write(
    export: Export,
    store: Store,
    folder: Path,
    *,
    force: bool,
    card: Card,
    as_gguf: gguf.GgufOptions | None = None,
) -> tuple[Path, list[gguf.GgufFile]]:
    """Write the export into a folder that appears whole or not at all.

    force: replace what an earlier export wrote there. card: gives README.md. Returns the folder and
    the GGUF files in it. Raises PosttrainError for a folder that is in use, CorruptArtifactError
    for another chat template than was trained.
    """
    folder = folder.absolute()
    check_place(folder, store)
    folder = folder.resolve()
    with one_line(str(folder)), staging(folder) as beside:
        check_folder(folder, force=force)  # only now: a killed one's earlier export is put back
        out = beside / "export"
        out.mkdir()
        with progress.show_progress(export.planned.name) as show:
            show("loading libraries", 0, 1)
            files = _fill(export, out, card, as_gguf, show)
        put(out, folder)
    return folder, files


def without_places(value: Any) -> Any:
    """Return a JSON value in which a path outside of any folder of ours is its last name only."""
    if isinstance(value, Mapping):
        named = cast("Mapping[str, Any]", value)
        return {without_places(key): without_places(inner) for key, inner in named.items()}
    if isinstance(value, list | tuple):
        return [without_places(inner) for inner in cast("list[Any]", value)]
    if isinstance(value, str) and value.startswith(("/", "~/", "./", "../")):
        return PurePath(value).name
    return value


def _is_model(artifact: Artifact) -> bool:
    return artifact.produces in ("policy", "reward_model")


def _base_of(artifact: Artifact) -> LocalModel | HubModel | None:
    """Return the whole model below an adapter; None for a whole model."""
    below = base_artifact(artifact)
    if below is not None:
        return LocalModel(below.path)
    try:
        return adapter_base(artifact.path)
    except ValueError as error:
        raise PosttrainError(artifact.name, str(error)) from error


def check_place(folder: Path, store: Store) -> None:
    """Raise PosttrainError where no folder can be, or none should."""
    where, hint = str(folder), "name another folder"
    if folder.resolve().is_relative_to(store.root.resolve()):
        raise PosttrainError(where, "lies in the store, which only runs write", hint)
    if folder.exists() or folder.is_symlink():
        if not folder.is_dir():
            raise PosttrainError(where, "is there, and is no folder", hint)
        return
    above = next(path for path in folder.parents if path.exists())
    if not above.is_dir():
        raise PosttrainError(where, f"cannot be written: `{above}` is a file", hint)


def check_folder(folder: Path, *, force: bool) -> None:
    """Raise PosttrainError unless the folder is free, or holds nothing but an earlier export."""
    where, hint = str(folder), "name another folder"
    if not folder.exists():
        return
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    if not there:
        return
    if RECORD not in there:
        raise PosttrainError(where, "is not empty, and no export wrote it", hint)
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        own = {RECORD, *record["files"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PosttrainError(where, f"its {RECORD} is of no export", hint) from error
    if not force:
        raise PosttrainError(where, "holds an export already", "--force replaces it")
    if there - own:
        message = f"holds `{min(there - own)}`, which no export wrote"
        raise PosttrainError(where, message, "move it away, or name another folder")


def _fill(
    export: Export, out: Path, card: Card, as_gguf: gguf.GgufOptions | None, show: "Progress"
) -> list[gguf.GgufFile]:
    """Write everything into an empty folder: model, tokenizer, card, and last the record."""
    from pipeline.config.stage import StageInput
    from pipeline.models.load import load_tokenizer

    if export.form == "merged":
        _merge(export, out)
    else:
        _copy_model(export.artifact.path, out)
    if export.form == "adapter" and isinstance(export.base, LocalModel):
        (out / BASE).mkdir()
        _copy_model(export.base.path, out / BASE)
        # Not `base` alone: that might be a model on the hub.
        base_beside = {"base_model_name_or_path": f"./{BASE}", "revision": None}
        _change_json(out / ADAPTER_CONFIG, base_beside)
    tokenizer = load_tokenizer(StageInput(export.planned.name, "tokenizer", str(out)))
    _check_template(tokenizer, export.artifact)
    prompting = _prompting_of(tokenizer, export.artifact)
    if export.form != "adapter" and export.artifact.produces == "policy" and prompting.is_chat:
        _end_generation_at(prompting, tokenizer, out / GENERATION)
    files: list[gguf.GgufFile] = []
    if as_gguf is not None:
        files = gguf.write_files(export, out, tokenizer, prompting, as_gguf, show)
    (out / CARD).write_text(card(prompting, files), encoding="utf-8")
    ours = {"base_artifact", BASE_FOLDER} | (set() if export.form == "adapter" else {"adapter"})
    made = record_of(export.artifact, export.planned.name, form=export.form, ours=ours)
    record = {**made, "gguf": [file.record() for file in files]}
    write_json(out / RECORD, {**record, "files": describe_files(out, manifest=RECORD)})
    return files


def _copy_model(folder: Path, out: Path) -> None:
    """Copy a model's files, and drop from its JSON where it was loaded from."""
    if not any(folder.glob("*.safetensors")):
        raise PosttrainError(str(folder), "has no weights", "save the model as safetensors")
    kept = {path for pattern in _KEPT for path in folder.glob(pattern) if path.is_file()}
    for path in sorted(kept):
        copied = out / path.relative_to(folder)
        copied.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copied)
    for name in (CONFIG, GENERATION, TOKENIZER_CONFIG, "special_tokens_map.json"):
        if (out / name).is_file():
            _change_json(out / name, {})


def _change_json(path: Path, changes: Mapping[str, Any]) -> None:
    """Change fields of a JSON file and drop `_PLACES` in it; a file without any stays as it is."""
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CorruptArtifactError(str(path), f"is not JSON ({error})") from error
    after = {**_without_keys(before), **changes}
    if after != before:
        text = json.dumps(after, indent=2, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


def _without_keys(value: Any) -> Any:
    if isinstance(value, dict):
        named = cast("dict[str, Any]", value)
        return {key: _without_keys(inner) for key, inner in named.items() if key not in _PLACES}
    return value


def _merge(export: Export, out: Path) -> None:
    """Merge an adapter into its base, in fp32, and save both as one plain model."""
    from transformers.utils import logging as transformers_logging

    from pipeline.models.load import load_policy, load_tokenizer
    from pipeline.models.reward import load_reward_model
    from pipeline.models.save import save_policy

    transformers_logging.disable_progress_bar()
    source = as_input(export.artifact, export.artifact.name)
    is_policy = export.artifact.produces == "policy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of transformers, about its own names
        module = load_policy(source) if is_policy else load_reward_model(source)
    save_policy(module, load_tokenizer(source), out)


def _check_template(tokenizer: "PreTrainedTokenizerBase", artifact: Artifact) -> None:
    """Raise CorruptArtifactError unless the template is the one that the stage trained with."""
    from pipeline.data.encoding.template import template_sha256

    trained = artifact.properties.get("template_sha256")
    if trained is None:
        return
    digest = template_sha256(tokenizer) if tokenizer.chat_template else "none"
    if digest != trained:
        message = f"its chat template is not what it was trained with ({digest[:16]})"
        raise CorruptArtifactError(artifact.name, message, f"the sha256 was {trained[:16]}")


def _prompting_of(tokenizer: "PreTrainedTokenizerBase", artifact: Artifact) -> Prompting:
    from pipeline.data.encoding.chat import ChatEncoder

    has_template = bool(tokenizer.chat_template)
    form = artifact.properties.get("form") or ("chat" if has_template else "document")
    is_chat = has_template and (artifact.produces == "reward_model" or form == "chat")
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    ends = {eos} if isinstance(eos, int) else set[int]()
    ends |= ChatEncoder(tokenizer).end_ids() if is_chat else frozenset()
    return Prompting(is_chat, tuple(sorted(ends)), pad if isinstance(pad, int) else None)


def _end_generation_at(
    prompting: Prompting, tokenizer: "PreTrainedTokenizerBase", path: Path
) -> None:
    """Have generation end where a turn ends: it was trained to, but a base's config has EOS only.

    We look at the template for that; vLLM and transformers look into generation_config.json.
    """
    special = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": prompting.pad_token_id}
    config: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else special
    )
    ends = config.get("eos_token_id")
    there = cast("list[int]", ends if isinstance(ends, list) else [] if ends is None else [ends])
    config["eos_token_id"] = sorted({*there, *prompting.end_ids})
    config.pop("_from_model_config", None)  # transformers would make such a config anew
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def record_of(artifact: Artifact, name: str, *, form: str, ours: Set[str]) -> dict[str, Any]:
    """Return what posttrain.json says of a stage, except `files`.

    ours: properties that mean something in the store alone.
    """
    properties = {k: v for k, v in artifact.properties.items() if k not in ours}
    # Why it ran here, which may name a folder, says nothing to anybody else.
    provenance = {k: v for k, v in artifact.provenance.items() if k != "because"}
    return {
        "format": _FORMAT,
        "name": name,
        "kind": artifact.kind,
        "produces": artifact.produces,
        "fingerprint": artifact.fingerprint,
        "form": form,
        "inputs": dict(artifact.inputs),
        "identity": without_places(artifact.identity),
        "properties": without_places(properties),
        "provenance": without_places(provenance),
    }
