"""What is broken of rewards without a number, labels of pairs, vocabularies and evaluations."""

from tests.mutations.mutation import Mutation

_UNSCORED = ("tests/unit/ppo/test_unscored.py",)
_LABELS = ("tests/unit/training/test_pair_losses.py",)
_EVALUATION = ("tests/unit/ppo/test_evaluation.py",)

PREFERENCES = [
    Mutation(
        "None is never a number",
        "pipeline/rewards/composition.py",
        "return torch.where(raw[:, counts].isnan().all(-1), torch.nan, total)",
        "return total",
        ("tests/unit/rewards/test_rewards.py", *_UNSCORED),
    ),
    Mutation(
        "a response that no reward scores is not trained on",
        "pipeline/ppo/experience.py",
        "is_scored = ~scores.isnan()",
        "scores = scores.nan_to_num()\n    is_scored = ~scores.isnan()",
        _UNSCORED,
    ),
    Mutation(
        "best-of-n never chooses a response without a score",
        "pipeline/ppo/best_of_n.py",
        "below = len(scores) - len(order)",
        "below = 0",
        _UNSCORED,
    ),
    Mutation(
        "DPO uses the probability of each pair",
        "pipeline/training/preference.py",
        "return probability * right + (1 - probability) * wrong",
        "return right",
        _LABELS,
    ),
    Mutation(
        "DPO uses the margin of each pair",
        "pipeline/training/preference.py",
        "z = beta * delta - margin",
        "z = beta * delta",
        _LABELS,
    ),
    Mutation(
        "ids mean the same to a reward model, or it is refused",
        "pipeline/rewards/vocabulary.py",
        "if token in ours and ours[token] != number:",
        "if False:",
        ("tests/unit/rewards/test_reward_vocabulary.py",),
    ),
    Mutation(
        "a reward model of the hub is checked by its own tokenizer",
        "pipeline/ppo/build.py",
        "    if folder.is_dir() and not any(",
        "    if not any(",
        ("tests/unit/ppo/test_trainer_errors.py",),
    ),
    Mutation(
        "training goes on as if nothing had been evaluated",
        "pipeline/ppo/evaluation.py",
        "np.random.set_state(states[1])  # noqa: NPY002",
        "pass",
        _EVALUATION,
    ),
    Mutation(
        "every evaluation has the same draws",
        "pipeline/ppo/evaluation.py",
        "first=_KEYS,",
        "first=_KEYS + trainer.state.global_step,",
        _EVALUATION,
    ),
    Mutation(
        "the best checkpoint is what is left, in ppo too",
        "pipeline/ppo/evaluation.py",
        "checkpoint.load_weights(self, Path(str(self.state.best_model_checkpoint)))",
        "pass",
        _EVALUATION,
    ),
]
