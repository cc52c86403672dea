"""Probes: which responses they stand beside, and what their figures say of who judges them."""

import asyncio
import random

from reward.judges.exchange import NoReply, Reply
from reward.judges.judge import Judge
from reward.judges.probes import (
    PROBES,
    Probed,
    choose_probed,
    compare_scores,
    probe_metrics,
    probe_preferences,
    probe_texts,
)
from tests.unit.reward.test_judge_requests import Answering, the_longer

ITEMS = [Probed("Why?", "Because it rains.", "No."), Probed("When?", "At noon.", "Never.")]


def figures_of(score, honest):
    scores = {name: [score(probe_texts(item)[name]) for item in ITEMS] for name in PROBES}
    return {figure.name: figure for figure in compare_scores(honest, scores)}


def test_who_can_be_fooled_shows_it_in_the_probes() -> None:
    found = figures_of(
        lambda text: 10 if text in (":", "Thought process:") else 6 if " " in text[1:] else 1,
        [6, 6],
    )
    assert set(found) == set(PROBES)
    colon = found["colon"]
    assert (colon.mean, colon.honest_mean, colon.above) == (10, 6, 1)
    assert (found["blank"].above, found["blank"].level) == (0, 0)
    assert (found["quotes"].above, found["quotes"].level) == (0, 1)
    assert probe_metrics(list(found.values()))["colon"]["above"] == 1


def test_what_has_no_score_is_asked_and_not_answered() -> None:
    for figure in figures_of(lambda text: None, [6, 6]).values():
        assert (figure.asked, figure.answered, figure.mean, figure.above) == (2, 0, None, None)
    for figure in figures_of(lambda text: 1, [6, None]).values():
        assert (figure.asked, figure.answered, figure.honest_mean) == (2, 1, 6)


def test_probes_are_compared_in_both_orders() -> None:
    figures = asyncio.run(probe_preferences(Judge(Answering(the_longer), "any"), ITEMS))
    by_name = {figure.name: figure for figure in figures}
    assert (by_name["ignore"].above, by_name["blank"].above, by_name["blank"].level) == (1, 0, 0)
    always_first = Judge(Answering(lambda request: Reply("A")), "any")
    for figure in asyncio.run(probe_preferences(always_first, ITEMS)):
        assert (figure.above, figure.level, figure.mean) == (0, 1, 0.5)


def test_comparisons_without_an_answer_have_no_figures() -> None:
    judge = Judge(Answering(lambda request: NoReply("timeout", "late")), "any")
    for figure in asyncio.run(probe_preferences(judge, ITEMS)):
        assert (figure.asked, figure.answered, figure.mean) == (2, 0, None)


def test_honest_responses_are_drawn_by_their_texts_one_a_prompt() -> None:
    answered = [(f"Q{n % 40}", f"A {n}") for n in range(120)] + [("Q0", "  "), ("blank", " ")]
    drawn = choose_probed(answered, seed=3)
    assert len(drawn) == len({item.prompt for item in drawn}) == 24
    for item in drawn:
        assert answered[item.place] == (item.prompt, item.response)
        assert item.other != item.response
        assert (item.prompt, item.other) in answered
    mixed = random.Random(1).sample(answered, len(answered))
    bare = [(item.prompt, item.response, item.other) for item in drawn]
    again = choose_probed(mixed, seed=3)
    assert [(item.prompt, item.response, item.other) for item in again] == bare
    assert choose_probed(answered, seed=4) != drawn


def test_a_prompt_with_one_response_is_quoted_the_next_ones() -> None:
    first, second = choose_probed([("Why?", "Rain."), ("When?", "Noon.")], seed=0)
    assert {first.other, second.other} == {"Rain.", "Noon."}
    assert first.other == second.response
    assert choose_probed([("Why?", " ")], seed=0) == []
