"""The losses of one forward pass, sent back to the gradients of policy and critic.

One after the other, each before weights are switched (see layouts/shared_lora.py); both at once
where they come from one trunk. Which surrogate a method takes, surrogates.py decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipeline.rl import core
from pipeline.rl.actor_critic import ActorCritic
from pipeline.rl.logprobs import Head, head_of, hidden_gradient, log_probabilities
from pipeline.rl.surrogates import sequence_surrogate, token_surrogate
from pipeline.rl.teacher import distilled_gradient

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from torch import Tensor

    from pipeline.rl.actor import Actor
    from pipeline.rl.batch import Batch
    from pipeline.rl.config.base import RolloutConfig
    from pipeline.rl.step_totals import StepTotals
    from pipeline.rl.teacher import Teacher


@dataclass(frozen=True)
class Losses:
    """What sends a batch's losses back.

    forbidden: ids that are never sampled. autocast: the context of the forward pass. teacher: whose
    distributions are learnt, if any.
    """

    actor: Actor
    args: RolloutConfig
    forbidden: tuple[int, ...]
    autocast: Callable[[], AbstractContextManager[Any]]
    teacher: Teacher | None = None

    def send_back(
        self, batch: Batch, totals: StepTotals, *, trains_policy: bool, is_first: bool
    ) -> Tensor:
        """Add a batch's gradients to those there are; return its loss, ().

        trains_policy: False while the critic warms up: the policy's gradients then stay None, since
        an optimizer would move it even by zeros. is_first: whether the policy still is the one that
        sampled.
        """
        critic = self.actor if isinstance(self.actor, ActorCritic) else None
        if critic is not None:
            with self.autocast():
                both = critic.hidden_and_values(batch.sequences)
            if both is not None:
                return self._send_both_back(critic, *both, batch, totals, trains_policy, is_first)
        loss = torch.zeros((), device=batch.weights.device)
        if trains_policy:
            with self.autocast():
                hidden = self.actor.policy_hidden(batch.sequences)  # (N, d)
            # The head first, a chunk at a time; then the network, once, by what came out of it.
            gradient, loss = self._send_through_head(hidden, batch, totals, is_first=is_first)
            hidden.backward(gradient)
        if critic is None:
            return loss
        with critic.as_critic():
            with self.autocast():
                values = critic.values(batch.sequences)  # (N,)
            value_loss = self._value_loss(values, batch, totals)
            value_loss.backward()
        return loss + value_loss.detach()

    def _send_both_back(
        self,
        critic: ActorCritic,
        hidden: Tensor,
        values: Tensor,
        batch: Batch,
        totals: StepTotals,
        trains_policy: bool,
        is_first: bool,
    ) -> Tensor:
        """Send both losses through the trunk at once."""
        if not trains_policy:
            # Detached, whatever the layout says: the trunk is the policy, which stays as it is.
            value_loss = self._value_loss(critic.value_head(hidden.detach()), batch, totals)
            value_loss.backward()
            return value_loss.detach()
        gradient, loss = self._send_through_head(hidden, batch, totals, is_first=is_first)
        value_loss = self._value_loss(values, batch, totals)
        torch.autograd.backward([hidden, value_loss], [gradient, torch.ones_like(value_loss)])
        return loss + value_loss.detach()

    def _send_through_head(
        self, hidden: Tensor, batch: Batch, totals: StepTotals, *, is_first: bool
    ) -> tuple[Tensor, Tensor]:
        """Return the gradient of the hidden states (N, d), and the policy's loss, ()."""
        objective = self.args.objective
        sum_of_losses = torch.zeros((), device=batch.weights.device)
        of_rows = None
        if objective.ratio != "token":
            of_rows = sequence_surrogate(batch, self._new_logprobs(hidden, batch), objective)

        is_by_token = objective.surrogate == "vespo"  # whose weights are of rows, its ratios not

        def loss_of(new: Tensor, entropy: Tensor | None, part: slice) -> Tensor:
            """Return the loss of a chunk of the N tokens, (); new, entropy: (n,)."""
            nonlocal sum_of_losses
            old, weights = batch.logprobs[part], batch.weights[part]
            if self.args.steps_per_rollout == 1:
                old = new.detach()  # what sampled is what trains: ratios are 1, without rounding
            if of_rows is None:
                surrogate = token_surrogate(new, old, batch.advantages[part], objective)
                # A sum and no mean: `weights` add up to 1 over the whole optimizer step.
                loss = (surrogate.loss * weights).sum()
            else:
                surrogate = of_rows.tokens(part)
                loss = (of_rows.slopes[part] * (new - new.detach())).sum()
                loss = loss + (surrogate.loss * weights).sum()
            if objective.kl_loss_coef:
                log_ratio = new - batch.reference[part]
                kl = core.kl_estimate(log_ratio, objective.kl_loss_estimator)
                if objective.is_kl_corrected and of_rows is not None and not is_by_token:
                    kl = kl * of_rows.ratio[part]  # whose own gradient is among the slopes
                elif objective.is_kl_corrected:
                    kl = core.corrected_kl(kl, new, old)
                loss = loss + objective.kl_loss_coef * (kl * weights).sum()
            if entropy is not None:
                loss = loss - objective.entropy_coef * entropy.sum() * batch.token_share
            sum_of_losses = sum_of_losses + loss.detach()
            totals.add_policy(loss.detach(), surrogate, (new - old).detach(), is_first=is_first)
            return loss

        targets = batch.sequences.targets
        how = objective.distilled
        if self.teacher is None or how is None or how.is_sampled:
            with self.autocast():
                gradient = hidden_gradient(
                    self._head(), hidden, targets, loss_of, with_entropy=self.is_entropic
                )
            return gradient, sum_of_losses

        def loss_beside(new: Tensor, gaps: Tensor, part: slice) -> tuple[Tensor, Tensor]:
            """Return what the loss has beside the divergences, (), and their weights, (n,)."""
            nonlocal sum_of_losses
            weights = how.coef * batch.weights[part]
            loss = (gaps * weights).sum()
            sum_of_losses = sum_of_losses + loss
            totals.add_divergence(loss, gaps)
            return loss_of(new, None, part), weights

        of_teacher = (self.teacher.head(), self.teacher.hidden(batch.sequences))
        with self.autocast():
            gradient = distilled_gradient(
                self._head(), hidden, targets, of_teacher, loss_beside, how
            )
        return gradient, sum_of_losses

    def _new_logprobs(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return log p of the batch's tokens under the policy as it is, (N,), without gradients.

        Where it is the one that sampled, these are the old ones.
        """
        if self.args.steps_per_rollout == 1:
            return batch.logprobs
        with self.autocast():
            new, _ = log_probabilities(self._head(), hidden.detach(), batch.sequences.targets)
        return new

    @property
    def is_entropic(self) -> bool:
        """Whether the loss has an entropy bonus."""
        return self.args.objective.entropy_coef != 0

    def _head(self) -> Head:
        return head_of(
            self.actor.causal, temperature=self.args.temperature, forbidden=self.forbidden
        )

    def _value_loss(self, values: Tensor, batch: Batch, totals: StepTotals) -> Tensor:
        """Return the critic's loss, times its coefficient, ()."""
        clip, coef = self.args.value_loss
        errors = core.value_loss(values, batch.values, batch.returns, clip=clip)
        loss = (errors.loss * batch.weights).sum()
        totals.add_value(loss.detach(), errors)
        return coef * loss
