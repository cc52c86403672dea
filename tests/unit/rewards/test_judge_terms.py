"""A judge as a reward term: scores of a rubric, None without an answer, an end without any."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from pipeline.errors import InfrastructureError, PosttrainError
from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.judge import judge_term
from pipeline.rewards.responses import Responses
from reward.judges.exchange import Cause, NoReply, Reply, Request
from reward.judges.judge import Judge


class Counting:
    """A respondent that gives a response a point for each letter; some get no answer."""

    identity: Mapping[str, Any] = {"model": "counting"}
    at_a_time = 1

    def __init__(self, fails: Mapping[str, Cause] | None = None) -> None:
        self.fails = fails or {}
        self.asked: list[Request] = []

    async def reply(self, requests: Sequence[Request]) -> list[Reply | NoReply]:
        self.asked += requests
        return [self._answer(request.messages[-1][1]) for request in requests]

    def _answer(self, question: str) -> Reply | NoReply:
        for text, cause in self.fails.items():
            if text in question:
                return NoReply(cause, "as it was told")
        letters = next(text for text in ("aaaa", "bbb", "cc") if text in question)
        return Reply(str(len(letters)))


def responses(*texts: str) -> Responses:
    prompts = [[{"role": "user", "content": "Say."}] for _ in texts]
    return Responses(
        prompts,
        [[{"role": "assistant", "content": text}] for text in texts],
        [[5]] * len(texts),
        [[6]] * len(texts),
        [True] * len(texts),
        {"source": ["mine.jsonl"] * len(texts)},
    )


def composed(respondent: Counting, **settings: Any) -> RewardComposition:
    return RewardComposition([judge_term(Judge(respondent, "It is long."), "judge", **settings)])


def test_each_response_is_scored_with_its_prompt_in_one_call() -> None:
    respondent = Counting()
    composition = composed(respondent)
    raw = composition.raw(responses("aaaa", "bbb", "cc"))
    assert raw.tolist() == [[4.0], [3.0], [2.0]]
    assert len(respondent.asked) == 3
    assert all("Say." in request.messages[-1][1] for request in respondent.asked)
    assert all("It is long." in request.messages[-1][1] for request in respondent.asked)


def test_a_response_without_an_answer_has_no_score_and_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    composition = composed(Counting({"bbb": "wrong_schema"}))
    asked = responses("aaaa", "bbb", "cc")
    raw = composition.raw(asked)
    combined = composition.combine(raw, torch.ones(3), [asked.logged])
    assert raw[1].isnan().all()
    assert combined.metrics["rewards/judge/none"] == 1
    assert combined.metrics["rewards/judge/failed"] == pytest.approx(1 / 3)
    assert combined.metrics["rewards/unscored"] == 1
    assert "gave None for 1 of 3" in caplog.text


@pytest.mark.parametrize(
    ("cause", "kind"), [("unreachable", InfrastructureError), ("too_long", PosttrainError)]
)
def test_a_rollout_without_any_answer_stops_the_training(
    cause: Cause, kind: type[PosttrainError]
) -> None:
    composition = composed(Counting({"aaaa": cause, "bbb": cause}))
    with pytest.raises(kind, match=f"none of 2 questions: 2 {cause}") as caught:
        composition.raw(responses("aaaa", "bbb"))
    assert type(caught.value) is kind


def test_a_budget_that_is_spent_stops_it_at_once_and_says_what_to_do() -> None:
    composition = composed(Counting({"bbb": "budget"}))
    with pytest.raises(InfrastructureError, match=r"budget is spent.*raise `budget`"):
        composition.raw(responses("aaaa", "bbb"))


def test_a_term_for_other_sources_is_not_asked() -> None:
    respondent = Counting()
    raw = composed(respondent, on=frozenset({"theirs.jsonl"})).raw(responses("aaaa"))
    assert raw.isnan().all()
    assert respondent.asked == []
