"""Rules: what a prompt shows decides the answer, more of it decides it better, nothing leaks."""

from itertools import product

from eval.tasks import load
from eval.tasks.rules import Rules, _kinds, _rules  # pyright: ignore[reportPrivateUsage]

TASK = Rules()
HELD_OUT = load("rules(held_out=true)")
RULES = [*_rules(held_out=False), *_rules(held_out=True)]


def lines(text: str) -> list[tuple[str, str]]:
    pairs = (line.partition(": ") for line in text.split("\n"))
    return [(thing, colour) for thing, _, colour in pairs]


def fitting(shown: list[tuple[str, str]]) -> list[int]:
    """Which of the rules give the things these colours."""
    return [
        place
        for place, rule in enumerate(RULES)
        if all(rule.colour(thing) == colour for thing, colour in shown)
    ]


def test_every_document_follows_a_rule_that_is_not_held_out():
    lengths: set[int] = set()
    for text in TASK.documents(0):
        shown = lines(text)
        lengths.add(len(shown))
        assert len({thing for thing, _ in shown}) == len(shown)
        assert set(fitting(shown)) & set(range(19)), text
        assert len(shown) < 8 or set(fitting(shown)) <= set(range(19)), text
    assert lengths == set(range(1, 18))


def test_no_test_pair_stands_under_its_rule_in_any_training_text():
    tested = {tuple(each.id.split(" after ")[0].split(": ")) for each in TASK.examples("test")}
    assert len(tested) == 19 * 4
    shown: set[tuple[str, str]] = set()
    for text in TASK.documents(0):
        pairs = lines(text)
        fits = fitting(pairs)
        if len(fits) == 1:
            shown |= {(str(RULES[fits[0]]), thing) for thing, _ in pairs}
    for example in TASK.demonstrations():
        rule, _, thing = example.id.split(" after ")[0].partition(": ")
        shown.add((rule, thing))
    assert len(shown) > 300
    assert not shown & tested


def test_more_examples_leave_fewer_rules():
    items = TASK.test_items(300)
    left: list[float] = []
    for number in (0, 1, 2, 4, 16):
        shown = [[(s.document[:-1], s.reference) for s in item.siblings[:number]] for item in items]
        left.append(sum(len(fitting(pairs)) for pairs in shown) / len(items))
    assert left[0] == 24
    assert 6 < left[1] < 10
    assert left[1] > 1.7 * left[2] > 2 * left[3]
    assert left[4] < 1.1


def test_siblings_and_question_follow_one_rule_and_never_show_the_thing_asked_for():
    for task, rules in ((TASK, range(19)), (HELD_OUT, range(19, 24))):
        items = task.test_items(1_200)
        assert len({item.id for item in items}) == 1_200
        for item in items[:300]:
            thing = item.document[:-1]
            shown = [(each.document[:-1], each.reference) for each in item.siblings]
            assert len(shown) == 16
            assert thing not in dict(shown)
            assert set(fitting([*shown, (thing, item.reference)])) & set(rules)


def test_every_property_has_as_many_things_of_each_kind_and_no_two_agree():
    for kinds in _kinds():
        assert sorted(list(kinds.values()).count(kind) for kind in range(3)) == [8, 8, 8]
    for one, other in product(_kinds(), repeat=2):
        if one is not other:
            assert len({(one[thing], other[thing]) for thing in one}) > 5


def test_exactly_one_colour_counts():
    assert TASK.verify(" red", "red").score == 1.0
    assert TASK.verify("It is Red.", "red").score == 1.0
    assert TASK.verify("red or blue", "red").score == 0.0
    assert TASK.verify("pink", "red").score == 0.0
    assert TASK.verify("red", "pink").score is None
