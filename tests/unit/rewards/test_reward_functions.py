"""How a user's reward function is called, what it may give back, and how its errors read."""

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.user_code import load_object
from pipeline.errors import PosttrainError
from pipeline.rewards.composition import RewardComposition
from pipeline.rewards.responses import ORIGIN, Responses
from pipeline.rewards.terms import function_term
from tests.unit.rewards.responses import given_by, responses


def test_a_function_is_called_as_trl_calls_it() -> None:
    seen: dict[str, Any] = {}

    def reward(
        prompts: list[Any], completions: list[Any], completion_ids: list[Any], **rest: Any
    ) -> list[float | None]:
        seen.update(rest, prompts=prompts, completions=completions, completion_ids=completion_ids)
        return [0.5, None]

    chat = [{"role": "user", "content": "2 + 2?"}]
    answer = [{"role": "assistant", "content": "4"}]
    rows = Responses(
        [chat, chat], [answer, answer], [[1], [1]], [[5, 2], [6]], [True, False], {"level": [1, 2]}
    )
    state: Any = object()
    raw = RewardComposition([function_term(reward, "own")]).raw(rows, state)
    assert raw.tolist() == pytest.approx(np.array([[0.5], [math.nan]]), nan_ok=True)
    assert seen["prompts"] == [chat, chat]
    assert seen["completions"] == [answer, answer]
    assert seen["completion_ids"] == [[5, 2], [6]]
    assert seen["level"] == [1, 2]
    assert seen["trainer_state"] is state


def test_a_function_is_handed_the_datas_own_source_and_terms_go_by_the_prompts() -> None:
    seen: dict[str, Any] = {}

    def grade(completions: list[Any], **rest: Any) -> list[float]:
        seen.update(rest)
        return [1.0] * len(completions)

    blocks = ["exams.jsonl", "exams.jsonl", "arithmetic"]
    rows = responses("a", "b", "c", **{ORIGIN: blocks, "source": ["textbook", "exam", None]})
    on_exams = function_term(grade, "own", on=frozenset({"exams.jsonl"}))
    raw = RewardComposition([on_exams]).raw(rows)
    assert raw[:, 0].tolist() == pytest.approx([1.0, 1.0, math.nan], nan_ok=True)
    assert seen["source"] == ["textbook", "exam"]
    assert ORIGIN not in seen
    RewardComposition([function_term(grade, "own")]).raw(rows)
    assert seen["source"] == ["textbook", "exam", "arithmetic"]


def test_what_a_function_does_to_its_arguments_changes_nothing() -> None:
    def reward(completions: list[Any], completion_ids: list[Any], **rest: Any) -> list[int]:
        for ids in completion_ids:
            ids.clear()
        rest["nested"][0].append(3)
        completions.reverse()
        return [0, 0]

    rows = responses("a", "bb", nested=[[1], [2]])
    RewardComposition([function_term(reward, "own")]).raw(rows)
    assert rows == responses("a", "bb", nested=[[1], [2]])


def test_an_async_function_keeps_its_event_loop() -> None:
    loops: list[Any] = []

    class Judge:
        async def __call__(self, completions: list[str], **rest: Any) -> list[int]:
            loops.append(asyncio.get_running_loop())

            async def judged(text: str) -> int:
                await asyncio.sleep(0)
                return len(text)

            return list(await asyncio.gather(*(judged(text) for text in completions)))

    term = function_term(Judge(), "judge")
    assert given_by(term, responses("a", "bb")) == [1, 2]
    assert given_by(term, responses("ccc")) == [3]
    assert loops[0] is loops[1]


@pytest.mark.parametrize(
    "returned",
    [
        [1, None],
        (True, None),
        [torch.tensor(1.0, requires_grad=True), None],
        [np.float32(1), None],
        [np.bool_(True), None],
    ],
)
def test_every_kind_of_number_is_one(returned: Any) -> None:
    assert given_by(function_term(lambda **rest: returned, "own"), responses("a", "b")) == [1, None]


@pytest.mark.parametrize("returned", [torch.tensor([1.0, 2.0]), np.array([1, 2])])
def test_an_array_of_numbers_is_a_list_of_them(returned: Any) -> None:
    assert given_by(function_term(lambda **rest: returned, "own"), responses("a", "b")) == [1, 2]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ([1.0], "returned 1 numbers for 2 responses; one each, None where it does not apply"),
        (1.5, "returned one float for 2 responses; return a list with one number a response"),
        (None, "returned one NoneType for 2 responses; "),
        ({"a": 1, "b": 2}, "returned one dict for 2 responses; "),
        ("ab", "returned one str for 2 responses; "),
        ([1, "x"], "returned a value of type str for response 1 (`bb`); return a number, None "),
        ([1, math.inf], "returned inf for response 1 (`bb`); return a number, None "),
        ([-math.inf, 1], "returned -inf for response 0 (`a`); "),
        ([math.nan, math.nan], "returned nan for response 0 (`a`); "),
        ([1, 10**400], "returned inf for response 1 (`bb`); "),
        (torch.ones(2, 2), "returned a value of type list for response 0 (`a`); "),
    ],
)
def test_what_is_no_number_a_response_is_one_line(returned: Any, said: str) -> None:
    term = function_term(lambda **rest: returned, "own")
    with pytest.raises(PosttrainError) as caught:
        given_by(term, responses("a", "bb"))
    assert str(caught.value).startswith(f"reward `own`: {said}")
    assert caught.value.exit_code == 2


def test_a_long_response_is_cut_in_an_error() -> None:
    with pytest.raises(PosttrainError, match=r"response 0 \(`x{60}\.\.\.`\)"):
        given_by(function_term(lambda **rest: [math.nan], "own"), responses("x" * 99))


@pytest.mark.parametrize("how", ["def", "async def"])
def test_what_a_function_raises_names_its_own_line(tmp_path: Path, how: str) -> None:
    (tmp_path / "my_rewards.py").write_text(
        f"import json\n\n{how} strict(completions, **rest):\n"
        "    found = [read(text) for text in completions]\n    return found\n\n"
        "def read(text):\n    return json.loads(text)['score']\n"
    )
    term = function_term(load_object("my_rewards:strict", tmp_path), "strict")
    assert given_by(term, responses('{"score": 2}')) == [2]
    for text, said in (("oops", "JSONDecodeError: Expecting value"), ("{}", "KeyError: 'score'")):
        with pytest.raises(PosttrainError) as caught:
            given_by(term, responses(text))
        assert str(caught.value).startswith(f"reward `strict`: my_rewards.py:8: {said}")
        assert "\n" not in str(caught.value)


def test_a_function_that_leaves_is_an_error_and_ctrl_c_is_not() -> None:
    def leaves(**rest: Any) -> None:
        raise SystemExit(0)

    def interrupted(**rest: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(PosttrainError, match=r"test_reward_functions.py:\d+: SystemExit: 0"):
        given_by(function_term(leaves, "own"), responses("a"))
    with pytest.raises(KeyboardInterrupt):
        given_by(function_term(interrupted, "own"), responses("a"))


class Apart(BaseException):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("raised", [Apart(), asyncio.CancelledError(), GeneratorExit()])
@pytest.mark.parametrize("how", ["plain", "awaited"])
def test_whatever_else_a_function_raises_is_one_line(raised: BaseException, how: str) -> None:
    def plain(**rest: Any) -> list[int]:
        raise raised

    async def awaited(**rest: Any) -> list[int]:
        raise raised

    with pytest.raises(PosttrainError, match=rf"^reward `own`: .*{type(raised).__name__}:"):
        given_by(function_term(plain if how == "plain" else awaited, "own"), responses("a"))


def test_a_function_that_is_awaited_for_long_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def late(**rest: Any) -> list[int]:
        await asyncio.sleep(0.2)
        return [1]

    monkeypatch.setattr("pipeline.rewards.composition._LONG_S", 0.05)
    assert given_by(function_term(late, "own"), responses("a")) == [1]
    assert "reward `own`: awaited for 0 s already" in caplog.text


def test_a_function_that_wants_a_column_that_is_missing_is_an_error() -> None:
    def reward(completions: list[str], level: list[int], **rest: Any) -> list[int]:
        return level

    assert given_by(function_term(reward, "own"), responses("a", level=[3])) == [3]
    with pytest.raises(PosttrainError, match=r"^reward `own`: TypeError: .*'level'"):
        given_by(function_term(reward, "own"), responses("a"))


def test_what_cannot_be_called_so_is_refused_before_anything_is_sampled() -> None:
    def narrow(completions: list[str]) -> list[int]:
        return [0 for _ in completions]

    with pytest.raises(ValueError, match=r"`own`: .*'prompts'.* last parameter `\*\*rest`"):
        function_term(narrow, "own")
    with pytest.raises(ValueError, match=r"`own`: 5 is not a callable object"):
        function_term(5, "own")  # pyright: ignore[reportArgumentType]


def test_a_column_with_a_name_of_the_convention_is_refused() -> None:
    with pytest.raises(PosttrainError, match="a column `prompts`, a name that is taken"):
        given_by(function_term(lambda **rest: [0], "own"), responses("a", prompts=["p"]))


def test_what_a_function_logs_is_kept_beside_its_numbers() -> None:
    def reward(completions: list[str], log_extra: Any, log_metric: Any, **rest: Any) -> list[int]:
        log_extra("upper", [text.upper() for text in completions])
        log_metric("longest", torch.tensor(max(map(len, completions))))
        return [0 for _ in completions]

    facts = frozenset({"facts"})
    terms = [function_term(reward, "a", on=facts), function_term(reward, "b")]
    rows = responses("x", "yy", "z", source=["facts", "stories", "facts"])
    composition = RewardComposition(terms)
    raw = composition.raw(rows)
    assert rows.logged.columns == {"a/upper": ["X", None, "Z"], "b/upper": ["X", "YY", "Z"]}
    found = composition.combine(raw, torch.tensor([True] * 3), [rows.logged])
    assert found.metrics["rewards/a/longest"] == 1
    assert found.metrics["rewards/b/longest"] == 2


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (lambda log_extra, **_: log_extra("c", [1]), "logged 1 values of `c` for 2 responses"),
        (lambda log_metric, **_: log_metric("m", "x"), "logged a value of type str as `m`"),
        (lambda log_metric, **_: log_metric("m", math.nan), "logged nan as `m`"),
        (lambda log_metric, **_: log_metric("std", 1.0), "logged a metric `std`, a name that is"),
    ],
)
def test_what_cannot_be_logged_is_one_line(log: Any, said: str) -> None:
    def reward(**rest: Any) -> list[int]:
        log(**rest)
        return [0, 0]

    with pytest.raises(PosttrainError) as caught:
        given_by(function_term(reward, "own"), responses("a", "b"))
    assert str(caught.value).startswith(f"reward `own`: {said}")


def together(number: int) -> list[Any]:
    """Async functions that return only when all of them have begun."""
    begun: list[int] = []

    def one(place: int) -> Any:
        async def reward(completions: list[str], **rest: Any) -> list[float | None]:
            begun.append(place)
            while len(begun) < number:
                await asyncio.sleep(0)
            return [None if place == 0 else float(place) for _ in completions]

        return reward

    return [one(place) for place in range(number)]


def test_async_functions_are_awaited_together_beside_the_others() -> None:
    """One after the other, the first would never return."""
    functions = together(3)
    has_begun: list[Any] = []

    def plain(completions: list[str], **rest: Any) -> list[int]:
        has_begun.append(True)
        return [7 for _ in completions]

    async def waits(completions: list[str], **rest: Any) -> list[int]:
        while not has_begun:  # it began before the plain one, which is further back
            await asyncio.sleep(0)
        return [9 for _ in completions]

    terms = [function_term(each, f"f{place}") for place, each in enumerate(functions)]
    terms += [function_term(waits, "waits"), function_term(plain, "plain")]
    raw = RewardComposition(terms).raw(responses("a", "bb"))
    assert raw.isnan()[:, 0].all()
    assert raw[:, 1:].tolist() == [[1, 2, 9, 7], [1, 2, 9, 7]]


def test_async_functions_are_awaited_where_a_loop_runs_already() -> None:
    async def reward(completions: list[str], log_extra: Any, **rest: Any) -> list[int]:
        await asyncio.sleep(0)
        log_extra("upper", [text.upper() for text in completions])
        return [len(text) for text in completions]

    async def notebook() -> Any:
        rows = responses("a", "bb")
        raw = RewardComposition([function_term(reward, "own")]).raw(rows)
        return raw.tolist(), rows.logged.columns

    assert asyncio.run(notebook()) == ([[1], [2]], {"own/upper": ["A", "BB"]})


@pytest.mark.parametrize("raised", [KeyError("k"), SystemExit(2), KeyboardInterrupt()])
def test_the_first_error_of_an_async_function_ends_the_others(raised: BaseException) -> None:
    cancelled: list[bool] = []
    waiting: list[bool] = []

    async def fails(**rest: Any) -> None:
        while not waiting:
            await asyncio.sleep(0)
        raise raised

    async def waits(**rest: Any) -> None:
        try:
            waiting.append(True)
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    composition = RewardComposition([function_term(waits, "waits"), function_term(fails, "fails")])
    is_left = isinstance(raised, KeyboardInterrupt)
    expected = KeyboardInterrupt if is_left else PosttrainError
    with pytest.raises(expected) as caught:
        composition.raw(responses("a"))
    if not is_left:
        assert str(caught.value).startswith("reward `fails`: test_reward_functions.py:")
        assert caught.value.__cause__ is raised

    assert given_by(function_term(settled(cancelled), "counts"), responses("a")) == [1]


def settled(cancelled: list[bool]) -> Any:
    """An async function that says how many others were cancelled, some turns of the loop later."""

    async def counts(**rest: Any) -> list[int]:
        for _ in range(100):
            await asyncio.sleep(0)
        return [len(cancelled)]

    return counts


def test_an_error_of_a_plain_function_ends_those_that_are_awaited() -> None:
    cancelled: list[bool] = []
    has_begun = threading.Event()

    async def waits(**rest: Any) -> None:
        try:
            has_begun.set()
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    def fails(**rest: Any) -> None:
        has_begun.wait()
        raise KeyError("k")

    terms = [function_term(waits, "waits"), function_term(fails, "plain")]
    with pytest.raises(PosttrainError, match=r"reward `plain`: .*KeyError: 'k'"):
        RewardComposition(terms).raw(responses("a"))
    assert given_by(function_term(settled(cancelled), "counts"), responses("a")) == [1]
