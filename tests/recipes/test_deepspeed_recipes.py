"""What of a DeepSpeed config cannot be is said by the command, before anything starts."""

import json
from pathlib import Path

import pytest

from pipeline.config.deepspeed import deepspeed_of
from pipeline.recipe import launching
from tests.command import Command, is_like, the_line
from tests.recipes.launched import write

SAMPLES = """\
  learnt:
    stage: grpo
    model: $base
    prompts: {task: arithmetic}
    reward: {verify: all}
    batch_size: 8
"""
PACKED = """\
  learnt:
    stage: sft
    model: $base
    data: {task: arithmetic}
    batch_size: 8
    lora: {load_in_4bit: true}
"""
ZERO_2 = "zero_optimization: {stage: 2}"
OPTIONS = [
    ("train_batch_size: 8", "`train_batch_size` is 8: the recipe says it; write the global..."),
    ("gradient_clipping: 1.0", "`gradient_clipping` is 1.0: the recipe says it; write `max_gr..."),
    ("optimizer: {type: Adam}", "`optimizer` is not read here; write `optim` and..."),
    ("bf16: {enabled: true}", "`bf16` is here: the recipe says it; write `precision: fp32 |..."),
    ("zero_optimisation: {stage: 2}", "`zero_optimisation` is no option of DeepSpeed...; did..."),
    ("zero_optimization: {stage: 4}", "`stage` is 4; write 1, 2 or 3; `launch` without..."),
    ("zero_optimization: {stage: true}", "`stage` is ...; write 1, 2 or 3; `launch` without..."),
    ("steps_per_print: 10", "`zero_optimization` does not say which `stage`; write `zero_opti..."),
]
CONFIGS = [
    ("{}", "`deepspeed_config` has neither deepspeed_config_file nor zero_stage; write..."),
    ("{zero_stage: 2, deepspeed_config_file: ds.json}", "`zero_stage` is here, and another ..."),
    ("{zero_stage: 2, gradient_clipping: 1.0}", "`gradient_clipping` of `deepspeed_config` is..."),
    ("[]", "`deepspeed_config` is missing; write `deepspeed_config: {deepspeed_config_file:..."),
]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching, "find_spec", lambda name: name)


def launch_of(options: str) -> str:
    return f"launch: {{with: accelerate, processes: 2, deepspeed: {options}}}"


@pytest.mark.parametrize(("option", "said"), OPTIONS)
def test_an_option_that_the_recipe_has_or_nobody_reads_is_refused(
    posttrain: Command, tmp_path: Path, option: str, said: str
) -> None:
    write(tmp_path, launch_of(f"{{{option}}}"))
    line = the_line(posttrain("check", "recipe.yaml"))
    assert is_like(line, f"recipe.yaml:2:...: {said}"), line
    (tmp_path / "ds.yaml").write_text(option)
    write(tmp_path, launch_of("ds.yaml"))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, f"...ds.yaml: {said}"), line


def test_what_a_file_says_in_the_way_of_transformers_is_taken(
    posttrain: Command, tmp_path: Path
) -> None:
    auto = dict.fromkeys(("train_batch_size", "gradient_clipping"), "auto")
    given = {"zero_optimization": {"stage": 3}, "bf16": {"enabled": "auto"}, **auto}
    (tmp_path / "ds.json").write_text(json.dumps(given))
    write(tmp_path, launch_of("ds.json"))
    assert posttrain("check", "recipe.yaml").code == 0
    found = deepspeed_of(given)
    assert (found.engine, found.split) == ("deepspeed", "weights")
    assert found.options["train_micro_batch_size_per_gpu"] == "auto"
    assert deepspeed_of({"zero_optimization": {"stage": 2}}).split == "moments"


@pytest.mark.parametrize(("options", "said"), CONFIGS)
def test_an_accelerate_config_of_deepspeed_says_its_stage_in_one_place(
    posttrain: Command, tmp_path: Path, options: str, said: str
) -> None:
    (tmp_path / "acc.yaml").write_text(
        f"distributed_type: DEEPSPEED\nnum_processes: 2\ndeepspeed_config: {options}"
    )
    write(tmp_path, "launch: {with: accelerate, config: acc.yaml}")
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, f"...acc.yaml: {said}"), line


def test_an_accelerate_config_of_deepspeed_is_read(posttrain: Command, tmp_path: Path) -> None:
    (tmp_path / "acc.yaml").write_text(
        "distributed_type: DEEPSPEED\nnum_processes: 2\n"
        "deepspeed_config: {zero_stage: 3, offload_optimizer_device: none, zero3_init_flag: false}"
    )
    write(tmp_path, "launch: {with: accelerate, config: acc.yaml}")
    assert posttrain("check", "recipe.yaml").code == 0


def test_what_deepspeed_cannot_split_is_refused(
    posttrain: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = launch_of(f"{{{ZERO_2}}}, fsdp: {{}}")
    write(tmp_path, both)
    said = "recipe.yaml:2:9: `launch`: weights are split by `fsdp` or by `deepspeed`; leave one out"
    assert the_line(posttrain("plan", "recipe.yaml")) == said
    write(tmp_path, launch_of(f"{{{ZERO_2}}}").replace("2, deep", "1, deep"))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, "recipe.yaml:2:39: weights are split over processes, and there is one;...")
    write(tmp_path, launch_of("nowhere.json"))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, "recipe.yaml:2:...: there is no file `nowhere.json`; looked for ...")
    write(tmp_path, launch_of(f"{{{ZERO_2}}}"), SAMPLES)
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, "...: a stage of the kind grpo splits Adam's moments by itself; write ...")
    write(tmp_path, launch_of("{zero_optimization: {stage: 3}}"), PACKED)
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(
        line, "...: `load_in_4bit` packs weights, which stage 3 of ZeRO cannot split;..."
    )
    monkeypatch.setattr(launching, "find_spec", lambda name: None)
    write(tmp_path, launch_of(f"{{{ZERO_2}}}"))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, "...: `launch` needs DeepSpeed, which is not installed; `pip install ...")
