"""What of `launch` cannot be is said by the command, with its place, before anything starts."""

from pathlib import Path

import pytest

from pipeline.machine import num_cores, threads_of
from tests.command import Command, is_like, the_line
from tests.recipes.launched import write

TWO = "launch: {with: accelerate, processes: 2}"
OF_A_FILE = "launch: {with: accelerate, config: acc.yaml}"
CONFIGS = [
    (
        "distributed_type: MULTI_GPU\nnum_processes: 3",
        "...:11:17: batch_size 64 is not a ... of 3...",
    ),
    (
        "distributed_type: FSDP\nnum_processes: 2",
        "...acc.yaml: `fsdp_config` is missing; write `fsdp_config: {fsdp_version: 2}`",
    ),
    (
        "distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_offload_params: false}",
        "...acc.yaml: `fsdp_config` does not say `fsdp_version`; write `fsdp_version: 2`",
    ),
    (
        "distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_version: 1}",
        "...acc.yaml: `fsdp_version` is 1: only FSDP2 is supported; write 2",
    ),
    (
        "distributed_type: FSDP\nnum_processes: 1\nfsdp_config: {fsdp_version: 2}",
        "recipe.yaml:...: weights are split over processes, and there is one; write two or more",
    ),
    (
        "distributed_type: DEEPSPEED",
        "...acc.yaml: `deepspeed_config` is missing; write `deepspeed_config: {deepspeed_conf...",
    ),
    (
        "distributed_type: TPU",
        "...`distributed_type` is `TPU`, not NO or MULTI_CPU or MULTI_GPU or FSDP or DEEPSPEED",
    ),
    ("distributed_type: MULTI_GPU", "recipe.yaml:...: acc.yaml does not say `num_processes`; ..."),
    ("num_machines: 2", "...acc.yaml: `num_machines` is 2: a stage runs on one machine;..."),
    ("compute_environment: AMAZON_SAGEMAKER", "...`compute_environment` is `AMAZON_SAGEMAKER`:..."),
    ("num_processes: -1", "...acc.yaml: `num_processes` is -1; write a whole number above 0"),
    (
        "mixed_precision: bf16",
        "...`mixed_precision` is `bf16`; write `precision:` on the stage,...",
    ),
    (
        "- a list",
        "recipe.yaml:2:36: `acc.yaml` is no config of Accelerate; `accelerate config` writes one",
    ),
    ("a: [", "...acc.yaml:1:..."),
]


@pytest.mark.parametrize("verb", ["plan", "check", "run"])
def test_a_batch_that_does_not_come_out_even_over_the_processes_is_refused(
    posttrain: Command, tmp_path: Path, verb: str
) -> None:
    write(tmp_path, "launch: {with: accelerate, processes: 3}")
    line = the_line(posttrain(verb, "recipe.yaml"))
    assert is_like(line, "recipe.yaml:11:17: batch_size 64 is not a multiple of 3 processes;...")


@pytest.mark.parametrize(("text", "said"), CONFIGS)
def test_an_accelerate_config_that_cannot_be_used_is_refused(
    posttrain: Command, tmp_path: Path, text: str, said: str
) -> None:
    write(tmp_path, OF_A_FILE)
    (tmp_path / "acc.yaml").write_text(text)
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, said), line


def test_an_accelerate_config_says_how_many_processes_there_are(
    posttrain: Command, tmp_path: Path
) -> None:
    (tmp_path / "acc.yaml").write_text(
        "distributed_type: MULTI_CPU\nnum_processes: 2\nuse_cpu: true"
    )
    write(tmp_path, OF_A_FILE)
    assert posttrain("check", "recipe.yaml").code == 0
    write(tmp_path, OF_A_FILE.replace("config", "processes: 4, config"))
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(
        line, "recipe.yaml:2:39: `processes` is 4, in acc.yaml it is 2; say it in one place"
    )


OPTIONS = [
    ("sharding_strategy: FULL_SHARD", "`sharding_strategy` is of FSDP1; leave it out: weights..."),
    ("state_dict_type: FULL_STATE_DICT", "`state_dict_type` is `FULL_STATE_DICT`: each process..."),
    ("cpu_ram_efficient_loading: true", "`cpu_ram_efficient_loading` is `true`: every process..."),
    ("reshard_after_forwards: true", "`reshard_after_forwards` is no option of FSDP2; did you..."),
    ("reshard_after_forward: 1", "`reshard_after_forward` is 1; write true or false"),
    ("auto_wrap_policy: NO_WRAP", "`auto_wrap_policy` is `NO_WRAP`; write TRANSFORMER_BASED_..."),
    ("min_num_params: 100", "`min_num_params` is of SIZE_BASED_WRAP: Accelerate hands FSDP2..."),
    ("auto_wrap_policy: SIZE_BASED_WRAP", "`auto_wrap_policy` is `SIZE_BASED_WRAP`: Accelerate..."),
]


@pytest.mark.parametrize(("option", "said"), OPTIONS)
def test_an_option_that_splits_weights_in_no_way_of_ours_is_refused(
    posttrain: Command, tmp_path: Path, option: str, said: str
) -> None:
    launch = f"launch: {{with: accelerate, processes: 2, fsdp: {{{option}}}}}"
    write(tmp_path, launch)
    line = the_line(posttrain("check", "recipe.yaml"))
    column = launch.index(option) + option.index(" ") + 2  # of the value
    assert is_like(line, f"recipe.yaml:2:{column}: {said}"), line


def test_a_stage_that_cannot_split_weights_is_refused_where_that_is_asked_of_it(
    posttrain: Command, tmp_path: Path
) -> None:
    one = "launch: {with: accelerate, processes: 1, fsdp: {}}"
    write(tmp_path, one)
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, "recipe.yaml:2:39: weights are split over processes, and there is one;...")
    write(tmp_path, "launch: {with: python, fsdp: {}}")
    line = the_line(posttrain("plan", "recipe.yaml"))
    assert is_like(line, "...: `processes`, `config`, `fsdp` and `deepspeed` are for many;...")
    write(tmp_path, "launch: {with: accelerate, processes: 2, fsdp: {}}")
    assert posttrain("check", "recipe.yaml").code == 0


SAMPLES = """\
  learnt:
    stage: grpo
    model: $base
    prompts: {task: arithmetic}
    reward: {verify: all}
    batch_size: 8
    launch: {with: accelerate, processes: 2, fsdp: {OPTION}}
    training_args: {total_episodes: 16, num_generations: 4, optim: OPTIM, max_completion_length: 8}
"""


@pytest.mark.parametrize(
    ("option", "optim", "said"),
    [
        ("", "adamw_torch", ""),
        (
            "reshard_after_forward: true",
            "adamw_torch",
            "recipe.yaml:19:76: ... moments alone; leave `re...",
        ),
        (
            "",
            "sgd",
            "recipe.yaml:20:68: `fsdp` splits Adam's moments, and `optim` is sgd; write ...",
        ),
    ],
    ids=["moments", "an option of weights", "no moments"],
)
def test_a_stage_that_samples_splits_the_moments_of_adam_alone(
    posttrain: Command, tmp_path: Path, option: str, optim: str, said: str
) -> None:
    write(tmp_path, "seed: 7")
    recipe = tmp_path / "recipe.yaml"
    stage = SAMPLES.replace("OPTION", option).replace("OPTIM", optim)
    recipe.write_text(recipe.read_text() + stage)
    ended = posttrain("plan", "recipe.yaml")
    if not said:
        assert ended.code == 0, ended
        return
    assert is_like(the_line(ended), said), the_line(ended)


@pytest.mark.parametrize("verb", ["check", "run"])
def test_more_processes_than_the_machine_has_room_for_are_refused(
    posttrain: Command, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    write(tmp_path, "launch: {with: accelerate, processes: 64}")
    said = "`base` asks for 64 processes, and this machine has no GPU and 2 cores;..."
    line = the_line(posttrain(verb, "recipe.yaml"))
    assert is_like(line, f"recipe.yaml:2:9: {said}"), line
    assert not list(tmp_path.glob("runs/store/*-*"))  # nothing was run before that


def test_a_stage_that_runs_in_one_process_is_not_asked_to_share(
    posttrain: Command, tmp_path: Path
) -> None:
    write(tmp_path, TWO)
    assert posttrain("check", "recipe.yaml").code == 0  # of the stages that train
    write(tmp_path, "")
    override = f"stages.answers.{TWO.replace(': ', '=', 1)}"
    line = the_line(posttrain("check", "recipe.yaml", "--set", override))
    assert is_like(line, "...: a stage of the kind evaluate runs in one process; leave `launch`...")


def test_processes_share_the_cores_unless_threads_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_of(1) == num_cores()
    assert threads_of(num_cores() + 1) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_of(2) == 3
