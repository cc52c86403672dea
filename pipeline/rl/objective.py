"""Objective: what a method of learning from rewards chooses of the engine.

A method is a choice of advantage, ratio and aggregation (core/ has the formulas); the config of
each (config/) says which under the names of its own literature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Advantage = Literal["gae", "group", "leave_one_out", "reinforce", "reinforce_baseline", "none"]
Scale = Literal["group", "batch", "none"]
Ratio = Literal["token", "sequence_mean", "sequence_sum"]
Surrogate = Literal["clip", "cispo", "sapo", "vespo"]
Aggregation = Literal["token", "rollout", "seq", "seq_sum", "constant"]
Estimator = Literal["k1", "k2", "k3"]
Correction = Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]


@dataclass(frozen=True)
class Distilled:
    """What is learnt of a teacher's distributions, beside rewards.

    beta: from KL(teacher, student) at 0 to KL(student, teacher) at 1 (core/divergence.py). top_k:
    over how many tokens, 0 for all; add_tail: the others count as one more. coef: of the divergence
    in the loss.
    is_sampled: reward each token by the log-ratio of teacher to student instead, times coef, summed
    over the tokens that follow at `discount`.
    """

    beta: float = 1.0
    top_k: int = 0
    add_tail: bool = True
    coef: float = 1.0
    is_sampled: bool = False
    discount: float = 0.0


@dataclass(frozen=True)
class Objective:
    """What is maximised.

    advantage: by a critic's values (`gae`), or by what else came out of the same prompt or rollout;
    `none` where there are no rewards.
    scale: by which deviation group advantages are divided. whitens: whether advantages are scaled
    to mean 0 and variance 1 over the rollout afterwards.
    kl_in_reward: whether the controller's coefficient times KL is taken off the reward of each
    token, and for methods without a critic off the score of the whole response. kl_estimator: of
    that KL.
    ratio: of each token; or one of a whole response, the exponential of the mean (GSPO) or the sum
    (RLOO) of its tokens' log-ratios.
    surrogate: the clipped ratio (PPO), CISPO's cut weight of log p (at clip_high), SAPO's gate, or
    VESPO's weight of log p by the ratio of the whole response.
    clip_low, clip_high: how far a ratio may leave 1. dual_clip: c of Ye et al. 2020. temperatures:
    SAPO's, for advantages above and below 0. kernel: VESPO's k and lambda above, and below.
    aggregation: from tokens to a loss: means over the tokens of an optimizer step or of the
    `rollout`, over rows of their means (`seq`) or sums, or over rows of `length` (`constant`).
    counts_empty_rows: whether rows whose tokens were all masked count as rows.
    kl_loss_coef, kl_loss_estimator: of a KL in the loss. is_kl_corrected: times the ratio.
    entropy_coef: of an entropy bonus.
    masks_truncated: whether responses that were cut are left out of the loss.
    correction: of what another engine sampled with other probabilities; None for none. Its ratios
    are kept between correction_low and correction_high.
    distilled: what is learnt of a teacher; None without one.
    """

    advantage: Advantage
    scale: Scale = "group"
    whitens: bool = False
    kl_in_reward: bool = False
    kl_estimator: Estimator = "k1"
    ratio: Ratio = "token"
    surrogate: Surrogate = "clip"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    temperatures: tuple[float, float] = (1.0, 1.05)
    kernel: tuple[float, float, float, float] = (2.0, 3.0, 3.0, 2.0)
    aggregation: Aggregation = "token"
    length: int | None = None
    counts_empty_rows: bool = False
    kl_loss_coef: float = 0.0
    kl_loss_estimator: Estimator = "k2"
    is_kl_corrected: bool = False
    entropy_coef: float = 0.0
    masks_truncated: bool = False
    correction: Correction | None = None
    correction_low: float | None = None
    correction_high: float | None = None
    distilled: Distilled | None = None

    @property
    def has_critic(self) -> bool:
        """Whether advantages come from values, which a critic gives."""
        return self.advantage == "gae"
