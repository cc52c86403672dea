"""What is broken of rewards without a number, labels of pairs, the loss head, evaluations."""

from tests.mutations.mutation import Mutation

_UNSCORED = ("tests/unit/rl/test_unscored.py",)
_LABELS = ("tests/unit/training/test_pair_losses.py",)
_KTO = ("tests/unit/training/test_kto_loss.py",)
_HEAD = ("tests/unit/training/test_loss_head.py",)
_EVALUATION = ("tests/unit/rl/test_evaluation.py",)

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
        "pipeline/rl/experience.py",
        "is_scored = ~scores.isnan()",
        "scores = scores.nan_to_num()\n    is_scored = ~scores.isnan()",
        _UNSCORED,
    ),
    Mutation(
        "best-of-n never chooses a response without a score",
        "pipeline/rl/best_of_n.py",
        "below = len(scores) - len(order)",
        "below = 0",
        _UNSCORED,
    ),
    Mutation(
        "DPO uses the probability of each pair",
        "pipeline/training/dpo_trainer.py",
        "return probability * right + (1 - probability) * wrong",
        "return right",
        _LABELS,
    ),
    Mutation(
        "DPO uses the margin of each pair",
        "pipeline/training/dpo_trainer.py",
        "z = beta * delta - margin",
        "z = beta * delta",
        _LABELS,
    ),
    Mutation(
        "what the loss head keeps for its backward pass changes no bit",
        "pipeline/training/loss_head.py",
        ".sub_(highest[part, None]).exp_()",
        ".sub_(highest[part, None] + 1e-3).exp_()",
        _HEAD,
    ),
    Mutation(
        "logits that are capped are left to TRL's sums",
        "pipeline/training/loss_head.py",
        'hidden.device.type != "cpu" or softcap is not None',
        'hidden.device.type != "cpu"',
        _HEAD,
    ),
    Mutation(
        "KTO pairs each prompt with another row's response",
        "pipeline/training/kto_trainer.py",
        "partners = order.reshape(-1).roll(1)",
        "partners = order.reshape(-1)",
        _KTO,
    ),
    Mutation(
        "KTO's margin is of the means, not of passes that have both labels",
        "pipeline/training/kto_trainer.py",
        "[kept[_CHOSEN][0] - kept[_REJECTED][0]]",
        "[kept[_CHOSEN][0]]",
        _KTO,
    ),
    Mutation(
        "KTO evaluates with the KL term of all held-out rows",
        "pipeline/training/kto_trainer.py",
        "of_step, self._kl = self._kl, None",
        "of_step, self._kl = self._kl, torch.zeros(1)",
        _KTO,
    ),
    Mutation(
        "judged answers of one prompt are on one side of a holdout",
        "pipeline/data/reading/holdout.py",
        "        return _judged_question(fields)",
        "        return None",
        ("tests/unit/data/reading/test_unpaired.py",),
    ),
    Mutation(
        "answers with one label alone are refused",
        "pipeline/data/encoding/label_balance.py",
        "if not is_one or settings.get(missing, 1.0) == 0:",
        "if not is_one or missing:",
        ("tests/unit/data/encoding/test_judged_answers.py",),
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
        "pipeline/rl/rewards.py",
        "    if folder.is_dir() and not any(",
        "    if not any(",
        ("tests/unit/rl/test_trainer_errors.py",),
    ),
    Mutation(
        "training goes on as if nothing had been evaluated",
        "pipeline/rl/evaluation.py",
        "np.random.set_state(states[1])  # noqa: NPY002",
        "pass",
        _EVALUATION,
    ),
    Mutation(
        "every evaluation has the same draws",
        "pipeline/rl/evaluation.py",
        "keys=[_KEYS + number for",
        "keys=[_KEYS + state.global_step + number for",
        _EVALUATION,
    ),
    Mutation(
        "the best checkpoint is what is left, in ppo too",
        "pipeline/rl/trainer.py",
        "checkpoint.load_weights(Path(str(self.state.best_model_checkpoint)), self.model)",
        "pass",
        _EVALUATION,
    ),
    Mutation(
        "what is logged of pairs does not depend on the batch split",
        "pipeline/training/pair_means.py",
        "kept[name] = [total / sum(over)]",
        "pass",
        ("tests/invariants/test_batch_split.py",),
    ),
    Mutation(
        "held-out pairs that are left out are counted",
        "pipeline/data/encoding/lengths.py",
        '"held_out_dropped_too_long": self.num_dropped_too_long',
        '"held_out_dropped_too_long": 0',
        ("tests/unit/data/encoding/test_pairs.py", "tests/stages/test_watching.py"),
    ),
    Mutation(
        "a reference with another adapter is another reference",
        "pipeline/rl/resume_settings.py",
        "is_in_checkpoint = is_own and (",
        "is_in_checkpoint = True and (",
        ("tests/unit/rl/test_made_with.py",),
    ),
    Mutation(
        "a second adapter on fused experts is refused at plan",
        "pipeline/config/lora.py",
        "if reaches_experts(model_type,",
        "if not model_type and reaches_experts(model_type,",
        ("tests/recipes/test_bad_lora.py", "tests/unit/config/test_experts.py"),
    ),
    Mutation(
        "a token without a row is found by check",
        "pipeline/model_files/token_rows.py",
        "    if not beyond:",
        "    if beyond is not None:",
        ("tests/unit/models/test_model_folders.py", "tests/unit/models/test_vocabulary.py"),
    ),
]
