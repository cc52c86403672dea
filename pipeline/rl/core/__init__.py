"""The mathematics of learning from rewards, on tensors: advantages, losses, KL, how tokens count.

Not the trainer: nothing here knows a model, a tokenizer or a process. B rows, T completion tokens;
masks are bool, True on the tokens that the policy sampled (the stop token included). What is masked
is taken out with `torch.where` and never multiplied by 0, which would let NaN through.

moments        sums, means and spreads under a mask
ratios         of two policies' probabilities; weights for what another engine sampled
kl             estimates, token rewards, the coefficient's controllers
advantages     of a critic (GAE), a group (GRPO, RLOO), of all (REINFORCE++); penalty on length
losses         clipped ones by token and by sequence, CISPO, the critic's
divergence     from a teacher's distributions to the policy's
aggregation    how much each token counts in a step

A method is one choice of each of the last three.
"""

from pipeline.rl.core.advantages import (
    Scale,
    gae,
    group_advantages,
    group_means,
    group_spread,
    leave_one_out_advantages,
    overlong_penalty,
    reinforce_advantages,
)
from pipeline.rl.core.aggregation import (
    Aggregation,
    token_weights,
)
from pipeline.rl.core.divergence import (
    Divergence,
    divergence,
    top_k_divergence,
)
from pipeline.rl.core.kl import (
    AdaptiveKL,
    Estimator,
    FixedKL,
    corrected_kl,
    kl_controller,
    kl_estimate,
    token_rewards,
)
from pipeline.rl.core.losses import (
    PolicyLoss,
    SequenceLoss,
    ValueLoss,
    cispo_loss,
    policy_loss,
    sapo_loss,
    sequence_loss,
    value_loss,
    vespo_weights,
)
from pipeline.rl.core.moments import (
    explained_variance,
    masked_mean,
    masked_moments,
    masked_sum,
    whiten,
)
from pipeline.rl.core.ratios import (
    ImportanceMode,
    importance_weights,
    ratio_of,
)

__all__ = [
    "AdaptiveKL",
    "Aggregation",
    "Divergence",
    "Estimator",
    "FixedKL",
    "ImportanceMode",
    "PolicyLoss",
    "Scale",
    "SequenceLoss",
    "ValueLoss",
    "cispo_loss",
    "corrected_kl",
    "divergence",
    "explained_variance",
    "gae",
    "group_advantages",
    "group_means",
    "group_spread",
    "importance_weights",
    "kl_controller",
    "kl_estimate",
    "leave_one_out_advantages",
    "masked_mean",
    "masked_moments",
    "masked_sum",
    "overlong_penalty",
    "policy_loss",
    "ratio_of",
    "reinforce_advantages",
    "sapo_loss",
    "sequence_loss",
    "token_rewards",
    "token_weights",
    "top_k_divergence",
    "value_loss",
    "vespo_weights",
    "whiten",
]
