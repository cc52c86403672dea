"""Which pairs are drawn to be labelled, in which order, and which of them come twice."""

from collections import Counter
from dataclasses import replace
from math import comb
from typing import Any

from pipeline.data.reading.files import Row
from pipeline.data.reading.responses import response_row
from pipeline.feedback.pairs import Drawn, Response, draw_pairs
from pipeline.feedback.showings import order_showings


def response(prompt: str, text: str, source: str = "sampled", **columns: Any) -> Response:
    fields = {"prompt": prompt, "completion": text, **columns}
    return Response(response_row(Row("x:1", fields), source), source)


def many(prompts: int, samples: int, source: str = "sampled") -> list[Response]:
    return [
        response(f"q{n}", f"answer {sample} of {source}", source)
        for n in range(prompts)
        for sample in range(samples)
    ]


def draw(responses: list[Response], at_most: int = 10_000, seed: int = 0) -> Drawn:
    return draw_pairs(responses, at_most=at_most, seed=seed)


def keys(drawn: Drawn) -> list[str]:
    return [pair.key for pair in drawn.pairs]


def test_all_pairs_are_drawn_once_each() -> None:
    drawn = draw(many(5, 6))
    assert len(set(keys(drawn))) == len(drawn.pairs) == drawn.possible == 5 * comb(6, 2)
    for pair in drawn.pairs:
        assert pair.a.row.question == pair.b.row.question
        assert pair.a.text < pair.b.text


def test_every_prompt_comes_once_before_any_comes_twice() -> None:
    for number in (7, 20, 33, 45):
        drawn = draw(many(20, 3), number)
        times = Counter(pair.a.row.question for pair in drawn.pairs)
        assert len(drawn.pairs) == number
        assert len(times) == min(number, 20)
        assert max(times.values()) - min(times.values()) <= 1


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_rows_and_more_only_adds() -> None:
    rows = many(9, 4)
    assert keys(draw(rows[::-1], 20)) == keys(draw(rows, 20)) == keys(draw(rows, 40))[:20]
    assert keys(draw(rows, 20, seed=1)) != keys(draw(rows, 20))


def test_prompts_with_few_pairs_leave_room_for_those_with_more() -> None:
    drawn = draw([*many(4, 2), *[response("rich", f"r{n}") for n in range(8)]], 20)
    assert len(drawn.pairs) == 20
    assert drawn.possible == 4 + comb(8, 2)


def test_equal_texts_make_no_pair_and_such_prompts_are_counted() -> None:
    rows = [response("q", "same"), response("q", "same"), response("one", "alone")]
    drawn = draw([*rows, response("two", "a"), response("two", "b"), response("two", "a")])
    assert (len(drawn.pairs), drawn.possible, drawn.alone) == (1, 1, 2)


def test_prompts_that_expect_different_answers_are_different_prompts() -> None:
    rows = [response("q", "a", reference="1"), response("q", "b", reference="2")]
    assert draw(rows).alone == 2


def test_of_two_sources_a_pair_has_one_response_of_each() -> None:
    rows = [*many(3, 4, "sft"), *many(3, 4, "dpo")]
    rows += [response("q0", "both", "sft"), response("q0", "both", "dpo")]
    drawn = draw(rows)
    assert all(pair.a.source != pair.b.source for pair in drawn.pairs)
    assert len(set(keys(drawn))) == len(drawn.pairs) == drawn.possible == 3 * 16 + 8


def test_thousands_of_responses_to_a_prompt_cost_only_what_is_drawn() -> None:
    drawn = draw([response("q", str(n)) for n in range(4096)], 50)
    assert (len(set(keys(drawn))), drawn.possible) == (50, comb(4096, 2))


def test_the_share_comes_again_some_pairs_later_and_once() -> None:
    for number, repeat in ((100, 0.1), (30, 0.1), (30, 1.0), (4, 0.5), (1, 1.0), (30, 0.0)):
        drawn = draw(many(number, 2))
        showings = order_showings(drawn.pairs, repeat=repeat, seed=0)
        first = [showing.pair.key for showing in showings if showing.number == 1]
        again = [showing.pair.key for showing in showings if showing.number == 2]
        assert first == keys(drawn)
        least = min(8, number // 2)
        assert len(set(again)) == len(again) == min(round(number * repeat), max(1, number - least))
        order = [(showing.pair.key, showing.number) for showing in showings]
        for key in again:
            assert order.index((key, 2)) - order.index((key, 1)) > least
        assert len({showing.name for showing in showings}) == len(showings)


def test_the_place_is_drawn_and_the_second_time_it_is_the_other_one() -> None:
    showings = order_showings(draw(many(400, 2)).pairs, repeat=0.0, seed=0)
    turned = 0
    for showing in showings:
        first, second = showing.sides(seed=0)
        assert {first.text, second.text} == {showing.pair.a.text, showing.pair.b.text}
        turned += first.text == showing.pair.b.text
        again = replace(showing, number=2).sides(seed=0, first_text=first.text)
        assert again == (second, first)
    assert 160 < turned < 240
