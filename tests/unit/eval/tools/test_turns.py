"""eval/tools/turns.py: from turn to turn, what is whose, and where it ends."""

from collections.abc import Sequence

from eval.tools.calculator import calculator
from eval.tools.calls import Call
from eval.tools.tool import make_tool
from eval.tools.toolbox import Toolbox
from eval.tools.turns import MAX_CALLS, Conversation, ToolUse, Turn, converse

END, CALL, ANSWER = 1, 7, 9


class Format:
    """A turn of [7, n, m, ..., 1] calls calculator(n), calculator(m); an answer is [9, value]."""

    def read_calls(self, token_ids: Sequence[int]) -> list[Call]:
        if token_ids[0] != CALL:
            return []
        return [Call("calculator", {"expression": f"{number}*2"}) for number in token_ids[1:-1]]

    def answer_ids(self, answers: Sequence[tuple[str, str]], *, last_id: int) -> list[int]:
        return [ANSWER, *(int(text) if text.isdigit() else 99 for _, text in answers)]


def talk(
    *scripts: list[Turn], max_new_tokens: int = 50, max_turns: int = 4
) -> tuple[list[Conversation], list[list[int]]]:
    conversations = [Conversation([5, number]) for number in range(len(scripts))]
    left = [list(script) for script in scripts]
    asked: list[list[int]] = []

    def write(places: Sequence[int]) -> list[Turn]:
        asked.append(list(places))
        return [left[place].pop(0) for place in places]

    tools = ToolUse(Toolbox([make_tool(calculator, is_quick=True)]), Format(), max_turns)
    converse(conversations, tools, max_new_tokens=max_new_tokens, write=write)
    return conversations, asked


def test_turns_and_answers_stand_one_behind_the_other_and_are_told_apart() -> None:
    calling = Turn([CALL, 20, 30, END], has_ended=True, logprobs=[-1.0, -2.0, -3.0, -4.0])
    answering = Turn([4, END], has_ended=True, logprobs=[-5.0, -6.0])
    (first, second), asked = talk([calling, answering], [answering])
    assert asked == [[0, 1], [0]]
    assert first.token_ids == [CALL, 20, 30, END, ANSWER, 40, 60, 4, END]
    assert first.own == [True] * 4 + [False] * 3 + [True] * 2
    assert first.logprobs == [-1.0, -2.0, -3.0, -4.0, 0.0, 0.0, 0.0, -5.0, -6.0]
    assert [(turn.begin, turn.end, len(turn.calls)) for turn in first.turns] == [
        (0, 4, 2),
        (7, 9, 0),
    ]
    assert [record.answer for record in first.calls] == ["40", "60"]
    assert (first.has_ended, first.has_open_calls, first.num_own) == (True, False, 6)
    assert (second.token_ids, second.own, second.calls) == ([4, END], [True, True], [])


def test_a_call_that_the_length_cut_is_no_call() -> None:
    ((cut,), asked) = talk([Turn([CALL, 20, 30], has_ended=False)])
    assert (len(asked), cut.calls, cut.has_ended, cut.has_open_calls) == (1, [], False, False)


def test_the_last_turn_that_may_be_written_has_its_calls_left_open() -> None:
    calling = Turn([CALL, 20, END], has_ended=True)
    ((row,), asked) = talk([calling] * 9, max_turns=3)
    assert len(asked) == 3
    assert [len(turn.calls) for turn in row.turns] == [1, 1, 0]
    assert row.has_open_calls
    assert row.has_ended


def test_an_answer_that_leaves_no_room_ends_the_row_as_cut() -> None:
    calling = Turn([CALL, 20, END], has_ended=True)
    ((row,), asked) = talk([calling] * 3, max_new_tokens=5)
    assert len(asked) == 1
    assert row.token_ids == [CALL, 20, END]
    assert (row.has_ended, row.has_open_calls, len(row.calls)) == (False, True, 1)
    ((row,), asked) = talk([calling, Turn([4], has_ended=False)], max_new_tokens=6)
    assert row.token_ids == [CALL, 20, END, ANSWER, 40, 4]
    assert not row.has_ended


def test_more_calls_than_are_answered_are_told_so() -> None:
    many = Turn([CALL, *range(10, 22), END], has_ended=True)
    ((row,), _) = talk([many, Turn([4, END], has_ended=True)])
    errors = [record.error for record in row.calls]
    assert errors == [None] * MAX_CALLS + ["too many"] * (12 - MAX_CALLS)
    assert row.token_ids[-3:] == [99, 4, END]


def test_without_log_probabilities_there_are_none() -> None:
    ((row,), _) = talk([Turn([CALL, 20, END], has_ended=True), Turn([4, END], has_ended=True)])
    assert row.logprobs is None
