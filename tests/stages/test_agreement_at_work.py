"""How far a judge agrees with a task's gold scores on the pairs that it compared."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.config.references import Places
from pipeline.data.making.comparisons import Comparison, Outcome
from pipeline.data.reading.records import PromptRow
from pipeline.data.reading.responses import ResponseRow
from pipeline.stages.labelling.agreeing import agree_with_gold


def row(
    text: str, *, prompt: int, source: str = "arithmetic", reference: str | None = "7"
) -> ResponseRow:
    asked = PromptRow("here", (), f"Question {prompt}: what is 3 + 4?", {})
    fields = {"prompt": asked.text, "reference": reference}
    return ResponseRow("here", asked, text, fields, source)


RIGHT, WRONG, LONG = "The answer is 7.", "The answer is 8.", "I think that the answer is 9."
CONTEXT: Any = SimpleNamespace(name="label", places=Places(Path()))
Orders = tuple[Any, Any]


def agreement(compared: list[tuple[ResponseRow, ResponseRow, Orders]]) -> dict[str, Any]:
    rows = [row for first, second, _ in compared for row in (first, second)]
    by_pair = {
        Comparison(2 * number, 2 * number + 1): Outcome(
            orders[0] if orders[0] == orders[1] else "tie", 0.5, None, orders
        )
        for number, (_, _, orders) in enumerate(compared)
    }
    return agree_with_gold("judge", by_pair, rows, ["arithmetic"], CONTEXT)


def test_verdicts_are_counted_against_the_author_where_he_prefers_one() -> None:
    for_first: Orders = ("first", "first")
    found = agreement(
        [
            (row(RIGHT, prompt=1), row(WRONG, prompt=1), for_first),  # right
            (row(WRONG, prompt=2), row(RIGHT, prompt=2), for_first),  # wrong
            (row(RIGHT, prompt=3), row(LONG, prompt=3), ("first", "second")),  # a tie: half
            (row(WRONG, prompt=4), row(LONG, prompt=4), for_first),  # the author prefers neither
            (
                row(RIGHT, prompt=5, source="chats"),
                row(WRONG, prompt=5, source="chats"),
                for_first,
            ),
            (row(RIGHT, prompt=6, reference=None), row(WRONG, prompt=6, reference=None), for_first),
        ]
    )["agreement"]["judge"]
    assert (found["compared"], found["n"], found["ties"], found["orders_differ"]) == (6, 3, 1, 1)
    assert found["accuracy"] == 0.5
    assert found["accuracy_low"] < 0.5 < found["accuracy_high"]
    assert found["first_place"] == (0.5 + 0.5 + 1.0) / 3
    assert found["longer_accuracy"] == (0.5 + 0.5 + 0.0) / 3


def test_of_one_prompt_a_single_pair_counts_whatever_order_they_come_in() -> None:
    compared = [
        (row(RIGHT, prompt=1), row(text, prompt=1), orders)
        for text, orders in (
            (WRONG, ("first", "first")),
            (LONG, ("second", "second")),
            ("It is 1.", ("first", "second")),
        )
    ]
    found = agreement(compared)["agreement"]["judge"]
    assert (found["compared"], found["n"]) == (3, 1)
    assert agreement(compared[::-1])["agreement"]["judge"] == found


def test_nothing_is_said_where_no_author_prefers_one() -> None:
    neither = (row(WRONG, prompt=1), row(LONG, prompt=1), ("first", "first"))
    assert agreement([neither]) == {}
