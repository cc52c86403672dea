"""The losses of one forward pass, sent back to the gradients of policy and critic.

One after the other, each before weights are switched (see layouts/shared_lora.py); both at once
where they come from one trunk. A loss of another method stands beside `core.policy_loss`, and is
chosen in `_send_through_head`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pipeline.rl import core
from pipeline.rl.logprobs import Head, head_of, hidden_gradient
from pipeline.rl.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from pipeline.rl.actor_critic import ActorCritic
    from pipeline.rl.config import PPOConfig
    from pipeline.rl.experience import Experience
    from pipeline.rl.step_totals import StepTotals


@dataclass(frozen=True)
class Batch:
    """Rows of a rollout for one forward pass: N completion tokens, (N,) each.

    weights: what each token's loss is multiplied by; they add up to 1 over an optimizer step.
    """

    sequences: Sequences
    weights: Tensor
    logprobs: Tensor
    reference: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    @staticmethod
    def of(
        experience: Experience,
        weights: Tensor,
        rows: Sequence[int],
        *,
        pad: int,
        device: torch.device,
    ) -> Batch:
        """Take rows out of a rollout. weights: (B, T), of all its rows."""
        sequences = Sequences.of(
            [experience.prompts[row] for row in rows],
            [experience.completions[row] for row in rows],
            pad=pad,
            device=device,
        )
        chosen = list(rows)
        mask = experience.mask[chosen]  # (b, T), of which N are True, in the order of `targets`

        def flat(values: Tensor) -> Tensor:
            return values[chosen][mask].to(device)

        return Batch(
            sequences,
            flat(weights),
            flat(experience.logprobs),
            flat(experience.reference),
            flat(experience.values),
            flat(experience.advantages),
            flat(experience.returns),
        )


@dataclass(frozen=True)
class Losses:
    """What sends a batch's losses back.

    forbidden: ids that are never sampled. autocast: the context of the forward pass.
    """

    actor: ActorCritic
    args: PPOConfig
    forbidden: tuple[int, ...]
    autocast: Callable[[], AbstractContextManager[Any]]

    def send_back(
        self, batch: Batch, totals: StepTotals, *, trains_policy: bool, is_first: bool
    ) -> Tensor:
        """Add a batch's gradients to those there are; return its loss, ().

        trains_policy: False while the critic warms up: the policy's gradients then stay None, since
        an optimizer would move it even by zeros. is_first: whether the policy still is the one that
        sampled.
        """
        with self.autocast():
            both = self.actor.hidden_and_values(batch.sequences)
        if both is not None:
            return self._send_both_back(*both, batch, totals, trains_policy, is_first)
        loss = torch.zeros((), device=batch.weights.device)
        if trains_policy:
            with self.autocast():
                hidden = self.actor.policy_hidden(batch.sequences)  # (N, d)
            # The head first, a chunk at a time; then the network, once, by what came out of it.
            gradient, loss = self._send_through_head(hidden, batch, totals, is_first=is_first)
            hidden.backward(gradient)
        with self.actor.as_critic():
            with self.autocast():
                values = self.actor.values(batch.sequences)  # (N,)
            value_loss = self._value_loss(values, batch, totals)
            value_loss.backward()
        return loss + value_loss.detach()

    def _send_both_back(
        self,
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
            value_loss = self._value_loss(self.actor.value_head(hidden.detach()), batch, totals)
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
        args = self.args
        high = args.cliprange if args.cliprange_high is None else args.cliprange_high
        sum_of_losses = torch.zeros((), device=batch.weights.device)

        def loss_of(new: Tensor, entropy: Tensor | None, part: slice) -> Tensor:
            """Return the loss of a chunk of the N tokens, (); new, entropy: (n,)."""
            nonlocal sum_of_losses
            old, weights = batch.logprobs[part], batch.weights[part]
            surrogate = core.policy_loss(
                new,
                old,
                batch.advantages[part],
                clip_low=args.cliprange,
                clip_high=high,
                dual_clip=args.dual_clip,
            )
            # A sum and no mean: `weights` add up to 1 over the whole optimizer step.
            loss = (surrogate.loss * weights).sum()
            if args.kl_loss_coef:
                # k2: the gradient of k1 is nothing but noise, that of k3 is another divergence's.
                kl = core.kl_estimate(new - batch.reference[part], "k2")
                loss = loss + args.kl_loss_coef * (kl * weights).sum()
            if entropy is not None:
                loss = loss - args.entropy_coef * (entropy * weights).sum()
            sum_of_losses = sum_of_losses + loss.detach()
            totals.add_policy(loss.detach(), surrogate, (new - old).detach(), is_first=is_first)
            return loss

        with self.autocast():
            gradient = hidden_gradient(
                self._head(),
                hidden,
                batch.sequences.targets,
                loss_of,
                with_entropy=self.is_entropic,
            )
        return gradient, sum_of_losses

    @property
    def is_entropic(self) -> bool:
        """Whether the loss has an entropy bonus."""
        return self.args.entropy_coef != 0

    def _head(self) -> Head:
        return head_of(
            self.actor.causal, temperature=self.args.temperature, forbidden=self.forbidden
        )

    def _value_loss(self, values: Tensor, batch: Batch, totals: StepTotals) -> Tensor:
        """Return the critic's loss, times its coefficient, ()."""
        errors = core.value_loss(
            values, batch.values, batch.returns, clip=self.args.cliprange_value
        )
        loss = (errors.loss * batch.weights).sum()
        totals.add_value(loss.detach(), errors)
        return self.args.vf_coef * loss
