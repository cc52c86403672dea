"""Rules: the examples of a prompt tell what is asked, more of them better, and nothing leaks."""

from collections import Counter

import pytest

from eval.tasks import load
from eval.tasks.rules import HELD_OUT, RELATIONS, THINGS, WORDS, Pair, Rules

TASK = Rules()
RELATION_OF = {word: relation for relation, words in RELATIONS.items() for word in words}


def lines(text: str) -> list[tuple[str, str]]:
    pairs = (line.partition(" ") for line in text.split("\n"))
    return [(thing, word) for thing, _, word in pairs]


def shown(example, number: int) -> list[tuple[str, str]]:
    return [(each.document, each.reference) for each in example.siblings[:number]]


def commonest(pairs: list[tuple[str, str]]) -> list[str]:
    """The relations that most of the lines state."""
    counts = Counter(RELATION_OF[word] for _, word in pairs)
    most = max(counts.values())
    return [relation for relation, count in counts.items() if count == most]


def test_every_line_of_a_document_states_what_the_thing_has():
    assert len(set(WORDS)) == 32
    assert not set(WORDS) & set(THINGS)
    lengths: set[int] = set()
    for text in TASK.documents(0):
        pairs = lines(text)
        lengths.add(len(pairs))
        assert len({thing for thing, _ in pairs}) == len(pairs)
        assert all(Pair(RELATION_OF[word], thing).word == word for thing, word in pairs), text
    assert lengths == {1, 2, 3, 4, *range(9, 18)}


def test_lists_are_about_all_relations_but_those_held_out_and_show_all_things_in_each():
    """Of long lists that nobody can take for one about another relation."""
    things: dict[str, set[str]] = {relation: set() for relation in RELATIONS}
    about: Counter[str] = Counter()
    for text in TASK.documents(0):
        pairs = lines(text)
        counts = Counter(RELATION_OF[word] for _, word in pairs)
        relation, count = counts.most_common(1)[0]
        if count >= 7:
            about[relation] += 1
            things[relation] |= {thing for thing, _ in pairs}
    assert sum(about.values()) > 500
    assert set(about) == set(RELATIONS) - set(HELD_OUT)
    assert all(things[relation] == set(THINGS) for relation in about)


def test_no_list_of_a_test_item_stands_in_a_text():
    texts = {frozenset(lines(text)) for seed in (0, 1) for text in TASK.documents(seed)}
    for item in TASK.test_items(1_200):
        asked = (item.document, item.reference)
        assert not any(frozenset([*shown(item, number), asked]) in texts for number in (4, 8, 16))


@pytest.mark.parametrize("name", ["rules", "rules(held_out=true)"])
def test_examples_of_an_item_are_about_its_relation_and_more_of_them_tell_it_better(name):
    items = load(name).test_items(1_200)
    assert len({item.id for item in items}) == 1_200
    told = dict.fromkeys((1, 2, 4, 8, 16), 0.0)
    for item in items:
        relation = RELATION_OF[item.reference]
        assert (relation in HELD_OUT) == ("held_out" in name)
        assert item.document not in dict(shown(item, 16))
        for number in told:
            best = commonest(shown(item, number))
            told[number] += (relation in best) / len(best) / len(items)
    assert 0.4 < told[1] < 0.7
    assert told[1] + 0.15 < told[4] < told[8] < told[16]
    assert told[16] > 0.95


def test_test_pairs_are_asked_evenly():
    items = TASK.test_items(1_200)
    counts = Counter(item.document + item.reference for item in items)
    assert len(counts) == 6 * len(THINGS)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_exactly_one_word_counts():
    assert TASK.verify(" red", "red").score == 1.0
    assert TASK.verify("It is Red.", "red").score == 1.0
    assert TASK.verify("red or blue", "red").score == 0.0
    assert TASK.verify("pink", "red").score == 0.0
    assert TASK.verify("red", "pink").score is None


def test_lists_that_stray_too_often_are_refused():
    with pytest.raises(ValueError, match=r"strays is 0 to 0\.75, not 0\.9"):
        load("rules(strays=0.9)")
