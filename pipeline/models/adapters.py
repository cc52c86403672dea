"""LoRA adapters: made, attached, combined, merged, saved, through PEFT.

An adapter on disk is one standard PEFT adapter on the original whole model, however many stages it
went through: a stage that begins with an adapter trains a new one on the model with the earlier one
merged in (in memory, fp32), so that the policy as it came in is "all adapters off"; what is saved
is both, combined exactly by rank: with A = [A1; A2] and B = [s1 B1, s2 B2], B A is the sum of both.
Merging into weights of few bits would round them for good, so it is refused. Source of LoRA: Hu et
al. 2021; DoRA's magnitudes do not add up, which is why it is not combined.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file

from pipeline.config.lora import MERGE_BETWEEN, find_uncombinable
from pipeline.errors import CorruptArtifactError, PosttrainError
from pipeline.files.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from pipeline.model_files.folder import WITH_NEW_TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

    from pipeline.config.blocks import LoraBlock

_UPS = (".lora_B.weight", ".lora_embedding_B")
_SHAPE = (
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "target_modules"),
    *("exclude_modules", "layers_to_transform", "layers_pattern", "fan_in_fan_out"),
    *("use_dora", "trainable_token_indices", "target_parameters", "ensure_weight_tying"),
)
# What torch says of a tensor of another shape, on a line after its first.
_MISMATCH = re.compile(r"size mismatch for (\S+): .*?Size\((\[.*?\])\).*?Size\((\[.*?\])\)")
_HEADS = frozenset({"classifier", "score"})  # PEFT adds them for a sequence classifier
TaskType = Literal["CAUSAL_LM", "SEQ_CLS"]
PREFIX = "base_model.model."
MATRICES = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")


def lora_config(block: LoraBlock, *, task: TaskType) -> LoraConfig:
    """Return PEFT's config for a stage's `lora:` block; PosttrainError for what PEFT refuses.

    For a reward model (SEQ_CLS) PEFT then trains and saves the new head too; without the task type
    it would save an adapter of a head that is random again after loading.
    """
    fields = {key: value for key, value in block.fields().items() if key != "load_in_4bit"}
    try:
        return LoraConfig(task_type=task, **fields)
    except (TypeError, ValueError) as error:
        raise PosttrainError("lora", str(error).splitlines()[0]) from error


def attach(module: PreTrainedModel, folder: Path) -> PeftModel:
    """Put a saved adapter on its base; every tensor of it must find its place and be finite."""
    saved = tensors_of(folder)
    if read_config(folder).get("ensure_weight_tying") or len(_whole_ends(module, saved)) > 1:
        _fit_rows(module, saved)
    try:
        with torch.random.fork_rng(devices=[]):  # PEFT draws what it then overwrites
            model = PeftModel.from_pretrained(module, str(folder), autocast_adapter_dtype=False)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        sizes = _MISMATCH.search(str(error))
        if sizes is None:
            first = str(error).strip().splitlines()[0][:200]
            message = f"does not fit its base model: {first}"
            raise CorruptArtifactError(str(folder), message) from error
        message = "does not fit its base model: `{}` is {} in it, {} there".format(*sizes.groups())
        if ".lora_" in sizes[1]:
            raise CorruptArtifactError(str(folder), message) from error
        raise PosttrainError(str(folder), message, WITH_NEW_TOKENS) from error
    there = get_peft_model_state_dict(model, save_embedding_layers=False)
    for name in sorted(saved.keys() ^ there.keys()):
        problem = "is missing from it" if name in there else "has no place in its base model"
        raise CorruptArtifactError(str(folder), f"tensor `{name}` {problem}")
    return model


def _fit_rows(module: PreTrainedModel, saved: Mapping[str, Tensor]) -> None:
    """Give the embeddings the rows of tokens that were added where an adapter was trained.

    It holds the embeddings whole then, so it does not matter what the new rows hold before.
    """
    rows = max((tensor.shape[0] for tensor in _whole_ends(module, saved)), default=0)
    end: Any = module.get_input_embeddings()
    if rows > end.weight.shape[0]:
        module.resize_token_embeddings(rows, mean_resizing=False)


def _whole_ends(module: PreTrainedModel, saved: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the input and output embeddings that an adapter holds whole."""
    ends = (module.get_input_embeddings(), module.get_output_embeddings())
    names = [name for name, part in module.named_modules() if any(part is end for end in ends)]
    return [saved[key] for name in names if (key := f"{PREFIX}{name}.weight") in saved]


def merge(module: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return the base with a saved adapter merged in; PosttrainError for a quantised base."""
    if getattr(module, "quantization_method", None) is not None:
        raise PosttrainError(
            str(folder),
            "its base model is quantised, and merging would round the result for good",
            "merge into the base model in full precision",
        )
    trainable = _trainable(module)
    is_embedded = _adapts_embeddings(module, folder)
    return _unload(attach(module, folder), trainable, is_embedded=is_embedded)


def _trainable(module: PreTrainedModel) -> set[str]:
    return {name for name, parameter in _parameters(module) if parameter.requires_grad}


def _unload(model: Any, trainable: set[str], *, is_embedded: bool) -> PreTrainedModel:
    """Merge an adapter, and make trainable again what was: PEFT froze the base.

    is_embedded: whether the adapter changes the embeddings.
    """
    is_untied = is_embedded and _untie(model)  # before merging, which adds to shared weights twice
    whole = model.merge_and_unload()
    if is_untied:
        _tie_if_equal(whole)
    for name, parameter in _parameters(whole):
        parameter.requires_grad_(name in trainable)
    return whole


def split_off(
    module: PreTrainedModel, folder: Path
) -> tuple[PreTrainedModel, dict[str, tuple[Tensor, Tensor]]]:
    """Return the base without what a saved adapter adds to its projections, and that apart.

    By the projection's name: (r, in) and (out, r), whose product merging would have added. Whatever
    else the adapter changes (embeddings, whole modules) is merged into the base.
    """
    trainable, is_embedded = _trainable(module), _adapts_embeddings(module, folder)
    model = attach(module, folder)
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in model.get_base_model().named_modules():
        if not isinstance(layer, LoraLinear) or layer.lora_variant or layer.lora_bias["default"]:
            continue
        up: Any = layer.lora_B["default"].weight
        down: Any = layer.lora_A["default"].weight
        factors[name] = (down.detach(), up.detach() * layer.scaling["default"])
        up.data = torch.zeros_like(up)  # then merging adds nothing for this projection
    return _unload(model, trainable, is_embedded=is_embedded), factors


def _adapts_embeddings(module: PreTrainedModel, folder: Path) -> bool:
    """Whether a saved adapter changes the input or the output embeddings."""
    ends = (module.get_input_embeddings(), module.get_output_embeddings())
    names = {name for name, part in module.named_modules() if any(part is end for end in ends)}
    return any(key.startswith(f"{PREFIX}{name}.") for key in tensors_of(folder) for name in names)


def _untie(model: Any) -> bool:
    """Give tied output embeddings below an adapter their own weights; return whether tied.

    An adapter on one end leaves the second end as it is, and one on both is added to both: merged
    into weights that the ends share, it would be on both ends, or twice.
    """
    network = model.get_base_model()
    ends = [_below(network.get_input_embeddings()), _below(network.get_output_embeddings())]
    if ends[1] is None or ends[0].weight is not ends[1].weight:
        return False
    ends[1].weight = torch.nn.Parameter(ends[1].weight.detach().clone(), requires_grad=False)
    return True


def _below(layer: Any) -> Any:
    """Return the layer that PEFT wrapped, however often."""
    for name in ("original_module", "base_layer"):
        inner = getattr(layer, "_modules", {}).get(name)
        if inner is not None:
            return _below(inner)
    token_adapter = getattr(layer, "_modules", {}).get("token_adapter")
    return layer if token_adapter is None else _below(token_adapter)


def _tie_if_equal(module: Any) -> None:
    """Tie embeddings again if they came out equal, else record in the config that they differ."""
    first, last = module.get_input_embeddings(), module.get_output_embeddings()
    is_tied = torch.equal(first.weight, last.weight)
    if is_tied:
        last.weight = first.weight
    for config in (module.config, module.config.get_text_config()):
        config.tie_word_embeddings = is_tied


def save(
    model: PeftModel,
    out: Path,
    *,
    base: str,
    revision: str | None,
    earlier: Path | None,
    name: str = "default",
) -> None:
    """Save a trained adapter, combined with the earlier one that the stage began with.

    base: path or hub id of the whole model below. name: of the adapter. Writes PEFT's two files.
    """
    config = model.peft_config[name]
    assert isinstance(config, LoraConfig)
    new = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    new = {name: tensor.detach().cpu() for name, tensor in new.items()}
    fields = config.to_dict()
    if earlier is not None:
        new, fields = _combine(earlier, new, fields)
        new, fields = _drop_lost_modules(model.get_base_model(), new, fields)
    fields |= {"base_model_name_or_path": base, "revision": revision, "inference_mode": True}
    text = json.dumps(fields, indent=2, sort_keys=True, default=_plain)
    (out / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")
    # Copies: tied embeddings come as one tensor under two names, which safetensors refuses.
    copies = {name: tensor.clone().contiguous() for name, tensor in new.items()}
    save_file(copies, out / ADAPTER_WEIGHTS, {"format": "pt"})


def _drop_lost_modules(
    network: Any, tensors: Mapping[str, Tensor], fields: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an adapter without the modules that it saves whole and the network does not have.

    A reward model has no output embeddings; the adapter that it continues from may hold them.
    """
    names = {name for name, _ in network.named_modules()}
    lost = {
        module
        for name in tensors
        if not name.endswith(MATRICES)
        and (module := name.removeprefix(PREFIX).rpartition(".")[0]) not in names
    }
    kept = {
        name: tensor
        for name, tensor in tensors.items()
        if name.removeprefix(PREFIX).rpartition(".")[0] not in lost
    }
    ends = {name.rpartition(".")[2] for name in lost}
    whole = [part for part in fields.get("modules_to_save") or () if part not in ends]
    return kept, {**fields, "modules_to_save": whole or None}


def relative(folder: Path, to: Path | None) -> tuple[LoraConfig, dict[str, Tensor]]:
    """Return an adapter that does on a merged model what a saved one does on the model below.

    folder: of the adapter. to: the adapter that was merged, None where none was. Exact by rank: the
    one is added, the other taken off. Tensors have PEFT's names, those of a new head included.
    Raises PosttrainError for adapters that do not add up.
    """
    tensors = tensors_of(folder)
    fields = read_config(folder)
    if to is not None:
        off = {
            name: -tensor if name.endswith(_UPS) else tensor
            for name, tensor in tensors_of(to).items()
        }
        whole = sorted(name for name in off if not name.endswith(MATRICES))
        if whole:
            message = f"has trained `{whole[0]}` whole, which cannot be taken off again"
            raise PosttrainError(str(to), message, "put a `stage: merge` after it")
        tensors, fields = _combine(folder, off, read_config(to))
    kept = {name: fields[name] for name in _SHAPE if fields.get(name) is not None}
    saved = set(fields.get("modules_to_save") or ()) - _HEADS
    return LoraConfig(task_type="CAUSAL_LM", **kept, modules_to_save=sorted(saved) or None), tensors


def read_config(folder: Path) -> dict[str, Any]:
    """Return what a saved adapter's config says."""
    return json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))


def _parameters(module: PreTrainedModel) -> list[tuple[str, Tensor]]:
    return list(module.named_parameters(remove_duplicate=False))


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set) else str(value)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """Return a saved adapter's tensors by PEFT's names; they must be finite."""
    path = folder / ADAPTER_WEIGHTS
    if not path.is_file():
        hint = "save it as safetensors" if (folder / "adapter_model.bin").exists() else ""
        raise PosttrainError(str(folder), f"has no {ADAPTER_WEIGHTS}", hint)
    try:
        tensors = load_file(path)
    except (OSError, ValueError, RuntimeError) as error:
        raise CorruptArtifactError(str(path), f"is not readable ({error})") from error
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CorruptArtifactError(str(folder), f"tensor `{name}` holds NaN or infinity")
    return tensors


def _combine(
    earlier: Path, new: Mapping[str, Tensor], config: dict[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and config of one adapter that does what both do, one after the other."""
    before = read_config(earlier)
    for fields in (before, config):
        key = find_uncombinable(fields)
        if key is not None:
            message = f"`{key}`: this adapter cannot be made one with the one it was trained on"
            raise PosttrainError(str(earlier), message, MERGE_BETWEEN)
    old = tensors_of(earlier)
    ranks: dict[str, int] = {}
    tensors: dict[str, Tensor] = {}
    for name in sorted(modules_of(old) | modules_of(new)):
        down, up, is_embedding = [], [], f"{name}.lora_embedding_A" in (old.keys() | new.keys())
        suffixes = MATRICES[2:] if is_embedding else MATRICES[:2]
        for source, fields in ((old, before), (new, config)):
            if name + suffixes[0] in source:
                down.append(source[name + suffixes[0]].float())
                up.append(source[name + suffixes[1]].float() * _scaling(name, fields))
        # B A = s1 B1 A1 + s2 B2 A2 as one product of rank r1 + r2.
        tensors[name + suffixes[0]] = torch.cat(down, dim=0)  # A: (r1 + r2, in)
        tensors[name + suffixes[1]] = torch.cat(up, dim=1)  # B: (out, r1 + r2)
        ranks[name.removeprefix(PREFIX)] = tensors[name + suffixes[0]].shape[0]
    kept = {name: tensor for name, tensor in old.items() if not name.endswith(MATRICES)}
    kept |= {name: tensor for name, tensor in new.items() if not name.endswith(MATRICES)}
    whole = {*(before.get("modules_to_save") or []), *(config.get("modules_to_save") or [])}
    is_tied = before.get("ensure_weight_tying", False) or config.get("ensure_weight_tying", False)
    both = {"modules_to_save": sorted(whole) or None, "ensure_weight_tying": is_tied}
    return {**tensors, **kept}, {**config, **_shape(ranks), **both}


def modules_of(tensors: Iterable[str]) -> set[str]:
    """Return the modules whose matrices are among tensors."""
    return {
        name.removesuffix(suffix)
        for name in tensors
        for suffix in MATRICES
        if name.endswith(suffix)
    }


def _scaling(module: str, config: Mapping[str, Any]) -> float:
    """Return what PEFT multiplies B A of a module by: alpha / r, or alpha / sqrt(r) (rsLoRA)."""
    name = module.removeprefix(PREFIX)
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    rank = ranks.get(get_pattern_key(list(ranks), name), config["r"])
    alpha = alphas.get(get_pattern_key(list(alphas), name), config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _shape(ranks: Mapping[str, int]) -> dict[str, Any]:
    """Return the config fields of a combined adapter, whose scales are all 1 (alpha = rank)."""
    common = max(set(ranks.values()), key=list(ranks.values()).count)
    pattern = {name.replace(".", r"\."): rank for name, rank in ranks.items() if rank != common}
    return {
        "r": common,
        "lora_alpha": common,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "use_rslora": False,
        "lora_dropout": 0.0,
        "init_lora_weights": True,
        "target_modules": sorted(ranks),
        "exclude_modules": None,
        "layers_to_transform": None,
        "layers_pattern": None,
    }
