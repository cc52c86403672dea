"""Our PPO against TRL 1.12.0's PPOTrainer on the same batch: tests/oracle/ has what it computed.

TRL's conventions are composed of our functions here: the score one after the last token, values and
their loss up to there, the unbiased variance, 1e-7 more temperature. Ours differ on purpose: the
last test but one says where.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from pipeline.rl import core
from pipeline.rl.actor import last_hidden
from pipeline.rl.layouts.separate import SeparateActorCritic
from pipeline.rl.logprobs import Head, head_of, hidden_gradient, log_probabilities
from pipeline.rl.sequences import Sequences
from tests.oracle import case
from tests.token_rows import to_rows

STEPS = 3
Oracle = dict[str, Tensor]


@pytest.fixture(scope="module")
def trl() -> Oracle:
    with np.load(case.FIXTURE, allow_pickle=False) as file:
        assert str(file["settings"]) == case.settings_line(), "case.py changed: derive anew"
        return {name: torch.from_numpy(file[name]) for name in file if name != "settings"}


@pytest.fixture
def sequences() -> Sequences:
    device = torch.device("cpu")
    return Sequences.of(case.prompts(), case.responses(), pad=case.PAD, device=device)


@pytest.fixture
def actor(trl: Oracle) -> SeparateActorCritic:
    critic = case.scorer(trl["weights/critic"].numpy())
    policy, reference = (
        case.causal(trl[f"weights/{name}"].numpy()) for name in ("policy", "reference")
    )
    actor = SeparateActorCritic(policy, critic.model, reference)
    actor.value_head.start_from(critic.score.weight)
    return actor


def masks() -> tuple[Tensor, Tensor]:
    """Return the valid tokens (B, T), and those with one more where there is room."""
    lengths = torch.tensor([[len(row)] for row in case.responses()])
    places = torch.arange(case.RESPONSE_LENGTH)[None]
    return places < lengths, places <= lengths


def scores_of(trl: Oracle) -> Tensor:
    has_eos = torch.tensor([row[-1] == case.EOS for row in case.responses()])
    return trl["scores_before_penalty"] - case.SETTINGS["missing_eos_penalty"] * ~has_eos


def advantages_of(logprobs: Tensor, reference: Tensor, values: Tensor, scores: Tensor) -> Tensor:
    """Return TRL's advantages, not whitened, from our functions."""
    mask, extended = masks()
    kl = torch.where(mask, core.kl_estimate(logprobs - reference, "k1"), 0)
    rewards = core.token_rewards(kl, scores, extended, kl_coef=case.SETTINGS["kl_coef"])
    return gae(rewards, values, extended)


def gae(rewards: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    discount, trace = case.SETTINGS["gamma"], case.SETTINGS["lam"]
    return core.gae(rewards, values, mask, discount=discount, trace=trace)


def whitened(advantages: Tensor) -> Tensor:
    mask, _ = masks()
    mean, variance = core.masked_moments(advantages, mask)
    unbiased = variance * mask.sum() / (mask.sum() - 1)
    return torch.where(mask, (advantages - mean) * torch.rsqrt(unbiased + 1e-8), 0)


def losses_of(
    trl: Oracle, logprobs: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, core.PolicyLoss, core.ValueLoss]:
    """Return TRL's two losses of a step, and ours of each token, from our functions."""
    mask, extended = masks()
    clip = case.SETTINGS["cliprange"]
    old, advantages = trl["logprobs"], trl["whitened"]
    policy = core.policy_loss(logprobs, old, advantages, clip_low=clip, clip_high=clip)
    value = core.value_loss(
        values, trl["values"], trl["returns"], clip=case.SETTINGS["cliprange_value"]
    )
    losses = [
        core.masked_sum(core.token_weights(over, aggregation="token") * loss, over)
        for loss, over in ((policy.loss, mask), (value.loss, extended))
    ]
    return losses[0], losses[1], policy, value


def distance(ours: Tensor, theirs: Tensor, mask: Tensor | None = None) -> float:
    apart = (ours.double() - theirs.double()).abs()
    return float((apart if mask is None else apart[mask]).max())


def test_the_batch_has_rows_of_every_kind(trl: Oracle) -> None:
    """Cut, ended at once, ended with the last token; TRL's masks are those of their lengths."""
    mask, extended = masks()
    assert torch.equal(mask, ~trl["is_padding"])
    assert torch.equal(extended, ~trl["is_padding_after_one"])
    kinds = {(len(row), row[-1] == case.EOS) for row in case.responses()}
    assert kinds >= {(8, False), (8, True), (1, True), (7, True)}
    assert distance(scores_of(trl), trl["scores"]) <= 1e-6


def test_advantages_and_returns_are_trls(trl: Oracle) -> None:
    mask, extended = masks()
    found = advantages_of(trl["logprobs"], trl["reference_logprobs"], trl["values"], scores_of(trl))
    assert distance(found, trl["advantages"]) <= 1e-6
    assert distance(found + torch.where(extended, trl["values"], 0), trl["returns"]) <= 1e-6
    assert distance(whitened(found), torch.where(mask, trl["whitened"], 0)) <= 1e-6


@pytest.mark.parametrize("step", range(STEPS))
def test_losses_are_trls(trl: Oracle, step: int) -> None:
    """In the first step the ratio is 1; in the others part of the tokens and values is clipped."""
    policy_loss, value_loss, policy, value = losses_of(
        trl, trl[f"step/{step}/logprobs"], trl[f"step/{step}/values"]
    )
    assert distance(policy_loss, trl[f"step/{step}/policy_loss"]) <= 1e-6
    assert distance(value_loss, trl[f"step/{step}/value_loss"]) <= 1e-6
    together = policy_loss + case.SETTINGS["vf_coef"] * value_loss
    assert distance(together, trl[f"step/{step}/loss"]) <= 1e-6
    mask, extended = masks()
    clipped = core.masked_mean((policy.clipped_low | policy.clipped_high).double(), mask)
    clipped_values = core.masked_mean(value.clipped.double(), extended)
    if step == 0:
        assert distance(policy.ratio, torch.ones_like(policy.ratio)) <= 1e-5
        assert float(clipped) == float(clipped_values) == 0
    else:
        assert 0.1 < float(clipped) < 0.9
        assert 0.1 < float(clipped_values) < 0.9


def test_logged_figures_are_trls(trl: Oracle) -> None:
    mask, extended = masks()
    kl = core.kl_estimate(trl["logprobs"] - trl["reference_logprobs"], "k1")
    of_sequences = core.masked_sum(kl, mask) / len(mask)
    penalty = -case.SETTINGS["kl_coef"] * of_sequences
    steps = [
        losses_of(trl, trl[f"step/{step}/logprobs"], trl[f"step/{step}/values"])
        for step in range(STEPS)
    ]
    clipped = [
        (
            core.masked_mean((policy.clipped_low | policy.clipped_high).double(), mask),
            core.masked_mean(value.clipped.double(), extended),
        )
        for _, _, policy, value in steps
    ]
    ours = {
        "objective/kl": of_sequences,
        "objective/entropy": core.masked_sum(-trl["logprobs"], mask) / len(mask),
        "objective/non_score_reward": penalty,
        "objective/scores": scores_of(trl).mean(),
        "objective/rlhf_reward": scores_of(trl).mean() + penalty,
        "loss/policy_avg": torch.stack([step[0] for step in steps]).mean(),
        "loss/value_avg": torch.stack([step[1] for step in steps]).mean(),
        "policy/clipfrac_avg": torch.stack([both[0] for both in clipped]).mean(),
        "val/clipfrac_avg": torch.stack([both[1] for both in clipped]).mean(),
    }
    tolerance = {"objective/entropy": 4e-6}  # 28.5 in fp32
    for name, value in ours.items():
        assert distance(value, trl[f"logged/{name}"]) <= tolerance.get(name, 1e-6), name


def test_logprobs_values_and_scores_are_trls_from_the_weights(
    trl: Oracle, actor: SeparateActorCritic, sequences: Sequences
) -> None:
    """B01, B02, B23: right padded and a chunk at a time, as TRL's left padded whole batch."""
    logprobs, reference, values = _scored(actor, sequences)
    mask, extended = masks()
    assert distance(logprobs, trl["logprobs"], mask) <= 1e-5
    assert distance(reference, trl["reference_logprobs"], mask) <= 1e-5
    assert distance(values, trl["values"], extended) <= 1e-5
    scores = _last_scores(trl, sequences)
    assert distance(scores, trl["scores_before_penalty"]) <= 1e-5
    before_penalty = scores_of(trl) - trl["scores_before_penalty"]
    found = advantages_of(logprobs, reference, values, scores + before_penalty)
    assert distance(found, trl["advantages"]) <= 1e-5


def test_training_from_the_weights_gives_trls_next_logprobs(
    trl: Oracle, actor: SeparateActorCritic, sequences: Sequences
) -> None:
    """The gradients of both losses, sent back one after the other, are those of TRL's sum."""
    optimizer = torch.optim.AdamW(
        [*actor.policy_parameters(), *actor.critic.parameters(), actor.value_head.weight],
        lr=float(trl["logged/lr"]),
        weight_decay=0.0,
    )
    mask, extended = masks()
    for step in range(1, STEPS):
        optimizer.zero_grad()
        _send_back(trl, actor, sequences)
        optimizer.step()
        logprobs, _, values = _scored(actor, sequences)
        assert distance(trl[f"step/{step}/logprobs"], trl["logprobs"], mask) > 1
        assert distance(logprobs, trl[f"step/{step}/logprobs"], mask) <= 1e-4
        assert distance(values, trl[f"step/{step}/values"], extended) <= 1e-4


def test_our_own_convention_differs_on_short_rows_only(trl: Oracle) -> None:
    """B03, B04: the score on the last token, and nothing after it."""
    mask, _ = masks()
    kl = core.kl_estimate(trl["logprobs"] - trl["reference_logprobs"], "k1")
    scores, kl_coef = scores_of(trl), case.SETTINGS["kl_coef"]
    rewards = core.token_rewards(kl, scores, mask, kl_coef=kl_coef)
    ours = gae(rewards, trl["values"], mask)
    for row, valid in enumerate(mask):
        apart = distance(ours[row], trl["advantages"][row], valid)
        if valid.all():
            assert apart <= 1e-6
        else:
            assert apart > 0.01


@pytest.mark.slow
def test_trl_still_computes_what_is_kept(trl: Oracle, tmp_path: Path) -> None:
    """With the real wheel, in a process of its own."""
    folder = os.environ.get("POSTTRAIN_TRL112")
    if not folder:
        pytest.skip("POSTTRAIN_TRL112 names no folder with trl 1.12.0")
    command = [sys.executable, "-m", "tests.oracle.derive", "--trl", str(Path(folder).resolve())]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "derived.npz")],
        cwd=Path(__file__).parents[3],
        check=False,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert ended.returncode == 0, ended.stderr
    with np.load(tmp_path / "derived.npz", allow_pickle=False) as derived:
        assert set(derived) == {*trl, "settings"}
        for name, kept in trl.items():
            is_later = name.startswith(("step/1", "step/2", "logged/"))  # rounding, through Adam
            assert distance(torch.from_numpy(derived[name]), kept) <= (1e-3 if is_later else 1e-5)


def _head(causal: PreTrainedModel) -> Head:
    return head_of(causal, temperature=case.SETTINGS["temperature"] + 1e-7)


@torch.no_grad()
def _scored(actor: SeparateActorCritic, sequences: Sequences) -> tuple[Tensor, Tensor, Tensor]:
    """Return log-probabilities of policy and reference and values up to one after the end."""
    ours, _ = log_probabilities(
        _head(actor.causal), actor.policy_hidden(sequences), sequences.targets
    )
    with actor.reference() as causal:
        hidden = last_hidden(causal.base_model, sequences)[sequences.predicts]
        reference, _ = log_probabilities(_head(causal), hidden, sequences.targets)
    values = to_rows(sequences, actor.values(sequences))
    return (
        to_rows(sequences, ours),
        to_rows(sequences, reference),
        _with_one_after(values, actor.values_after(sequences)),
    )


def _with_one_after(values: Tensor, after: Tensor) -> Tensor:
    mask, extended = masks()
    return torch.where(extended & ~mask, after[:, None], values)


@torch.no_grad()
def _last_scores(trl: Oracle, sequences: Sequences) -> Tensor:
    reward = case.scorer(trl["weights/reward"].numpy())
    lengths = [len(p) + len(r) for p, r in zip(case.prompts(), case.responses(), strict=True)]
    scores = reward.score(last_hidden(reward.model, sequences)).squeeze(-1)
    return scores[torch.arange(len(lengths)), torch.tensor(lengths) - 1]


def _send_back(trl: Oracle, actor: SeparateActorCritic, sequences: Sequences) -> None:
    """Send the gradients of TRL's two losses back, by our way."""
    mask, _ = masks()
    old, advantages = trl["logprobs"][mask], trl["whitened"][mask]
    clip = case.SETTINGS["cliprange"]

    def loss_of(new: Tensor, entropy: Tensor | None, part: slice) -> Tensor:
        found = core.policy_loss(new, old[part], advantages[part], clip_low=clip, clip_high=clip)
        return found.loss.sum() / len(old)

    hidden = actor.policy_hidden(sequences)
    hidden.backward(hidden_gradient(_head(actor.causal), hidden, sequences.targets, loss_of))
    values = _with_one_after(
        to_rows(sequences, actor.values(sequences)), actor.values_after(sequences)
    )
    _, value_loss, _, _ = losses_of(trl, trl["logprobs"], values)
    (case.SETTINGS["vf_coef"] * value_loss).backward()
