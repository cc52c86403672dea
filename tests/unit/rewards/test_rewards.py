"""The way from terms to scores, against numbers worked out by hand."""

import json
import logging
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import PosttrainError
from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.responses import Logged
from pipeline.rewards.terms import RewardTerm, function_term
from tests.unit.rewards.responses import responses

NAN = math.nan
# Weighted with 2 and -1: 2, 5, nothing, 8. Mean 5, variance (9 + 0 + 9) / 3 = 6.
RAW = [[1.0, NAN], [3.0, 1.0], [NAN, NAN], [5.0, 2.0]]
STEP = 3 / math.sqrt(6)


def equal(numbers: Sequence[float]) -> Any:
    return pytest.approx(numbers, nan_ok=True)


def term(name: str = "a", weight: float = 1.0, *, on: frozenset[str] | None = None) -> RewardTerm:
    """The number of characters of a response, None for an empty one."""
    return RewardTerm(
        name, weight, lambda given, _: [len(str(each)) or None for each in given.completions], on
    )


def composed(**settings: object) -> RewardComposition:
    return RewardComposition([term("a", 2.0), term("b", -1.0)], **settings)


def combined(
    composition: RewardComposition,
    raw: Sequence[Sequence[float]],
    has_eos: Sequence[bool] | None = None,
) -> Tensor:
    ended = torch.tensor([True] * len(raw) if has_eos is None else has_eos)
    return composition.combine(torch.tensor(raw, dtype=torch.float64), ended).scores


def test_scores_are_the_weighted_sum_of_the_terms_that_apply() -> None:
    assert combined(composed(), RAW).tolist() == equal([2, 5, NAN, 8])
    assert composed().moments == (0, 1)


def test_a_rollout_is_normalised_with_the_moments_of_all_that_were_scored() -> None:
    for normalise in ("running", "fixed"):
        composition = composed(normalise=normalise)
        assert combined(composition, RAW).tolist() == equal([-STEP, 0, NAN, STEP])
        assert composition.moments == pytest.approx((5, math.sqrt(6)))


def test_running_moments_go_on_and_fixed_ones_stay() -> None:
    running, fixed = composed(normalise="running"), composed(normalise="fixed")
    for composition in (running, fixed):
        combined(composition, RAW)
    # 11 beside 2, 5 and 8: mean 6.5, variance 11.25.
    eleven = [[5.5, NAN]]
    assert combined(running, eleven).item() == pytest.approx(4.5 / math.sqrt(11.25))
    assert combined(fixed, eleven).item() == pytest.approx(6 / math.sqrt(6))
    assert fixed.moments == pytest.approx((5, math.sqrt(6)))


def test_equal_scores_are_normalised_to_nothing_and_not_to_their_rounding() -> None:
    composition = RewardComposition([term()], normalise="running")
    assert combined(composition, [[0.1]] * 3).tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    assert composition.moments[1] == 1


def test_a_critic_that_starts_as_the_reward_model_predicts_normalised_scores() -> None:
    composition = RewardComposition([term()], normalise="running")
    hidden = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]], dtype=torch.float64)
    weight, bias = torch.tensor([0.7, -0.2], dtype=torch.float64), 0.3
    scores = combined(composition, (hidden @ weight + bias).unsqueeze(-1).tolist())
    mean, std = composition.moments
    torch.testing.assert_close(hidden @ (weight / std) + (bias - mean) / std, scores)


def test_the_clip_comes_after_normalising_and_the_rule_of_the_end_after_the_clip() -> None:
    has_eos = [True, False, False, False]
    for mode, expected in (("subtract", [-1, -2, NAN, -1]), ("replace", [-1, -2, NAN, -2])):
        composition = composed(
            normalise="fixed", clip=(-1.0, 1.0), missing_eos_penalty=2.0, eos_penalty_mode=mode
        )
        found = composition.combine(torch.tensor(RAW), torch.tensor(has_eos))
        assert found.scores.tolist() == equal(expected)


def test_a_response_that_nothing_rewards_has_no_score_whatever_the_clip() -> None:
    assert combined(composed(clip=(3.0, 6.0)), RAW).tolist() == equal([3, 5, NAN, 6])


def test_a_term_of_weight_0_is_only_shown_and_scores_nothing() -> None:
    composition = RewardComposition([term("a"), term("shown", 0.0)])
    assert combined(composition, [[NAN, 7.0], [3.0, NAN]]).tolist() == equal([NAN, 3])


def test_without_a_penalty_a_missing_end_changes_nothing() -> None:
    assert combined(composed(), RAW, [False] * 4).tolist() == equal([2, 5, NAN, 8])


def test_any_of_several_stop_tokens_is_an_end() -> None:
    """B41: the rule goes by `has_eos`; the ids of the ends are nobody's business here."""
    rows = responses("x" * 5, "x" * 9, "x" * 7)  # their only tokens are 5, 9 and 7; 7 is no end
    composition = RewardComposition([term()], missing_eos_penalty=1.0)
    found = composition.combine(composition.raw(rows), torch.tensor([True, True, False]))
    assert found.scores.tolist() == [5, 9, 6]


def test_metrics_are_those_of_the_rollout() -> None:
    composition = composed(normalise="fixed", clip=(-1.0, 1.0), missing_eos_penalty=2.0)
    found = composition.combine(torch.tensor(RAW), torch.tensor([True, False, True, True]))
    assert found.metrics == pytest.approx(
        {
            "rewards/a/n": 3,
            "rewards/a/none": 1,
            "rewards/a/mean": 3,
            "rewards/a/std": math.sqrt(8 / 3),
            "rewards/b/n": 2,
            "rewards/b/none": 2,
            "rewards/b/mean": 1.5,
            "rewards/b/std": 0.5,
            "objective/scores": 0,
            "objective/scores_std": math.sqrt(2 / 3),
            "objective/scores_raw": 5,
            "objective/scores_raw_std": math.sqrt(6),
            "rewards/clipped": 2 / 3,
            "rewards/missing_eos": 0.25,
            "rewards/unscored": 1,
        }
    )


def test_a_term_that_applies_to_nothing_has_a_count_and_no_mean() -> None:
    metrics = composed().combine(torch.tensor([[1.0, NAN]]), torch.tensor([True])).metrics
    assert metrics["rewards/b/n"] == 0
    assert "rewards/b/mean" not in metrics
    assert all(math.isfinite(value) for value in metrics.values())


def test_it_is_the_same_whatever_process_a_response_was_scored_by() -> None:
    """B49: uneven shares of a rollout, gathered in any order, give the whole rollout's figures."""
    texts = ["a", "bb", "", "dddd", "eeeee", "ffffff", "ggggggg"]
    whole = responses(*texts)
    has_eos = torch.tensor([True, False, True, True, False, True, True])

    def result(
        *shares: list[int],
    ) -> tuple[dict[int, float | None], dict[str, float], tuple[float, ...]]:
        composition = RewardComposition(
            [term("a", 2.0), term("b", 0.5)],
            normalise="running",
            clip=(-1.0, 1.0),
            missing_eos_penalty=1.0,
        )
        raw = torch.cat([composition.raw(whole.part(rows)) for rows in shares])
        order = [row for rows in shares for row in rows]
        found = composition.combine(raw, has_eos[order])
        kept = [None if math.isnan(score) else score for score in found.scores.tolist()]
        scores = dict(sorted(zip(order, kept, strict=True)))
        return scores, found.metrics, composition.moments

    scores, metrics, moments = result(list(range(7)))
    for shares in (([0, 1, 2, 3, 4], [5, 6]), ([6], [2, 0, 4], [1, 3, 5])):
        others = result(*shares)
        assert others[0] == pytest.approx(scores, abs=1e-12)
        assert others[1] == pytest.approx(metrics, abs=1e-12)
        assert others[2] == pytest.approx(moments, abs=1e-12)


def test_none_is_counted_where_a_term_was_asked_and_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    composition = RewardComposition([term("a", on=frozenset({"facts"})), term("b")])
    raw, sources = [[1.0, NAN], [NAN, 2.0], [NAN, 3.0]], ["facts", "facts", "stories"]
    for _ in range(2):
        given = torch.tensor(raw), torch.tensor([True] * 3)
        found = composition.combine(*given, sources=sources).metrics
        assert (found["rewards/a/none"], found["rewards/b/none"]) == (1, 1)
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [line.partition(" of this")[0] for line in said] == [
        "reward `a` gave None for 1 of 2 responses",
        "reward `b` gave None for 1 of 3 responses",
    ]


def test_up_to_one_response_in_a_hundred_without_a_reward_is_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    combined(RewardComposition([term()]), [[NAN], *[[1.0]] * 99])
    assert not caplog.records
    combined(RewardComposition([term()]), [[NAN], *[[1.0]] * 98])
    assert len(caplog.records) == 1


def test_what_functions_logged_is_averaged_over_values_and_not_over_processes() -> None:
    """B49: one process logged three values, the other one."""
    logged = [Logged({"a/share": [1.0, 1.0, 1.0]}), Logged({"a/share": [0.0]}), Logged()]
    found = composed().combine(torch.tensor(RAW), torch.tensor([True] * 4), logged)
    assert found.metrics["rewards/a/share"] == 0.75


@pytest.mark.parametrize("normalise", ["none", "running", "fixed"])
def test_a_resumed_run_gives_the_same_numbers(normalise: str) -> None:
    """B35: the moments survive JSON to the last bit."""
    before, after = composed(normalise=normalise), composed(normalise=normalise)
    generator = torch.Generator().manual_seed(1)
    for rows in (7, 5):
        combined(before, torch.randn(rows, 2, generator=generator).tolist())
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    later = torch.randn(6, 2, generator=generator).tolist()
    assert after.moments == before.moments
    assert combined(after, later).tolist() == combined(before, later).tolist()
    assert after.moments == before.moments


def test_responses_outside_of_rollouts_leave_the_moments_alone() -> None:
    composition = composed(normalise="running", clip=(-1.0, 1.0))
    combined(composition, RAW)
    before = composition.state_dict()
    assert composition.weigh(torch.tensor(RAW)).tolist() == pytest.approx(
        [2, 5, NAN, 8], nan_ok=True
    )
    assert composition.state_dict() == before


def test_a_term_for_some_sources_sees_and_rewards_their_responses_only() -> None:
    rows = responses("a", "bb", "ccc", source=["facts", "stories", "facts"])
    raw = RewardComposition([term(on=frozenset({"facts"})), term("b")]).raw(rows)
    assert raw[:, 0].tolist() == pytest.approx([1, NAN, 3], nan_ok=True)
    assert raw[:, 1].tolist() == [1, 2, 3]
    assert raw.dtype == torch.float64
    with pytest.raises(PosttrainError, match=r"^reward `a`: is for some sources only.*`source`"):
        RewardComposition([term(on=frozenset({"facts"}))]).raw(responses("a"))


@pytest.mark.parametrize(("large", "weight"), [(1e308, 10.0), (1e200, 1.0), (-10.0, 1e17)])
def test_finite_numbers_with_a_sum_that_is_none_are_an_error(large: float, weight: float) -> None:
    own = function_term(lambda **_: [1.0, large], "own", weight)
    composition = RewardComposition([own], normalise="running")
    with pytest.raises(PosttrainError, match=r"sum of `own` is \S+ for response 1; numbers beyond"):
        composition.combine(composition.raw(responses("a", "b")), torch.tensor([True, True]))


def test_a_rollout_without_any_reward_is_an_error() -> None:
    with pytest.raises(PosttrainError, match=r"no response .* any term \(`a`, `b`\)"):
        combined(composed(), [[NAN, NAN]] * 2)


def test_a_process_without_responses_has_no_rewards() -> None:
    assert composed().raw(responses()).shape == (0, 2)


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for terms, settings, said in (
        ([], {}, "one term at least"),
        ([term("a"), term("b"), term("a")], {}, "two rewards are named `a`"),
        ([term("a", NAN)], {}, "the weight nan is not a number"),
        ([term()], {"clip": (1.0, -1.0)}, "is no range from low to high"),
        ([term()], {"clip": (NAN, 1.0)}, "is no range from low to high"),
        ([term()], {"missing_eos_penalty": -1.0}, "missing_eos_penalty -1.0"),
    ):
        with pytest.raises(ValueError, match=said):
            RewardComposition(terms, **settings)
