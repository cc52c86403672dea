"""Stories: what the verifier takes for a plot that holds, and which ending is preferred."""

import re

import pytest

from eval.tasks.stories import Stories, ends_kindly

TASK = Stories()
REFERENCE = "Mia, dog, red ball"
GOOD = (
    "Mia had a dog and a red ball. One day she lost the red ball in the park. "
    "The dog helped to look for it. Then the dog found the red ball. {ending}"
)
KIND, UNKIND = "Mia was glad and hugged the dog.", "Mia was glad but shouted at the dog."


def fault(story: str) -> str:
    verdict = TASK.verify(story, REFERENCE)
    return "" if verdict.score == 1.0 else verdict.reason


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("dog found the red ball", "dog found the red kite", "kite in a story about ball"),
        ("dog found the red ball", "dog found the blue ball", "blue in a story about red"),
        ("Mia was glad", "Ben was glad", "ben in a story about mia"),
        ("Mia", "She", "no mia in the story"),
        ("and hugged the dog", "and hugged the cat", "cat in a story about dog"),
        ("she lost", "he lost", "Mia is not `he`"),
        ("look for it.", "look for it at the lake.", "in the park and at the lake"),
        ("lost the red ball", "saw the red ball", "the red ball is not lost"),
        ("Then the dog found the red ball. ", "", "neither found nor given up"),
        ("Then the dog found the red ball", "But nobody found the red ball", "does not follow"),
        ("was glad", "was sad", "the ending does not follow"),
        ("was glad and", "came and", "no ending"),
        (" Mia was glad and hugged the dog.", "", "no ending"),
        ("hugged the dog.", "hugged the dog", "no ending"),
        ("had a dog and a red ball", "found a dog and a red ball", "not just the red ball"),
        ("The dog helped to look for it.", "A ball.", "less than three words"),
        ("The dog helped to look for it.", "It was a red ball. " * 2, "a sentence is repeated"),
        ("The dog helped", "Then the dog found the ball. The dog helped", "not just the red ball"),
    ],
)
def test_a_plot_that_does_not_hold_is_seen(old, new, reason):
    story = GOOD.format(ending=KIND)
    assert fault(story) == ""
    assert old in story
    assert reason in fault(story.replace(old, new))


def test_a_thing_cannot_be_found_before_it_is_lost():
    first, second, third, fourth, last = re.findall(r"[^.]+\.", GOOD.format(ending=KIND))
    assert "before it is lost" in fault("".join((first, fourth, third, second, last)))


def test_other_words_for_the_same_plot_are_accepted():
    assert not fault(
        "There was a girl called Mia who had a dog. Her red ball was lost while she slept. "
        "Mia and the dog looked all night! They didn\u2019t find the red ball. "
        "She was very sad, and the dog comforted her."
    )


def test_a_story_that_cannot_be_read_out_of_the_reference_is_not_graded():
    for reference in ("", "Mia", "Mia, dog, red", "Mia, dog, , red ball", "Eva, dog, red ball"):
        assert TASK.verify(GOOD, reference).score is None
        assert TASK.gold_score(GOOD, reference) is None


def test_a_kind_ending_is_preferred_but_not_to_a_plot_that_holds():
    stories = [GOOD.format(ending=ending) for ending in (KIND, UNKIND)]
    incoherent = [story.replace("found the red ball", "found the red kite") for story in stories]
    scores = [TASK.gold_score(story, REFERENCE) for story in (*stories, *incoherent)]
    assert scores == [1.5, 1.0, 0.5, 0.0]
    assert not ends_kindly("")
    assert not ends_kindly("Mia hugged the dog. Mia was glad.")


def test_half_of_the_demonstrations_end_unkindly_and_all_plots_hold():
    """Bounds of the share: four standard deviations of 2400 draws."""
    shown = list(TASK.demonstrations())
    assert all(TASK.verify(each.response, each.reference).score == 1.0 for each in shown)
    share = sum(ends_kindly(each.response) for each in shown) / len(shown)
    assert 0.46 < share < 0.54
    assert all(ends_kindly(example.response) for example in TASK.examples("train"))


def test_every_document_tells_a_plot_that_holds_about_a_training_combination():
    tested = {example.id for example in TASK.examples("test")}
    told = [text for document in TASK.documents(0) for text in document.split("\n\n")]
    assert len(told) == len(list(TASK.examples("train")))
    for text in told:
        title, story = text.split("\n")
        [named] = re.findall(r"A story about (\w+), a (\w+) and a (\w+ \w+)", title)
        elements = ", ".join(named)
        assert TASK.verify(story, elements).score == 1.0, text
        assert elements not in tested
        assert not re.search(r"\ba [aeiou]|\b(\w+) \1\b|[{}]", text), text
