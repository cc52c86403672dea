"""Mutations of PPOTrainer as a library: settings, prompts, reward functions, checkpoints."""

from tests.mutations.mutation import Mutation

PPO_FROM_PYTHON = [
    Mutation(
        "the first error of a reward function ends those that are awaited",
        "pipeline/rewards/composition.py",
        "future.cancel()",
        "pass",
        ("tests/unit/rewards/test_reward_functions.py",),
    ),
    Mutation(
        "a PPOConfig stays what it was for the next trainer",
        "pipeline/rl/arguments.py",
        "own = copy.copy(args)",
        "own = args",
        ("tests/unit/rl/test_rollout_arguments.py",),
    ),
    Mutation(
        "an argument of upstream's works in PPO or is refused",
        "pipeline/rl/config/base.py",
        "if argument.name in REFUSED and not",
        "if argument.name not in REFUSED and not",
        ("tests/unit/rl/test_rollout_arguments.py",),
    ),
    Mutation(
        "an optimizer of PPO's trains policy and critic",
        "pipeline/rl/trainer.py",
        "check_trains(optimizers[0], actor)",
        "pass",
        ("tests/unit/rl/test_rollout_arguments.py",),
    ),
    Mutation(
        "plain `python` uses one of several GPUs",
        "pipeline/rl/arguments.py",
        "own._n_gpu = 1",
        "pass",
        ("tests/unit/rl/test_rollout_arguments.py",),
    ),
    Mutation(
        "a checkpoint of PPO is resumed with what it was made with",
        "pipeline/rl/checkpoint.py",
        'check_made_with(saved["made_with"], made_with)',
        "pass",
        ("tests/unit/rl/test_made_with.py",),
    ),
    Mutation(
        "no dropout is left that a network reads from its config",
        "pipeline/models/dropout.py",
        "id(part) not in kept and _rates(value)",
        "id(each) not in kept and False",
        ("tests/unit/rl/test_dropout.py",),
    ),
    Mutation(
        "the config that is saved keeps its rates of dropout",
        "pipeline/models/dropout.py",
        "id(part) not in kept and _rates(value)",
        "_rates(value)",
        ("tests/unit/rl/test_dropout.py",),
    ),
    Mutation(
        "stop strings end a response",
        "pipeline/rl/sampler.py",
        "return self.stop is not None and",
        "return self.stop is None and",
        ("tests/unit/rl/test_stops.py",),
    ),
    Mutation(
        "what a reward function logs comes with its own row",
        "pipeline/rl/collector.py",
        "values[place] for name",
        "values[0] for name",
        ("tests/unit/rl/test_trainer.py",),
    ),
    Mutation(
        "a row's settings of the chat template lie over the config's",
        "pipeline/rl/prompts.py",
        "**{**template, **own},",
        "**{**own, **template},",
        ("tests/unit/rl/test_prompt_rows.py",),
    ),
]
