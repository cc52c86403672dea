"""How far a judge agrees with a task's gold scores on the pairs that it compared."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.config.references import Places
from pipeline.data.making.comparisons import Comparison, Outcome
from pipeline.data.reading.records import PromptRow
from pipeline.data.reading.responses import ResponseRow
from pipeline.stages.labelling.agreeing import agree_with_gold


def row(text: str, *, source: str = "arithmetic", reference: Any = "7") -> ResponseRow:
    prompt = PromptRow("here", (), "What is 3 + 4?", {})
    return ResponseRow("here", prompt, text, {"reference": reference}, source)


RIGHT, WRONG, LONG = "The answer is 7.", "The answer is 8.", "I think that the answer is 9."
ROWS = [row(RIGHT), row(WRONG), row(LONG), row(RIGHT, source="chats"), row(RIGHT, reference=None)]
CONTEXT: Any = SimpleNamespace(name="label", places=Places(Path()))


def agreement(outcomes: dict[tuple[int, int], tuple[Any, Any]]) -> dict[str, Any]:
    by_pair = {
        Comparison(*pair): Outcome(
            orders[0] if orders[0] == orders[1] else "tie", 0.5, None, orders
        )
        for pair, orders in outcomes.items()
    }
    return agree_with_gold("judge", by_pair, ROWS, ["arithmetic"], CONTEXT)


def test_verdicts_are_counted_against_the_author_where_he_prefers_one() -> None:
    found = agreement(
        {
            (0, 1): ("first", "first"),  # right
            (1, 0): ("first", "first"),  # wrong
            (0, 2): ("first", "second"),  # the orders disagree: half
            (1, 2): ("first", "first"),  # two wrong answers: the author prefers neither
            (0, 3): ("first", "first"),  # of another source
            (1, 4): ("first", "first"),  # nothing says what is right
        }
    )["agreement"]["judge"]
    assert (found["compared"], found["n"], found["ties"], found["orders_differ"]) == (6, 3, 1, 1)
    assert found["accuracy"] == 0.5
    assert found["accuracy_low"] < 0.5 < found["accuracy_high"]
    assert found["first_place"] == (0.5 + 0.5 + 1.0) / 3
    assert found["longer_accuracy"] == (0.5 + 0.5 + 0.0) / 3


def test_nothing_is_said_where_no_author_prefers_one() -> None:
    assert agreement({(1, 2): ("first", "first"), (0, 3): ("first", "second")}) == {}
