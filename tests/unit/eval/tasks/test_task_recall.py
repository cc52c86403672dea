"""Recall: distances are what they are called, and no training text states a test item's word."""

import re

import pytest

from eval.tasks.recall import Recall

STATED = re.compile(r"\b([A-Z][a-z]+)(?: is)? ([a-z]+)[.,]")


def tokens(text: str) -> list[str]:
    """Words and punctuation marks."""
    return re.findall(r"\w+|[^\w\s]", text)


@pytest.mark.parametrize("task", [Recall(), Recall(max_distance=512, rivals=3), Recall(8, 0)])
def test_a_passage_states_the_word_so_many_tokens_before_the_question(task):
    groups = set()
    for example in task.examples("test"):
        name, word, distance = example.id.split()
        assert distance == example.group
        passage = example.document.removesuffix(f"The code word of {name} is")
        fact = f"The code word of {name} is {word}."
        assert passage.count(fact) == 1
        assert len(tokens(passage.split(fact)[1])) == int(example.group)
        assert example.prompt.startswith(passage)
        assert dict(STATED.findall(passage))[name] == example.reference == word
        others = [other for other in STATED.findall(passage) if other[0] != name]
        assert len(others) == min(task.rivals, int(example.group) // 8 + 1)
        assert len({*others, (name, word)}) == len(others) + 1
        groups.add(int(example.group))
        assert task.verify(example.response, word).score == 1.0
    assert sorted(groups) == list(task.distances)


def test_no_training_text_states_the_word_of_a_test_item():
    task = Recall()
    tested = {tuple(example.id.split()[:2]) for example in task.examples("test")}
    texts = [text for seed in range(3) for text in task.documents(seed)]
    texts += [f"{each.prompt} {each.response}" for each in task.demonstrations()]
    stated = set(STATED.findall("\n".join(texts)))
    assert len(stated) > 1_500
    assert not tested & stated


def test_documents_for_a_long_distance_state_their_fact_again_as_far_off_and_nearer():
    task = Recall(max_distance=512)
    gaps = []
    for text in task.documents(0):
        facts = re.findall(r"The code word of \w+ is \w+\.", text)
        assert text.startswith(facts[0])
        assert text.endswith(facts[0])
        if len(facts) == 2:
            gaps.append(len(tokens(text)) - 2 * len(tokens(facts[0])))
    assert (min(gaps), max(gaps)) == (0, 512)
    assert 0.3 < sum(gap > 64 for gap in gaps) / len(gaps) < 0.6


def test_the_sentences_between_have_one_length_and_no_code_words():
    text = " ".join(example.prompt for example in Recall(rivals=0).examples("validation"))
    fillers = {each for each in re.findall(r"[^.?]+[.?]", text) if "code word" not in each}
    assert len(fillers) > 15
    for sentence in fillers:
        assert len(tokens(sentence)) == 8, sentence
        assert Recall().verify(sentence, "moon").answer is None


def test_only_the_right_code_word_and_no_other_is_right():
    verify = Recall().verify
    for response in ("moon", "The code word of Anna is moon.", "It is MOON!", "Moon. Not star."):
        assert verify(response, "moon").score == 1.0, response
    for response in ("star", "moons", "moon or star", "not moon", "The code word of Anna is", "."):
        assert verify(response, "moon").score == 0.0, response
    assert verify("moon", "Anna").score is None


@pytest.mark.parametrize("settings", [{"max_distance": 50}, {"rivals": -1}, {"rivals": 4}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Recall(**settings)
