"""Which fields of PEFT's LoraConfig a `lora:` block may set, checked without importing PEFT.

The block is passed on to LoraConfig, whose fields are never declared again. Refused are fields that
the stage decides itself, that cannot be written in YAML, and that would leave an adapter which does
not belong to the base it was trained on.
"""

from collections.abc import Mapping
from typing import Any, cast

from pipeline.config.argument_values import value_problem
from pipeline.config.blocks import LoraBlock
from pipeline.config.experts import reaches_experts
from pipeline.config.trainer_fields import fields
from pipeline.errors import closest
from pipeline.text.values import quote

CLASS = "LoraConfig"
_OUR_KEYS = frozenset({"load_in_4bit"})
_STAGE = "the stage decides it"
_OBJECT = "it takes an object of PEFT's own, which a recipe cannot hold"
_NEEDS_DATA = "it starts from data or weights that the stage does not pass"

OURS: Mapping[str, str] = {
    **dict.fromkeys(("task_type", "peft_type", "auto_mapping", "peft_version"), _STAGE),
    **dict.fromkeys(("base_model_name_or_path", "revision", "inference_mode"), _STAGE),
    **dict.fromkeys(("megatron_config", "megatron_core", "runtime_config", "use_bdlora"), _OBJECT),
    **dict.fromkeys(("velora_config", "monteclora_config", "arrow_config", "kasa_config"), _OBJECT),
    **dict.fromkeys(("loftq_config", "eva_config", "corda_config", "lora_ga_config"), _NEEDS_DATA),
    "layer_replication": "the adapter would belong to another model than its base",
    "alora_invocation_tokens": "prompts here hold no invocation tokens",
}
# The rest (pissa, olora, corda, loftq, ...) change the base's weights, so that it is no longer one.
_INITS = (True, False, "gaussian", "orthogonal")
_OTHER_NAMES = {"alpha": "lora_alpha", "rank": "r", "dropout": "lora_dropout"} | dict.fromkeys(
    ("targets", "modules", "target"), "target_modules"
)
# Settings with which two adapters cannot be combined into one, unless a merge comes in between.
_NOT_COMBINED: Mapping[str, Any] = {
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "trainable_token_indices": None,
    "target_parameters": None,
}


def changes_the_base(init: Any) -> bool:
    """Whether a LoraConfig's `init_lora_weights` changes the weights of the base as well."""
    return not any(init is starting_value or init == starting_value for starting_value in _INITS)


def problem(key: str, value: Any) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with one field of a `lora:` block, or None."""
    known = fields(CLASS)
    if key in _OUR_KEYS:
        return None
    if key not in known:
        official = _OTHER_NAMES.get(key)
        hint = (
            f"did you mean `{official}`?"
            if official
            else closest(key, {*known, *_OUR_KEYS} - {*OURS})
        )
        return f"{CLASS} has no field `{key}`", hint or "see LoraConfig in PEFT"
    if key in OURS:
        return f"`{key}` cannot be set in `lora`", OURS[key]
    if key == "init_lora_weights" and changes_the_base(value):
        why = "write true, gaussian or orthogonal: others change the base's own weights"
        return f"`init_lora_weights` {quote(value)} is not possible here", why
    if key == "lora_dropout" and (not isinstance(value, int | float) or not 0 <= value < 1):
        return f"`lora_dropout` is {quote(value)}", "it is a share: at least 0, below 1"
    return None if key == "init_lora_weights" else value_problem(key, value, CLASS)


MERGE_BETWEEN = "put a `stage: merge` between the two"
TIED_TOKENS = (
    "`trainable_token_indices` changes tied output embeddings too, whose weight the loss reads "
    "itself, so that it would not learn",
    "write `modules_to_save: [embed_tokens]` with `ensure_weight_tying: true`, or untie the model",
)
_FROM_THE_HEAD = frozenset(
    {"sft", "dpo", "kto"}
)  # kinds of stage whose loss reads the head's weight


def tied_problem(kind: str, block: LoraBlock, *, is_tied: bool) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) with an adapter that the loss reads around, or None.

    kind: of the stage. is_tied: whether input and output embeddings share their weight.
    """
    fields = block.fields()
    if kind not in _FROM_THE_HEAD:
        return None
    if is_tied and fields.get("trainable_token_indices"):
        return TIED_TOKENS
    targets = fields["target_modules"]
    if isinstance(targets, list) and "lm_head" in targets:
        message = (
            "the loss reads the weight of `lm_head` itself, so an adapter on it learns nothing"
        )
        return message, "take it out, or train it whole: `modules_to_save: [lm_head]`"
    return None


def loss_of(kind: str) -> str:
    """Return how a kind of stage computes its loss: `from the head`, or by the model: `forward`."""
    return "from the head" if kind in _FROM_THE_HEAD else "forward"


def find_uncombinable(fields: Mapping[str, Any]) -> str | None:
    """Return the first setting that prevents combining an adapter with a second one, or None.

    fields: fields of a LoraConfig, as a recipe or an adapter_config.json has them.
    """
    for key, neutral in _NOT_COMBINED.items():
        if fields.get(key, neutral) not in (neutral, None, []):
            return key
    return None


def _names(modules: Any) -> set[str]:
    """Return the last parts of the names in a list; none for a regular expression."""
    names = cast("list[Any]", modules) if isinstance(modules, list) else []
    return {str(name).rpartition(".")[2] for name in names}


def chain_problem(
    block: LoraBlock, earlier: Mapping[str, Any], *, model_type: str | None = None
) -> tuple[str, str] | None:
    """Return (what is wrong, what to do) when a stage's adapter meets an earlier one, or None.

    earlier: fields of its LoraConfig. model_type: of the model below, where it is known.
    """
    own = block.fields()
    for settings, whose in ((own, "this adapter"), (earlier, "the adapter it is built on")):
        if reaches_experts(model_type, settings.get("target_modules")):
            message = f"{whose} reaches the fused experts of {model_type} (`target_parameters`)"
            hint = "give `target_modules` without them to both, for example [q_proj, v_proj]"
            return f"{message}, and cannot be made one with another", f"{MERGE_BETWEEN}, or {hint}"
    for settings, whose in ((own, "this adapter"), (earlier, "the adapter it is built on")):
        key = find_uncombinable(settings)
        if key is not None:
            message = f"with `{key}`, {whose} cannot be made one with another"
            return message, MERGE_BETWEEN
    for first, second in ((own, earlier), (earlier, own)):
        both = _names(first.get("modules_to_save")) & _names(second.get("target_modules"))
        if both:
            message = f"`{min(both)}` is trained whole by one adapter and by rank by the other"
            return message, MERGE_BETWEEN
    if block.load_in_4bit:
        message = "an adapter cannot be merged into 4-bit weights to go on from it"
        return message, "put a `stage: merge` before this stage"
    return None
