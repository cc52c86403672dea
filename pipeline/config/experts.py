"""Which adapters reach the fused experts of a mixture, where PEFT makes `target_parameters`.

Known from the recipe and the model type alone, without PEFT, so that adapters that cannot be
combined are refused before a stage trains (lora.py).
"""

from typing import Any

# Names that experts had while they were separate layers, and still have for PEFT.
_MIXTRAL = frozenset({"gate", "w1", "w2", "w3"})
_QWEN = frozenset({"gate", "gate_proj", "up_proj", "down_proj"})
PROJECTIONS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("mixtral", "minimax", "minimax_m2"), _MIXTRAL),
    **dict.fromkeys(("qwen2_moe", "qwen3_moe", "qwen3_next", "olmoe", "flex_olmo"), _QWEN),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "afmoe"), _QWEN),
    **dict.fromkeys(("ernie4_5_moe", "glm4_moe", "glm4_moe_lite", "glm_moe_dsa"), _QWEN),
    **dict.fromkeys(("longcat_flash", "solar_open", "hunyuan_v1_moe", "exaone_moe"), _QWEN),
    **dict.fromkeys(("cohere2_moe", "mellum", "beam"), _QWEN),
}


def reaches_experts(model_type: str | None, target_modules: Any) -> bool:
    """Whether an adapter on these modules becomes one on fused experts; False if that is unknown.

    target_modules: as a `lora:` block has them. A regular expression is never known.
    """
    names = PROJECTIONS.get(model_type or "", frozenset())
    if isinstance(target_modules, str):
        return bool(names) and target_modules.lower() == "all-linear"
    return any(str(target).rpartition(".")[2] in names for target in target_modules or ())
