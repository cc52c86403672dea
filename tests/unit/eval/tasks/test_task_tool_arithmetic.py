"""Arithmetic with a calculator: what takes one, who calls it, and no test item is calculated."""

import re
from functools import cache

from eval.task import Example, Split
from eval.tasks.tool_arithmetic import CALCULATOR, ToolArithmetic
from eval.tools.calculator import calculator
from eval.tools.tool import make_tool

TASK = ToolArithmetic()
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@cache
def demonstrations() -> tuple[Example, ...]:
    return tuple(TASK.demonstrations())


def calculated(text: str) -> set[str]:
    """The families of all problems that a text writes."""
    found = re.findall(r"(?<!\d)(\d+) ([-+*]) (\d+)", text)
    pairs = [(sorted((int(left), int(right))), sign) for left, sign, right in found]
    return {f"{low} {sign} {high}" for (low, high), sign in pairs}


def test_no_training_text_calculates_a_test_item_or_its_twin():
    texts = [text for seed in (0, 1) for text in TASK.documents(seed)]
    for example in demonstrations():
        texts += [
            example.prompt,
            *(str(step.arguments["expression"]) for step in example.tool_steps),
        ]
    trained = calculated("\n".join(texts))
    assert len(trained) > 10_000
    assert not trained & {example.id for example in TASK.examples("test")}


def test_every_result_in_a_document_is_right():
    lines = [line for text in TASK.documents(0) for line in text.split("\n")]
    for line in lines:
        problem, result = re.search(r"(\d+ [-+*] \d+).*?(\d+)\.?$", line).groups()
        assert calculator(problem) == result
        if "calculator" in line:
            assert f' calculator(expression="{problem}") gives {result}' in line
            assert line.count(problem) in (2, 3)
        else:
            assert line == f"{problem} = {result}"
    logged = [line for line in lines if "calculator" in line]
    assert 0.6 < len(logged) / len(lines) < 0.9


def test_half_of_the_items_need_a_tool_and_say_so():
    for split in SPLITS:
        examples = list(TASK.examples(split))
        assert [example.needs_tool for example in examples] == [True, False] * (len(examples) // 2)
        assert [prompt.needs_tool for prompt in TASK.rl_prompts("train")][:2] == [True, False]
    for example in TASK.examples("test"):
        numbers = [int(number) for number in re.findall(r"\d+", example.document)]
        is_done_by_looking = 1 in numbers or 0 in numbers
        assert example.needs_tool is not is_done_by_looking, example


def test_most_writers_call_the_calculator_where_they_need_it_and_half_where_they_do_not():
    for needs_tool, expected in ((True, 0.9), (False, 0.5)):
        some = [example for example in demonstrations() if example.needs_tool is needs_tool]
        calling = [example for example in some if example.tool_steps]
        assert abs(len(calling) / len(some) - expected) < 0.05
    for example in demonstrations():
        for step in example.tool_steps:
            assert step.answer == calculator(**step.arguments) == example.reference
            assert str(step.arguments["expression"]) in example.prompt


def test_the_tool_of_the_demonstrations_is_the_one_that_a_recipe_names():
    assert TASK.tools == (CALCULATOR,)
    assert make_tool(calculator).schema == CALCULATOR


def test_without_tools_the_same_questions_are_answered_in_the_head():
    alone = ToolArithmetic(tools=False)
    assert alone.tools == ()
    assert not any(example.tool_steps for example in alone.demonstrations())
    assert alone.test_items(500) == TASK.test_items(500)


def test_the_answer_is_graded_and_not_the_call():
    right = "The answer is 8211."
    assert TASK.verify(right, "8211").score == 1.0
    assert TASK.verify('calculator(expression="483 * 17")', "8211").score == 0.0
    assert TASK.verify("8211", "8211").score == 1.0
