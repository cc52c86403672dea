"""The logic task: values against Python, syllogisms against every possible world, the verifier."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import product

import pytest

from eval.task import Example, Split
from eval.tasks.logic import NOUNS, Logic
from eval.tasks.logic_expressions import Expression

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TASK = Logic()


def examples(group: str) -> list[Example]:
    found = [each for split in SPLITS for each in TASK.examples(split) if group in each.group]
    assert len(found) > 300
    return found


def python_value(text: str) -> str:
    return str(eval(text.replace("true", "True").replace("false", "False"))).lower()  # noqa: S307


# Every choice of which kinds of things there are: each is or is not an a, a b and a c.
KINDS = list(product((False, True), repeat=3))
WORLDS = [
    [kind for kind, is_there in zip(KINDS, there, strict=True) if is_there]
    for there in product((False, True), repeat=len(KINDS))
]


@cache
def conclusion(premises: tuple[tuple[str, int, int], ...], one: int, other: int) -> str:
    """Whether one is the other, from what is so in each world in which the premises are."""
    said = set()
    for world in WORLDS:
        pairs = [(how, [kind[b] for kind in world if kind[a]]) for how, a, b in premises]
        tests = {"all": all, "no": lambda found: not any(found), "some": any}
        if all(tests[how](found) for how, found in pairs):
            said |= {kind[other] for kind in world if kind[one]}
    return "unknown" if len(said) == 2 else {True: "yes", False: "no"}[said.pop()]


def test_every_value_and_every_step_is_what_python_says():
    for example in examples("operators"):
        text = example.document.removeprefix("The value of ").removesuffix(" is")
        assert text in example.prompt
        assert python_value(text) == example.reference
        steps = example.response.split(". ")[:-1]
        assert len(steps) == int(example.group[0])
        for step in steps:
            left, right = step.split(" = ")
            assert python_value(left) == right, example
        assert steps[-1].endswith(f"= {example.reference}")


def test_every_syllogism_concludes_what_holds_in_all_worlds():
    found = examples("syllogism")
    for example in found:
        ((a, c),) = re.findall(r"[Ii]s a (\w+) a (\w+)\?", example.prompt)
        premises = re.findall(r"(every|each|no|some) (\w{3}) is a (\w{3})", example.prompt.lower())
        (b,) = {noun for _, *two in premises for noun in two} - {a, c}
        place = {a: 0, b: 1, c: 2}
        quantifiers = {"every": "all", "each": "all", "no": "no", "some": "some"}
        facts = [(quantifiers[how], place[x], place[y]) for how, x, y in premises]
        assert len(facts) == 2
        assert conclusion(tuple(facts), 0, 2) == example.reference, example
    assert {noun for noun in NOUNS for example in found if noun in example.prompt} == set(NOUNS)


def test_no_training_text_holds_a_test_expression_in_any_order_or_place():
    test_ids = {each.id for each in TASK.examples("test") if "operators" in each.group}
    texts = [each.prompt for each in TASK.examples("train")]
    texts += [line for text in TASK.documents(0) for line in text.split("\n")]
    seen: set[str] = set()
    for text in dict.fromkeys(texts):
        for match in re.findall(
            r"(?:value of|false:|Evaluate|Work out) ([a-z() ]+?)(?: is|[.?]|$)", text.strip()
        ):
            seen |= {part.canonical for part in parts_of(parsed(match))}
    assert len(seen) > 100
    assert not seen & test_ids


def parsed(text: str) -> Expression:
    """Read an expression by letting Python build it."""
    names = {"true": Node(Expression("true")), "false": Node(Expression("false"))}
    code = text.replace("not ", "~").replace(" and ", "&").replace(" or ", "|")
    return eval(code, {}, names).expression  # noqa: S307


class Node:
    """An expression that Python's operators build up."""

    def __init__(self, expression: Expression) -> None:
        self.expression = expression

    def __invert__(self) -> "Node":
        return Node(Expression("not", (self.expression,)))

    def __and__(self, other: "Node") -> "Node":
        return Node(Expression("and", (self.expression, other.expression)))

    def __or__(self, other: "Node") -> "Node":
        return Node(Expression("or", (self.expression, other.expression)))


def parts_of(expression: Expression) -> Iterator[Expression]:
    yield expression
    for part in expression.parts:
        yield from parts_of(part)


def test_no_two_training_nouns_meet_a_third_one_as_in_a_test():
    def threes(split: Split) -> set[frozenset[str]]:
        prompts = [each.prompt for each in TASK.examples(split) if each.group == "syllogism"]
        return {frozenset(noun for noun in NOUNS if noun in prompt) for prompt in prompts}

    assert len(threes("train")) > 100
    assert not threes("train") & threes("test")


@pytest.mark.parametrize("max_operators", [3, 4])
def test_test_answers_are_balanced(max_operators):
    items = list(Logic(max_operators).examples("test"))
    counts = Counter(example.reference for example in items)
    assert counts["true"] == counts["false"] > 50
    assert counts["yes"] == counts["no"] == counts["unknown"] > 50
    assert any(f"{max_operators} operators" == example.group for example in items)


def test_exactly_one_answer_counts():
    verify = TASK.verify
    assert verify("not true = false. The answer is False.", "false").score == 1.0
    assert verify("true and false = false", "false").score == 1.0
    assert verify("The answer is not true.", "true").score == 0.0
    assert verify("The answer is true or false.", "true").score == 0.0
    assert verify("The answer is yes. The answer is no.", "yes").score == 0.0
    assert verify("No bip is a dak. The answer is unknown.", "unknown").score == 1.0
    assert verify("A bip is a dak", "yes").score == 0.0
    assert verify("yes", "true").score == 0.0
    assert verify("yes", "perhaps").score is None


def test_the_number_of_operators_is_checked():
    with pytest.raises(ValueError, match="max_operators is 3 or 4"):
        Logic(9)
