"""Model types whose experts an adapter reaches, against the tables of PEFT that decide it."""

from peft.utils import transformers_weight_conversion as peft

from pipeline.config.experts import PROJECTIONS, reaches_experts
from pipeline.config.trainer_fields import architectures


def test_the_projections_of_experts_are_those_that_peft_makes_parameters_of() -> None:
    names = {kind: peft._MOE_TARGET_MODULE_MAPPING[kind].keys() for kind in peft._MOE_FUSED_TARGETS}
    expected = {
        kind: names[like]
        for kind, like in peft._MODEL_TO_CONVERSION_PATTERN.items()
        if like in names and kind in architectures()
    }
    if "qwen2_moe" in architectures():
        expected["qwen2_moe"] = names["qwen2_moe"]
    assert {kind: each for kind, each in PROJECTIONS.items() if kind in architectures()} == expected


def test_an_adapter_reaches_experts_by_a_name_or_by_all() -> None:
    assert reaches_experts("mixtral", "all-linear")
    assert reaches_experts("qwen3_moe", ["q_proj", "mlp.up_proj"])
    assert not reaches_experts("qwen3_moe", ["q_proj", "v_proj"])
    assert not reaches_experts("llama", "all-linear")
    assert not reaches_experts(None, "all-linear")
