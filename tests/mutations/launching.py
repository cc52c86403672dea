"""Mutations of what starts several processes and of what makes them one training."""

from tests.mutations.mutation import Mutation

_LAUNCH = "tests/stages/test_launch.py"
_DEEPSPEED = "tests/recipes/test_deepspeed_recipes.py"
_RECIPES = "tests/recipes/test_launch_recipes.py"
_REMARKS = "tests/recipes/test_remarks.py"

LAUNCHING = [
    Mutation(
        "several processes train together, or not at all: they join",
        "pipeline/training/arguments.py",
        'settings["use_cpu"] = True',
        "pass",
        (f"{_LAUNCH}::test_two_processes_give_the_parameters_of_one",),
    ),
    Mutation(
        "several processes train together, or not at all: they are counted",
        "pipeline/training/arguments.py",
        "if there != context.processes:",
        "if False:",
        ("tests/unit/training/test_arguments.py",),
    ),
    Mutation(
        "weights are split as the recipe says, or nothing is trained",
        "pipeline/training/sharding.py",
        "if splits_weights(context) and state.distributed_type",
        "if False and state.distributed_type",
        ("tests/stages/test_sharded.py",),
    ),
    Mutation(
        "a save of empty tensors is not published",
        "pipeline/models/save.py",
        "empty = [name for name, shape in tensors.items() if 0 in shape]",
        "empty = []",
        ("tests/unit/models/test_saved_weights.py",),
    ),
    Mutation(
        "a recipe for one process is not run by several",
        "pipeline/run/worker_environment.py",
        "if started != processes:",
        "if False:",
        (f"{_LAUNCH}::test_what_a_launcher_left_in_the_environment_does_not_change_what_is_run",),
    ),
    Mutation(
        "none outlives the runner",
        "pipeline/run/worker.py",
        "ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)",
        "pass",
        (
            f"{_LAUNCH}::test_no_process_outlives_the_runner_and_until_then_it_holds_the_stages_lock",
        ),
    ),
    Mutation(
        "while a process lives, nobody else writes",
        "pipeline/run/ranks.py",
        "pass_fds=(lock,),",
        "",
        (
            f"{_LAUNCH}::test_no_process_outlives_the_runner_and_until_then_it_holds_the_stages_lock",
        ),
    ),
    Mutation(
        "when one process fails all end",
        "pipeline/run/ranks.py",
        "if due_s is None and (failed or is_urgent()):",
        "if due_s is None and is_urgent():",
        (f"{_LAUNCH}::test_when_one_process_is_killed_the_others_do_not_wait_for_it",),
    ),
    Mutation(
        "when one process fails all end, with its error",
        "pipeline/run/ranks.py",
        "by_themselves = [(number, by) for number, by in died if number not in killed]",
        "by_themselves = [(number, by) for number, by in died if number in killed]",
        (f"{_LAUNCH}::test_when_one_process_is_killed_the_others_do_not_wait_for_it",),
    ),
    Mutation(
        "two processes give the parameters of one: rows that fill up",
        "pipeline/training/rows.py",
        'batch["labels"][extra] = IGNORED',
        "pass",
        (f"{_LAUNCH}::test_two_processes_give_the_parameters_of_one[sft]",),
    ),
    Mutation(
        "two processes give the metrics of one: tokens that fill up",
        "pipeline/training/rows.py",
        "(batch[OWNER] >= 0) & (batch[OWNER] < kept)",
        "batch[OWNER] >= 0",
        (f"{_LAUNCH}::test_two_processes_give_the_parameters_of_one[sft]",),
    ),
    Mutation(
        "two processes give the metrics of one: sums over all",
        "pipeline/training/rows.py",
        "self.accelerator.gather_for_metrics = self.accelerator.gather",
        "self.accelerator.gather_for_metrics = self.accelerator.gather_for_metrics",
        (f"{_LAUNCH}::test_two_processes_give_the_parameters_of_one[dpo_lora]",),
    ),
    Mutation(
        "two processes give the parameters of one: the reference of each pair",
        "pipeline/training/dpo_trainer.py",
        "values = torch.cat(parts)[: len(dataset)]",
        "values = torch.cat(parts)[-len(dataset) :]",
        (f"{_LAUNCH}::test_two_processes_give_the_parameters_of_one[dpo_lora]",),
    ),
    Mutation(
        "what cannot be started is refused: a batch that does not come out even",
        "pipeline/recipe/launching.py",
        "world_size=processes_of(recipe, config).count,",
        "world_size=1,",
        (_RECIPES,),
    ),
    Mutation(
        "what cannot be started is refused: more processes than the machine has room for",
        "pipeline/plan/room.py",
        "if processes.count <= limit:",
        "if processes.count <= limit + 99:",
        (_RECIPES,),
    ),
    Mutation(
        "an Accelerate config that splits in a way nobody knows is refused",
        "pipeline/recipe/launching.py",
        "if kind not in known:",
        "if False:",
        (_RECIPES,),
    ),
    Mutation(
        "what the recipe says is refused in a DeepSpeed config",
        "pipeline/config/deepspeed.py",
        "if key in _SAID_ELSEWHERE and value not in (None, _AUTO):",
        "if False:",
        (_DEEPSPEED,),
    ),
    Mutation(
        "a name that DeepSpeed would read over is refused",
        "pipeline/config/deepspeed.py",
        "if key not in _KNOWN:",
        "if False:",
        (_DEEPSPEED,),
    ),
    Mutation(
        "a checkpoint of DeepSpeed's parts is read by as many processes only",
        "pipeline/run/resume.py",
        'launched["processes"] if zero else None',
        "None",
        ("tests/unit/run/test_resume_state.py",),
    ),
    Mutation(
        "PPO that would train no whole rollout is refused",
        "pipeline/recipe/checks/rollouts.py",
        "if 0 < steps < per_rollout:",
        "if False:",
        (_REMARKS,),
    ),
    Mutation(
        "what a finished stage does not take up is said",
        "pipeline/recipe/remarks.py",
        "if values[0] != values[1]:",
        "if False:",
        (_REMARKS,),
    ),
    Mutation(
        "a training shorter than logging_steps has a line of metrics",
        "pipeline/training/supervisor.py",
        "control.should_log = True",
        "pass",
        (_REMARKS,),
    ),
]
