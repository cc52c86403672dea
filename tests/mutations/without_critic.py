"""Mutations of the formulas that methods without a critic are made of."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_ADVANTAGES, _LOSSES = "pipeline/rl/core/advantages.py", "pipeline/rl/core/losses.py"
_GROUPS, _RATIOS = ("tests/unit/rl/test_core_groups.py",), ("tests/unit/rl/test_core_ratios.py",)
_DIVERGENCES = ("tests/unit/rl/test_core_divergence.py",)
_DISTILLED = ("tests/unit/rl/test_distill.py",)
_TRL = ("tests/unit/rl/test_trl_oracle.py",)
_TRAINERS, _TOOLS = ("tests/unit/rl/test_trl_trainers.py",), ("tests/unit/rl/test_tool_tokens.py",)

WITHOUT_CRITIC = [
    Mutation(
        "a response is compared with its own group",
        _ADVANTAGES,
        "return _Groups(scores, index, counts, means[index], (high > low)[index])",
        "return _Groups(scores, index, counts, means[index.flip(0)], (high > low)[index])",
        _GROUPS,
    ),
    Mutation(
        "a group without spread teaches nothing",
        _ADVANTAGES,
        "(high > low)[index]",
        "(high >= low)[index]",
        _GROUPS,
    ),
    Mutation(
        "GRPO's standard deviation is TRL's",
        _ADVANTAGES,
        "scale: Scale, epsilon: float = 1e-4, ddof: int = 1",
        "scale: Scale, epsilon: float = 1e-4, ddof: int = 0",
        _TRL,
    ),
    Mutation(
        "RLOO leaves one out",
        _ADVANTAGES,
        "centred * size / (size - 1).clamp(min=1)",
        "centred",
        _GROUPS,
    ),
    Mutation(
        "REINFORCE++ counts the KL of a token and of those after it",
        _ADVANTAGES,
        "mask, discount=discount, trace=1.0)",
        "mask, discount=discount, trace=0.0)",
        _GROUPS,
    ),
    Mutation(
        "CISPO's ratio carries no gradient",
        _LOSSES,
        "ratio = ratio_of(new - old).detach()",
        "ratio = ratio_of(new - old)",
        _RATIOS,
    ),
    Mutation(
        "tokens that another engine has no probability of weigh 1",
        "pipeline/rl/core/ratios.py",
        "torch.where(mask & ~sampled.isnan(), old - sampled, 0)",
        "torch.where(mask, old - sampled, 0)",
        _RATIOS,
    ),
    Mutation(
        "Dr. GRPO divides by a constant",
        "pipeline/rl/core/aggregation.py",
        "1.0 / (of_rows.float() * length)",
        "1.0 / (of_rows.float() * lengths.clamp(min=1))",
        _TRL,
    ),
    Mutation(
        "GSPO's ratio is the mean of a response's",
        "pipeline/rl/surrogates.py",
        "shares = shares / _sum_by_row(shares, rows)[rows]",
        "shares = shares / 2",
        _TRAINERS,
    ),
    Mutation(
        "TRL's settings mean the same here",
        "pipeline/rl/config/grpo.py",
        "is_kl_corrected=self.use_bias_correction_kl",
        "is_kl_corrected=False",
        _TRAINERS,
    ),
    Mutation(
        "what a tool wrote is not trained on",
        "pipeline/rl/experience.py",
        "mask = _pad([row.own for row in rows])",
        "mask = _pad([torch.ones_like(row.own) for row in rows])",
        _TOOLS,
    ),
    Mutation(
        "the reverse KL's gradient has the mean gap taken off",
        "pipeline/rl/core/divergence.py",
        "return Divergence(value, p.mul_(gap.sub_(value.unsqueeze(-1))))",
        "return Divergence(value, p.mul_(gap))",
        _DIVERGENCES,
    ),
    Mutation(
        "what is in both supports counts once",
        "pipeline/rl/core/divergence.py",
        "is_first[:, top_k:] = (",
        "is_first[:, :0] = (",
        _DIVERGENCES,
    ),
    Mutation(
        "a student never writes what its teacher has no row for",
        "pipeline/rl/teacher.py",
        "forbidden_ids=(*sampling.forbidden_ids, *beyond)",
        "forbidden_ids=sampling.forbidden_ids",
        _DISTILLED,
    ),
    Mutation(
        "a teacher reads the rows of its own part",
        "pipeline/rl/sequences.py",
        "before = int(self.mask[: part.start].sum()) if part.start else 0",
        "before = 0",
        _DISTILLED,
    ),
    Mutation(
        "a checkpoint knows its teacher",
        "pipeline/rl/resume_settings.py",
        'record["digest of the teacher"] = teacher',
        'record["digest of the teacher"] = ""',
        _DISTILLED,
    ),
]
