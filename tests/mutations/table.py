"""The mutations, by what they break."""

from tests.mutations.claims import CLAIMS
from tests.mutations.feedback import FEEDBACK
from tests.mutations.folders import FOLDERS
from tests.mutations.groups import GROUPS
from tests.mutations.judges import JUDGES
from tests.mutations.kept_data import KEPT_DATA
from tests.mutations.launching import LAUNCHING
from tests.mutations.long_range import LONG_RANGE
from tests.mutations.made_rows import MADE_ROWS
from tests.mutations.models import MODELS
from tests.mutations.mutation import Mutation
from tests.mutations.pictures import PICTURES
from tests.mutations.ppo_from_python import PPO_FROM_PYTHON
from tests.mutations.preferences import PREFERENCES
from tests.mutations.scaling_laws import SCALING_LAWS
from tests.mutations.side_by_side import SIDE_BY_SIDE
from tests.mutations.sweeps import SWEEPS
from tests.mutations.tool_turns import TOOL_TURNS
from tests.mutations.tools import TOOLS
from tests.mutations.training import TRAINING
from tests.mutations.vllm import VLLM
from tests.mutations.without_critic import WITHOUT_CRITIC

LORA = [
    Mutation(
        "earlier and new adapters are combined exactly",
        "pipeline/models/adapters.py",
        'return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)',
        "return alpha / rank",
        ("tests/unit/training/test_adapters.py",),
    ),
    Mutation(
        "a DPO stage's reference is the policy as it came in",
        "pipeline/training/policy_metrics.py",
        "with model.disable_adapter():",
        "with nullcontext():",
        ("tests/stages/test_lineage.py",),
    ),
]

STORE = [
    Mutation(
        "a torn checkpoint is named and the one before is used",
        "pipeline/store/checkpoints.py",
        'trouble = first_problem(path, record["files"], with_hashes=True)',
        "trouble = None",
        ("tests/unit/run/test_resume_state.py",),
    ),
    Mutation(
        "the best checkpoint is verified before training goes on to end with it",
        "pipeline/store/checkpoints.py",
        'if record["best"] not in (None, path.name):',
        "if False:",
        ("tests/unit/run/test_resume_state.py",),
    ),
    Mutation(
        "a checkpoint of another stage is not resumed",
        "pipeline/run/resume.py",
        "newest.made.fingerprint != fingerprint",
        "False",
        ("tests/unit/run/test_resume_state.py",),
    ),
    Mutation(
        "a checkpoint counts only when its manifest is written",
        "pipeline/store/checkpoints.py",
        "        if not (path / MANIFEST).exists():\n            continue\n",
        "",
        ("tests/unit/run/test_resume_state.py",),
    ),
    Mutation(
        "an artifact with other contents than were written is refused",
        "pipeline/store/verified_files.py",
        "if not is_known and sha256_file(path)",
        "if False and sha256_file(path)",
        ("tests/unit/store/test_store.py",),
    ),
    Mutation(
        "a checkpoint with other contents than were written is named",
        "pipeline/store/manifest.py",
        "if with_hashes and sha256_file(path)",
        "if False and sha256_file(path)",
        ("tests/unit/run/test_resume_state.py",),
    ),
    Mutation(
        "editing a data file makes another fingerprint",
        "pipeline/store/manifest.py",
        "digest.update(block)",
        "pass",
        ("tests/stages/test_identity.py",),
    ),
    Mutation(
        "changed versions or batch splits start a stage over",
        "pipeline/run/resume.py",
        "if changed and not (resume_anyway and is_readable):",
        "if False:",
        ("tests/stages/test_resume.py",),
    ),
    Mutation(
        "--resume-anyway marks the artifact as not exact",
        "pipeline/run/resume.py",
        "is_exact=newest.made.is_exact and not changed",
        "is_exact=True",
        ("tests/unit/run/test_resume_state.py",),
    ),
    Mutation(
        "execution settings are not part of a fingerprint",
        "pipeline/plan/identity.py",
        "or any(isinstance(marker, Execution) for marker in markers)",
        "",
        ("tests/stages/test_identity.py",),
    ),
    Mutation(
        "only one run works on a stage",
        "pipeline/store/locks.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        ("tests/unit/store/test_store.py",),
    ),
]

PPO = [
    Mutation(
        "the KL penalty is taken off the reward",
        "pipeline/rl/core/kl.py",
        "torch.where(mask, -kl_coef * kl, 0)",
        "torch.where(mask, kl_coef * kl, 0)",
        ("tests/unit/rl/test_core.py",),
    ),
    Mutation(
        "the score lies on the last token",
        "pipeline/rl/core/kl.py",
        "last = torch.where(mask, positions, 0).amax(-1, keepdim=True)",
        "last = (torch.where(mask, positions, 0).amax(-1, keepdim=True) - 1).clamp(min=0)",
        ("tests/unit/rl/test_core.py",),
    ),
    Mutation(
        "advantages are GAE's",
        "pipeline/rl/core/advantages.py",
        "delta + discount * trace * carried",
        "delta + discount * carried",
        ("tests/unit/rl/test_core.py",),
    ),
    Mutation(
        "the surrogate is clipped pessimistically",
        "pipeline/rl/core/losses.py",
        "loss = torch.maximum(free, bounded)\n    counts",
        "loss = torch.minimum(free, bounded)\n    counts",
        ("tests/unit/rl/test_core.py",),
    ),
    Mutation(
        "a PPO run resumes exactly in the middle of a rollout",
        "pipeline/rl/checkpoint.py",
        "state.experience.save(folder / BUFFER)",
        "pass",
        ("tests/unit/rl/test_resume_rollouts.py",),
    ),
    Mutation(
        "the KL controller resumes",
        "pipeline/rl/state.py",
        'self.kl.load_state_dict(saved["kl"])',
        "pass",
        ("tests/unit/rl/test_resume_rollouts.py",),
    ),
    Mutation(
        "running normalisation of rewards resumes",
        "pipeline/rl/state.py",
        'self.rewards.load_state_dict(saved["rewards"])',
        "pass",
        ("tests/unit/rl/test_resume_rollouts.py",),
    ),
    Mutation(
        "two processes give the parameters of one",
        "pipeline/rl/gradients.py",
        "distributed.all_reduce(flat)",
        "pass",
        ("tests/unit/rl/test_processes.py",),
    ),
    Mutation(
        "what is sampled is what is scored: log-probabilities at the temperature",
        "pipeline/rl/logprobs.py",
        "return logits if self.temperature == 1 else logits / self.temperature",
        "return logits",
        ("tests/unit/rl/test_logprobs.py", "tests/unit/rl/test_trainer.py"),
    ),
    Mutation(
        "policy and critic are clipped apart",
        "pipeline/rl/trainer.py",
        "critic = clip_norm(self.model.critic_parameters(), limit)",
        "critic = policy",
        ("tests/unit/rl/test_trainer_steps.py", "tests/unit/rl/test_trainer.py"),
    ),
    Mutation(
        "rows laid end to end do not see each other",
        "pipeline/models/end_to_end.py",
        "parts = (each.float().split(list(lengths), dim=2) for each in (query, key, value))",
        "parts = ([each] for each in (query, key, value))",
        ("tests/unit/models/test_end_to_end.py",),
    ),
    Mutation(
        "a layer's gradient by hand is autograd's",
        "pipeline/models/row_layers.py",
        'of_x = _normed_backward(of_normed, x, scale, w.before_inner, "before_inner", gradients)',
        "of_x = of_normed",
        ("tests/unit/models/test_row_layers.py",),
    ),
    Mutation(
        "of the last layer everything from the first token that is read on is computed",
        "pipeline/models/row_layers.py",
        "begins = [row.start + first for row, first in zip(rows, firsts, strict=True)]",
        "begins = [min(row.start + first + 1, row.stop - 1) for row, first in zip(rows, firsts)]",
        ("tests/unit/models/test_row_layers.py",),
    ),
    Mutation(
        "what is read of a row begins before its first label",
        "pipeline/training/one_line.py",
        "return [max(int(found[0]) - 1, 0) if len(found) else 0 for found in places]",
        "return [int(found[0]) if len(found) else 0 for found in places]",
        ("tests/unit/training/test_one_line.py",),
    ),
    Mutation(
        "a padded row's states come back to its own places",
        "pipeline/models/padded_rows.py",
        "return lengths.tolist(), firsts.tolist()",
        "return lengths.tolist(), lengths.sub(1).tolist()",
        ("tests/unit/models/test_rows_laid_end_to_end.py",),
    ),
    Mutation(
        "RMSNorm's gradient by hand is autograd's",
        "pipeline/models/fused.py",
        "pull.mul_(scale.pow(3)).div_(-x.shape[-1])",
        "pull.mul_(scale.pow(3)).div_(x.shape[-1])",
        ("tests/unit/models/test_fused.py",),
    ),
    Mutation(
        "a batch in one line keeps every row that is trained on",
        "pipeline/training/one_line.py",
        'num_trained = (flat["labels"] != IGNORED).long()',
        'num_trained = (flat["labels"] > 40).long()',
        ("tests/unit/training/test_one_line.py",),
    ),
    Mutation(
        "every prompt is asked once in each pass",
        "pipeline/rl/sampling_order.py",
        "number, begin = divmod(first + len(numbers), num_prompts)",
        "number, begin = divmod(first, num_prompts)",
        ("tests/unit/rl/test_order.py",),
    ),
    Mutation(
        "a judge or reward model that may be right by chance is refused",
        "eval/comparison/licence.py",
        "    if side <= 0:",
        "    if side < 0:",
        ("tests/unit/eval/comparison/test_licence_exam.py",),
    ),
    Mutation(
        "a judge or reward model that may be no better than length is refused",
        "eval/comparison/licence.py",
        "if figures.above_longer.side_of(0.0) <= 0:",
        "if figures.above_longer.side_of(0.0) < 0:",
        ("tests/unit/eval/comparison/test_licence_exam.py",),
    ),
    Mutation(
        "missing_eos_penalty is taken off a response that is cut",
        "pipeline/rewards/composition.py",
        "kept - self.missing_eos_penalty",
        "kept + self.missing_eos_penalty",
        ("tests/unit/rewards/test_rewards.py",),
    ),
]

EVALUATION = [
    Mutation(
        "what `holdout` keeps out is never trained on",
        "pipeline/data/reading/sources.py",
        "if is_held_out(row.fields, share, block.columns) == held_out)",
        "if True)",
        ("tests/unit/data/reading/test_sources.py",),
    ),
    Mutation(
        "one candidate that does not ship stops the run with code 1",
        "eval/comparison/gate.py",
        "return GateResult(all(verdict.ships for verdict in verdicts), tuple(verdicts))",
        "return GateResult(any(verdict.ships for verdict in verdicts), tuple(verdicts))",
        ("tests/unit/eval/comparison/test_gate.py",),
    ),
    Mutation(
        "p-values are adjusted for how many are looked at (Holm)",
        "eval/statistics/intervals.py",
        "largest = max(largest, (len(p_values) - rank) * p_values[index])",
        "largest = max(largest, p_values[index])",
        ("tests/unit/eval/statistics/test_intervals.py",),
    ),
    Mutation(
        "a reward model's score is read at the last token that is not padding",
        "reward/model.py",
        "*[pad] * (width - len(sequences[i]))",
        "*[pad + 1] * (width - len(sequences[i]))",
        ("tests/unit/rewards/test_reward_terms.py", "tests/unit/rl/test_layouts.py"),
    ),
    Mutation(
        "telemetry of the libraries is off",
        "pipeline/environment.py",
        '    "HF_HUB_DISABLE_TELEMETRY": "1",\n',
        "",
        ("tests/stages/test_commands.py",),
    ),
    Mutation(
        "differences are paired: McNemar, Tango",
        "eval/statistics/intervals.py",
        "return delta, tango(differences.count(1), differences.count(-1), len(a), confidence)",
        "return delta, tango(differences.count(-1), differences.count(1), len(a), confidence)",
        ("tests/unit/eval/statistics/test_intervals.py",),
    ),
    Mutation(
        "a program of a model gets no system call that is not listed",
        "reward/boxes/confine.py",
        "_REFUSE = 0x00050000 | errno.EPERM",
        "_REFUSE = 0x7FFF0000",
        ("tests/unit/reward/test_sandbox_attacks.py",),
    ),
]

MUTATIONS: list[Mutation] = [
    *TRAINING,
    *FOLDERS,
    *KEPT_DATA,
    *LAUNCHING,
    *LORA,
    *STORE,
    *PPO,
    *PPO_FROM_PYTHON,
    *WITHOUT_CRITIC,
    *GROUPS,
    *EVALUATION,
    *PREFERENCES,
    *JUDGES,
    *MADE_ROWS,
    *PICTURES,
    *FEEDBACK,
    *MODELS,
    *SCALING_LAWS,
    *TOOLS,
    *TOOL_TURNS,
    *SIDE_BY_SIDE,
    *SWEEPS,
    *LONG_RANGE,
    *VLLM,
    *CLAIMS,
]
