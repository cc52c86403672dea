"""The gradients that reach the weights, against one plain backward pass of the formulas."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.rl import logprobs
from pipeline.rl.actor import predicting_hidden
from pipeline.rl.actor_critic import ActorCritic
from pipeline.rl.batch import Batch
from pipeline.rl.build import Start, add_adapter, build_actor_critic
from pipeline.rl.config.ppo import PPOConfig
from pipeline.rl.sequences import Sequences
from pipeline.rl.step_totals import StepTotals
from tests.ppo_tasks import plain
from tests.unit.rl.small_trainers import gradients_of, losses_of, shaken, some_batch

FORBIDDEN = (0,)
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "temperature": {"temperature": 0.7},
    "two clips": {"cliprange": 0.1, "cliprange_high": 0.4, "dual_clip": 1.5},
    "no value clip": {"cliprange_value": None, "vf_coef": 1.3},
    "KL in the loss": {"kl_loss_coef": 0.5},
    "entropy": {"entropy_coef": 0.2},
    "all": {"kl_loss_coef": 0.5, "entropy_coef": 0.2, "dual_clip": 1.5, "temperature": 1.4},
}


def made(module: Any, args: PPOConfig) -> ActorCritic:
    actor = build_actor_critic(Start(module), args)
    shaken(actor.value_head.parameters())
    return actor


def whole_loss(actor: ActorCritic, batch: Batch, args: PPOConfig) -> Tensor:
    """Return both losses of a batch from whole logits, ()."""
    sequences = batch.sequences
    logits = actor.causal(input_ids=sequences.ids).logits[sequences.predicts] / args.temperature
    logps = logits[:, 1:].log_softmax(-1)  # padding, t0, is forbidden
    new = logps.gather(1, sequences.targets[:, None] - 1).squeeze(1)
    entropy = -(logps.exp() * logps).sum(-1)
    high = args.cliprange if args.cliprange_high is None else args.cliprange_high
    ratio, a = (new - batch.logprobs).exp(), batch.advantages
    policy = torch.maximum(-a * ratio, -a * ratio.clamp(1 - args.cliprange, 1 + high))
    if args.dual_clip is not None:
        policy = torch.where(a < 0, torch.minimum(policy, -args.dual_clip * a), policy)
    kl = (new - batch.reference) ** 2 / 2
    policy = policy + args.kl_loss_coef * kl - args.entropy_coef * entropy
    values, clip = actor.values(sequences), args.cliprange_value
    squares = (values - batch.returns) ** 2
    if clip is not None:
        near = torch.maximum(torch.minimum(values, batch.values + clip), batch.values - clip)
        squares = torch.maximum(squares, (near - batch.returns) ** 2)
    return (batch.weights * (policy + args.vf_coef * squares / 2)).sum()


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("layout", ["separate", "shared_trunk"])
def test_gradients_are_those_of_the_sum_of_both_losses(
    layout: str,
    settings: dict[str, Any],
    llama: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """B17 to B20 rest on it: what a pass adds to the gradients is that of its losses, no more."""
    monkeypatch.setattr(logprobs, "_elements_at_a_time", lambda device: 1)
    monkeypatch.setattr(logprobs, "_LEAST_TOKENS", 16)
    args = PPOConfig(**plain(tmp_path), layout=layout, **settings)
    actor, batch = made(llama, args), some_batch()
    loss = whole_loss(actor, batch, args)
    loss.backward()
    expected = gradients_of(actor)
    totals = StepTotals()
    sent = losses_of(actor, args, FORBIDDEN)
    sent.send_back(batch, totals, trains_policy=True, is_first=False)
    found = gradients_of(actor)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        assert scale > 0, name
        assert float((found[name] - gradient).abs().max()) <= 1e-5 * scale, name
    totals.close_step()
    metrics = totals.metrics(has_critic=True)
    whole = metrics["loss/policy"] + args.vf_coef * metrics["loss/value"]
    assert whole == pytest.approx(float(loss.detach()), abs=1e-5)


def test_the_batch_under_test_is_clipped_in_part(llama: Any, tmp_path: Path) -> None:
    args = PPOConfig(**plain(tmp_path), layout="separate")
    actor, totals = made(llama, args), StepTotals()
    losses_of(actor, args).send_back(some_batch(), totals, trains_policy=True, is_first=False)
    totals.close_step()
    metrics = totals.metrics(has_critic=True)
    for name in ("policy/clipfrac_low", "policy/clipfrac_high", "value/clipfrac"):
        assert 0 < metrics[name] < 1, name


def test_a_detached_trunk_is_moved_by_the_policy_alone(llama: Any, tmp_path: Path) -> None:
    found: list[dict[str, Tensor]] = []
    for vf_coef in (0.0, 10.0):
        args = PPOConfig(
            **plain(tmp_path), layout="shared_trunk", detach_value_trunk=True, vf_coef=vf_coef
        )
        actor = made(llama, args)
        losses_of(actor, args).send_back(
            some_batch(), StepTotals(), trains_policy=True, is_first=False
        )
        found.append(gradients_of(actor))
    without, with_critic = found
    assert with_critic["value_head.weight"].abs().max() > 0
    for name, gradient in without.items():
        if not name.startswith("value_head"):
            assert torch.equal(gradient, with_critic[name]), name


@pytest.mark.parametrize("layout", ["separate", "shared_lora", "shared_trunk"])
def test_while_the_critic_warms_up_the_policy_has_no_gradients(
    layout: str, llama: Any, lora: Any, tmp_path: Path
) -> None:
    """B54: none, not zeros, by which an optimizer would still move it."""
    args = PPOConfig(**plain(tmp_path), layout=layout)
    config = lora if layout == "shared_lora" else None
    actor = build_actor_critic(Start(add_adapter(llama, config)), args)
    shaken(actor.value_head.parameters())
    losses_of(actor, args).send_back(
        some_batch(), StepTotals(), trains_policy=False, is_first=False
    )
    assert all(parameter.grad is None for parameter in actor.policy_parameters())
    critic = [parameter.grad for parameter in actor.critic_parameters()]
    assert any(gradient is not None and gradient.abs().max() > 0 for gradient in critic)


def test_a_ratio_far_above_the_dual_clip_is_learnt_from_no_more(llama: Any, tmp_path: Path) -> None:
    batch = some_batch()
    far = Batch(**{**vars(batch), "logprobs": batch.logprobs - 9, "advantages": -batch.weights})
    for dual_clip, is_moved in ((None, True), (3.0, False)):
        args = PPOConfig(**plain(tmp_path), layout="separate", dual_clip=dual_clip)
        actor = made(llama, args)
        losses_of(actor, args).send_back(far, StepTotals(), trains_policy=True, is_first=False)
        found = gradients_of(actor).items()
        moved = any(bool(each.any()) for name, each in found if name.startswith("policy"))
        assert moved == is_moved


def test_a_batch_without_any_token_changes_nothing(llama: Any, tmp_path: Path) -> None:
    """B53: rows whose responses are empty."""
    args = PPOConfig(**plain(tmp_path), layout="separate", entropy_coef=0.1)
    actor, nothing = made(llama, args), torch.zeros(0)
    sequences = Sequences.of([[3], [4, 5]], [[], []], pad=0, device=torch.device("cpu"))
    assert predicting_hidden(actor.causal.base_model, sequences).shape == (0, 16)
    loss = losses_of(actor, args).send_back(
        Batch(sequences, *[nothing] * 6, token_share=1.0, rows=nothing.long()),
        StepTotals(),
        trains_policy=True,
        is_first=True,
    )
    assert float(loss) == 0
    assert all(not gradient.any() for gradient in gradients_of(actor).values())
