"""pipeline/report/html/tool_steps.py: calls within a response, from both files that have them."""

import json
from typing import Any

from pipeline.report.html.tool_steps import steps_of_calls, steps_of_turns


def _turn(*calls: dict[str, Any], said: str = "") -> dict[str, Any]:
    made = [{"function": {"name": "f", "arguments": arguments}} for arguments in calls]
    return {"role": "assistant", "content": said, "tool_calls": made}


def test_each_call_of_a_turn_stands_beside_its_own_answer() -> None:
    turns = [
        _turn({"x": "1"}, {"y": [2]}, said="I look."),
        {"role": "tool", "content": "one"},
        {"role": "tool", "content": "error: no"},
        {"role": "assistant", "content": "Done."},
    ]
    first, second = steps_of_turns(turns)
    assert (first.said, first.arguments, first.answer, first.is_error) == (
        "I look.",
        'x="1"',
        "one",
        False,
    )
    assert (second.said, second.arguments, second.answer, second.is_error) == (
        "",
        "y=[2]",
        "error: no",
        True,
    )


def test_calls_that_were_never_answered_say_so_by_an_empty_answer() -> None:
    (step,) = steps_of_turns([_turn({})])
    assert (step.arguments, step.answer) == ("", "")


def test_items_have_the_same_steps_and_long_texts_are_cut() -> None:
    call = {"name": "f", "arguments": json.dumps({"x": "é"}), "answer": "a" * 900, "error": None}
    broken = {"name": "", "arguments": "{", "answer": "error: no", "error": "malformed"}
    fine, malformed = steps_of_calls([call, broken])
    assert fine.arguments == 'x="é"'
    assert len(fine.answer) < 310
    assert malformed.is_error
    assert malformed.arguments == "{"
    assert fine.size_bytes > 300
    assert steps_of_calls(None) == steps_of_turns(None) == ()
    assert len(steps_of_calls([call] * 50)) == 20
