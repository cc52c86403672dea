"""Our advantages and losses against what the installed TRL's GRPO and RLOO trainers compute.

tests/oracle/live.py gives TRL completions of every kind: cut, of one token, without a score, in a
group without spread, with a tool's tokens in the middle. Two steps on one rollout: in the second
the weights have moved, so that ratios are not 1 and some are clipped. Gradients are those of the
loss by the log-probabilities. Where TRL departs from its paper or from us, a test says how far.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from trl.trainer.utils import nanstd

from pipeline.rl import core
from tests.oracle import live
from tests.oracle.live import Heard, Pass, Row

TWICE = {"num_iterations": 2, "max_steps": 2}
TWO_STEPS = {"steps_per_generation": 2, "per_device_train_batch_size": 6}
IN_TWO = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 6}
SEQUENCES = {"importance_sampling_level": "sequence", "epsilon": 0.03, "epsilon_high": 0.04}
OTHER_ENGINE = {
    "vllm_importance_sampling_clip_min": 0.6,
    "vllm_importance_sampling_clip_max": 1.5,
}
AGGREGATIONS: dict[str, core.Aggregation] = {
    **dict.fromkeys(("grpo", "sapo"), "seq"),
    **dict.fromkeys(("bnpo", "dapo", "cispo", "vespo"), "token"),
    **{"dr_grpo": "constant", "luspo": "seq_sum"},
}

GRPO: dict[str, dict[str, Any]] = {
    "grpo": {"loss_type": "grpo"},
    "grpo, scale of the batch": {"loss_type": "grpo", "scale_rewards": "batch"},
    "grpo, no scale": {"loss_type": "grpo", "scale_rewards": "none"},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "bnpo": {"loss_type": "bnpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.2},
    "gspo": {"loss_type": "grpo", **SEQUENCES},
    "luspo": {"loss_type": "luspo", **SEQUENCES},
    "sapo": {"loss_type": "sapo"},
    "vespo": {"loss_type": "vespo"},
    "grpo, two bounds": {"loss_type": "grpo", "delta": 1.25},
    "grpo, beta": {"loss_type": "grpo", "beta": 0.1, "use_bias_correction_kl": False},
    "grpo, beta and the ratio": {"loss_type": "grpo", "beta": 0.1},
    "dapo, beta": {"loss_type": "dapo", "beta": 0.1},
    "grpo, cut rows masked": {"loss_type": "grpo", "mask_truncated_completions": True},
    "dr_grpo, cut rows masked": {"loss_type": "dr_grpo", "mask_truncated_completions": True},
    "dapo, cut rows masked": {"loss_type": "dapo", "mask_truncated_completions": True},
    "grpo in two passes": {"loss_type": "grpo", **IN_TWO},
    "dr_grpo in two passes": {"loss_type": "dr_grpo", **IN_TWO},
    "dapo in two passes": {"loss_type": "dapo", **IN_TWO},
    "gspo in two passes": {"loss_type": "grpo", **SEQUENCES, **IN_TWO},
    "grpo in two steps": {"loss_type": "grpo", **TWO_STEPS},
    "dapo in two steps": {"loss_type": "dapo", **TWO_STEPS},
}
RLOO: dict[str, dict[str, Any]] = {
    "rloo": {"beta": 0.0},
    "rloo, normalised": {"beta": 0.0, "normalize_advantages": True},
    "rloo, beta": {"beta": 0.2},
    "rloo, beta, normalised": {"beta": 0.2, "normalize_advantages": True},
    "rloo, scores clipped": {"beta": 0.0, "reward_clip_range": (-0.5, 0.9)},
    "rloo, cut rows masked": {"beta": 0.2, "mask_truncated_completions": True},
    "rloo in two passes": {"beta": 0.2, **IN_TWO},
}


@dataclass(frozen=True)
class Ours:
    """Our loss of an optimizer step, (), its gradient (b, T), and how many tokens were clipped."""

    loss: Tensor
    gradient: Tensor
    num_clipped: int


def scores_of(given: Sequence[Row]) -> Tensor:
    return torch.tensor([math.nan if row.score is None else row.score for row in given])


def advantages_of(
    given: Sequence[Row], settings: dict[str, Any], kl: Tensor | None = None
) -> Tensor:
    """Return our advantages of the rows with a score, and 0 for the others, (B,)."""
    scores = scores_of(given)
    groups = torch.arange(len(given)) // live.GENERATIONS
    scored = ~scores.isnan()
    if "reward_clip_range" in settings:
        scores = scores.clamp(*settings["reward_clip_range"])
    if kl is not None:
        scores = scores - settings["beta"] * kl
    if settings["method"] == "rloo":
        found = core.leave_one_out_advantages(
            scores[scored], groups[scored], normalize=settings.get("normalize_advantages", False)
        )
    else:
        scale = settings.get("scale_rewards", "group")
        found = core.group_advantages(scores[scored], groups[scored], scale=scale)
    return torch.zeros(len(given)).masked_scatter(scored, found)


def stack(passes: Sequence[Pass], name: str) -> Tensor:
    return torch.cat([getattr(each, name) for each in passes])


def loss_of(passes: Sequence[Pass]) -> Tensor:
    """Return TRL's loss of an optimizer step, ()."""
    return torch.stack([each.loss for each in passes]).sum()


def grpo_step(
    passes: Sequence[Pass], heard: Heard, given: Sequence[Row], settings: dict[str, Any]
) -> Ours:
    """Return our loss of one optimizer step, from TRL's log-probabilities."""
    order = [row for each in passes for row in each.rows]
    mask = stack(passes, "mask")
    new = stack(passes, "new").requires_grad_()
    old = heard.old[order] if len(heard.old) else new.detach()
    loss_type = settings["loss_type"]
    of_rows = advantages_of(given, settings)[order]
    advantages = of_rows[:, None].expand_as(new)
    if "vllm_importance_sampling_mode" in settings and loss_type != "vespo":
        advantages = advantages * other_engine(old, given, order, mask, settings)
    losses, clipped = token_losses(new, old, of_rows, advantages, mask, settings)
    if settings.get("beta"):
        kl = core.kl_estimate(new - heard.reference[order], "k3")
        if settings.get("use_bias_correction_kl", True):
            kl = core.corrected_kl(kl, new, old)
        losses = losses + settings["beta"] * kl
    steps = len(given) / len(order)  # that TRL makes of a rollout
    of_rollout = loss_type in ("dapo", "cispo", "vespo")
    weights = core.token_weights(
        mask,
        aggregation=AGGREGATIONS[loss_type],
        length=live.LONGEST,
        rows=len(order),  # with or without tokens
        tokens=num_tokens(given, settings) / steps if of_rollout else None,
    )
    loss = core.masked_sum(weights * losses, mask)
    (gradient,) = torch.autograd.grad(loss, new)
    return Ours(loss.detach(), gradient, int((clipped & mask).sum()))


def token_losses(
    new: Tensor,
    old: Tensor,
    of_rows: Tensor,
    advantages: Tensor,
    mask: Tensor,
    settings: dict[str, Any],
) -> tuple[Tensor, Tensor]:
    """Return the loss of each token, (b, T), and whether it is clipped."""
    low, loss_type = settings.get("epsilon", 0.2), settings["loss_type"]
    high = settings.get("epsilon_high", low)
    log_ratio = torch.where(mask, new - old, 0).detach()
    if loss_type == "cispo":
        found = core.cispo_loss(new, old, advantages, clip_high=high)
    elif loss_type == "sapo":
        temperatures = {"temperature_pos": 1.0, "temperature_neg": 1.05}
        found = core.sapo_loss(new, old, advantages, **temperatures)
    elif loss_type == "vespo":
        numbers = {"k_pos": 2.0, "lambda_pos": 3.0, "k_neg": 3.0, "lambda_neg": 2.0}
        of_row = core.vespo_weights(log_ratio.sum(-1), of_rows, **numbers)
        return -of_row[:, None] * advantages * new, of_row[:, None].expand_as(new) < 0.99
    elif "importance_sampling_level" in settings:
        lengths = mask.sum(-1).clamp(min=1)
        clips = {"clip_low": low, "clip_high": high}
        row = core.sequence_loss(log_ratio.sum(-1) / lengths, of_rows, **clips)
        # A row's slope over its length, by the weights of as many tokens.
        linear = row.loss[:, None] + row.slope[:, None] * (new - new.detach())
        return linear, (row.clipped_low | row.clipped_high)[:, None].expand_as(new)
    else:
        clips = {"clip_low": low, "clip_high": high, "dual_clip": settings.get("delta")}
        found = core.policy_loss(new, old, advantages, **clips)
    return found.loss, found.clipped_low | found.clipped_high


def num_tokens(given: Sequence[Row], settings: dict[str, Any]) -> int:
    """Return how many tokens of a rollout are trained on."""
    is_masked = settings.get("mask_truncated_completions", False)
    return sum(sum(row.own) for row in given if not (is_masked and row.is_cut))


def other_engine(
    old: Tensor, given: Sequence[Row], order: list[int], mask: Tensor, settings: dict[str, Any]
) -> Tensor:
    sampled = torch.zeros_like(old)
    for place, number in enumerate(order):
        sampled[place, : len(given[number].sampled)] = torch.tensor(given[number].sampled)
    return core.importance_weights(
        old,
        sampled,
        mask,
        mode=settings["vllm_importance_sampling_mode"],
        low=settings["vllm_importance_sampling_clip_min"],
        high=settings["vllm_importance_sampling_clip_max"],
    )


def rloo_step(
    passes: Sequence[Pass], heard: Heard, given: Sequence[Row], settings: dict[str, Any]
) -> Ours:
    """Return our loss of one optimizer step: the ratio of a row is the product of its tokens'."""
    order = [row for each in passes for row in each.rows]
    mask = stack(passes, "mask")
    new = stack(passes, "new").requires_grad_()
    log_ratios = torch.where(mask, new.detach() - heard.old[order], 0).sum(-1)
    advantages = advantages_of(given, settings, kl_of(heard, given, settings))[order]
    found = core.sequence_loss(log_ratios, advantages, clip_low=0.2, clip_high=0.2)
    weights = core.token_weights(mask, aggregation="seq_sum", rows=len(order))
    (gradient,) = torch.autograd.grad((weights * found.slope[:, None] * new).sum(), new)
    return Ours(
        found.loss.sum() / len(order), gradient, int((found.clipped_low | found.clipped_high).sum())
    )


def kl_of(heard: Heard, given: Sequence[Row], settings: dict[str, Any]) -> Tensor | None:
    """Return the k1 of each row's tokens together, (B,)."""
    if not settings["beta"]:
        return None
    is_masked = settings.get("mask_truncated_completions", False)
    lengths = torch.tensor([0 if is_masked and r.is_cut else len(r.completion) for r in given])
    mask = torch.arange(live.LONGEST)[None] < lengths[:, None]
    kl = core.kl_estimate(heard.old - heard.reference, "k1")
    return torch.where(mask, kl, 0).sum(-1)


def distance(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.double() - theirs.double()).abs().max())


def compare(heard: Heard, given: Sequence[Row], settings: dict[str, Any]) -> list[Ours]:
    """Assert that each step's loss and gradient are TRL's to 1e-5, and return ours."""
    step_of = rloo_step if settings["method"] == "rloo" else grpo_step
    found = []
    for passes in heard.steps:
        ours = step_of(passes, heard, given, settings)
        assert distance(ours.loss, loss_of(passes)) <= 1e-5
        assert distance(ours.gradient, stack(passes, "gradient")) <= 1e-5
        assert float(ours.gradient.abs().max()) > 1e-3
        found.append(ours)
    return found


def settings_of(method: str, more: dict[str, Any]) -> dict[str, Any]:
    return {"method": method, **more}


@pytest.mark.parametrize("name", GRPO)
def test_advantages_loss_and_gradient_are_those_of_trls_grpo(name: str, tmp_path: Path) -> None:
    given, settings = live.rows(), settings_of("grpo", GRPO[name])
    heard = live.ask("grpo", given, tmp_path, **{"beta": 0.0, **GRPO[name], **TWICE})
    assert distance(advantages_of(given, settings), heard.advantages) <= 1e-5
    first, second = compare(heard, given, settings)
    assert first.num_clipped == 0
    num_all = num_tokens(given, settings)
    assert settings["loss_type"] == "sapo" or 0 < second.num_clipped < num_all


@pytest.mark.parametrize("name", RLOO)
def test_advantages_loss_and_gradient_are_those_of_trls_rloo(name: str, tmp_path: Path) -> None:
    given, settings = live.rows(), settings_of("rloo", RLOO[name])
    heard = live.ask("rloo", given, tmp_path, **RLOO[name], **TWICE)
    kl = kl_of(heard, given, settings)
    assert distance(advantages_of(given, settings, kl), heard.advantages) <= 1e-5
    first, second = compare(heard, given, settings)
    assert first.num_clipped == 0 < second.num_clipped


@pytest.mark.parametrize(
    "mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]
)
@pytest.mark.parametrize("loss_type", ["grpo", "cispo"])
def test_weights_of_another_engine_are_trls(mode: str, loss_type: str, tmp_path: Path) -> None:
    more = {"vllm_importance_sampling_mode": mode, "loss_type": loss_type, **OTHER_ENGINE}
    if mode == "sequence_mask":
        more |= {"vllm_importance_sampling_clip_min": 0.01, "vllm_importance_sampling_clip_max": 9}
    given = live.rows()
    heard = live.ask("grpo", given, tmp_path, is_other_engine=True, beta=0.0, **more, **TWICE)
    compare(heard, given, settings_of("grpo", more))


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "dr_grpo"])
def test_tokens_of_a_tool_are_left_out_as_trl_leaves_them_out(
    loss_type: str, tmp_path: Path
) -> None:
    given = live.rows(with_tools=True)
    more = {"loss_type": loss_type, "beta": 0.1}
    heard = live.ask("grpo", given, tmp_path, **more, **TWICE)
    assert num_tokens(given, {}) < sum(len(row.completion) for row in given)
    compare(heard, given, settings_of("grpo", more))


def test_the_second_bound_is_one_that_counts(tmp_path: Path) -> None:
    """Else the case of two bounds would be that of one."""
    more = {"loss_type": "grpo", "beta": 0.0, **TWICE}
    given = live.rows()
    one = live.ask("grpo", given, tmp_path, **more)
    two = live.ask("grpo", given, tmp_path, delta=1.25, **more)
    assert distance(one.steps[1][0].loss, two.steps[1][0].loss) > 1e-3


def test_rows_without_a_score_count_in_trls_mean_and_not_in_ours(tmp_path: Path) -> None:
    """Their advantage is 0 there as here; but 12 rows are divided by, and here the 11 others."""
    given, settings = live.rows(), settings_of("grpo", {"loss_type": "grpo"})
    heard = live.ask("grpo", given, tmp_path, loss_type="grpo", beta=0.0)
    (passed,) = heard.steps[0]
    scored = ~scores_of(given)[passed.rows].isnan()
    new, mask = passed.new[scored].requires_grad_(), passed.mask[scored]
    of_rows = heard.advantages[passed.rows][scored]
    advantages = of_rows[:, None].expand_as(new)
    losses, _ = token_losses(new, new.detach(), of_rows, advantages, mask, settings)
    weights = core.token_weights(mask, aggregation="seq")
    (ours,) = torch.autograd.grad(core.masked_sum(weights * losses, mask), new)
    assert distance(ours * 11 / 12, passed.gradient[scored]) <= 1e-6
    assert distance(ours, passed.gradient[scored]) > 1e-3
    assert not passed.gradient[~scored].any()


def test_trl_takes_rounding_for_a_difference_of_scores_and_we_do_not() -> None:
    """By its own formula; of 8 scores of 0.3 it says that they have spread."""
    scores = torch.full((8,), 0.3)
    spread = nanstd(scores)
    theirs = (scores - scores.nanmean()) / (spread + 1e-4)
    assert float(theirs.abs().min()) > 1e-4
    assert not torch.isclose(spread, torch.zeros(()))
    groups = torch.zeros(8)
    assert not core.group_advantages(scores, groups, scale="group").any()
    assert not core.group_spread(scores, groups).any()


def test_bnpo_of_trl_depends_on_how_many_rows_fit_in_a_pass_and_ours_does_not(
    tmp_path: Path,
) -> None:
    """TRL: the mean of two passes' means over tokens. Here: the mean over the tokens of both."""
    given, settings = live.rows(), settings_of("grpo", {"loss_type": "bnpo"})
    whole, parts = (
        live.ask("grpo", given, tmp_path, loss_type="bnpo", beta=0.0, **more)
        for more in ({}, IN_TWO)
    )
    passes = parts.steps[0]
    together = grpo_step(passes, parts, given, settings).loss
    theirs = loss_of(passes)
    means = [grpo_step([each], parts, given, settings).loss for each in passes]
    assert len({int(each.mask.sum()) for each in passes}) == 2
    assert distance(together, loss_of(whole.steps[0])) <= 1e-6
    assert distance(together, theirs) > 1e-3
    assert distance(sum(means, torch.zeros(())) / 2, theirs) <= 1e-6
