"""Plots: what the world allows, where a story breaks, and how much of it stands before that."""

import re

import pytest

from eval.tasks.plots import Plots

TASK = Plots(days=7)
CAST = "Mia, Ben, Leo; ball, kite; 2"
STORY = (
    "On Monday Mia came with a ball. Leo came to play. Ben came with a kite. "
    "On Tuesday Mia gave the ball to Leo. Ben went home. Leo lost the ball. "
    "In the end the ball was lost and Ben had the kite."
)


def test_a_plot_that_holds_gets_all():
    assert TASK.verify(STORY, CAST).score == 1.0
    assert set((scored(STORY) | {"kinds_of_deeds": 1.0}).values()) == {1.0}


def test_a_story_in_which_people_only_talk_tells_few_kinds_of_deeds():
    assert scored(STORY)["kinds_of_deeds"] == 5  # comes with, comes, gives, goes, loses
    talk = "On Tuesday Mia talked to Leo. Leo talked to Mia. Ben talked to Mia. "
    only_talk = re.sub(r"On Tuesday.*(?=In the end)", talk, STORY)
    assert scored(only_talk)["kinds_of_deeds"] == 3
    assert scored("Nothing. On Monday it rained.")["kinds_of_deeds"] == 0


@pytest.mark.parametrize(
    ("old", "new", "sentence", "reason", "kind"),
    [
        ("Leo came", "Ida came", 2, "Ida is not in this story", "people"),
        ("Leo came to play", "Mia came to play", 2, "Mia has come before", "people"),
        ("Leo came to play", "Leo came back", 2, "Leo is not away", "people"),
        ("Ben went home", "Ben came back", 5, "Ben is not away", "people"),
        ("Leo lost", "Ben lost", 6, "Ben is not there", "people"),
        ("ball to Leo", "ball to Mia", 4, "Mia alone", "people"),
        ("a ball", "a drum", 1, "the drum is not in this story", "things"),
        ("came with a kite", "came with a ball", 3, "the ball is there already", "things"),
        ("Mia gave the ball", "Mia gave the kite", 4, "Mia does not have the kite", "things"),
        ("Leo lost", "Leo found", 6, "the ball is not lost", "things"),
        ("ball was lost and", "kite was lost and", 7, "spoken of twice", "order"),
        ("ball was lost", "drum was lost", 7, "the drum is not in this story", "things"),
        ("the ball was lost", "Leo had the ball", 7, "the ball is elsewhere", "things"),
        (" and Ben had the kite", "", 7, "the kite is elsewhere", "things"),
        ("On Tuesday", "On Wednesday", 4, "Wednesday does not come next", "order"),
        ("On Tuesday ", "", 4, "no new day begins", "order"),
        ("Leo came to play. ", "", 3, "a new day after 2 sentences", "order"),
        ("Ben went home", "Mia gave the ball to Leo", 5, "said twice in one day", "order"),
        (" Leo lost the ball.", "", 6, "does not end on Tuesday", "order"),
        ("On Monday Mia", "Mia", 1, "no new day begins", "order"),
        ("went home", "went to bed", 5, "no sentence of this world", "words"),
        ("the kite.", "the kite", 7, "no ending of this world", "words"),
        ("the kite.", "the kite. Leo came back.", 8, "goes on after its end", "order"),
        (re.search("In the end.*", STORY)[0], "", 7, "the story has no end", "order"),
    ],
)
def test_the_first_break_is_found_with_its_place_and_kind(old, new, sentence, reason, kind):
    assert old in STORY
    story = STORY.replace(old, new).strip()
    verdict = TASK.verify(story, CAST)
    assert verdict.reason.startswith(f"sentence {sentence}: "), verdict
    assert reason in verdict.reason
    assert f"{kind} " in verdict.reason.split("breaks: ")[1]
    assert verdict.score == pytest.approx((sentence - 1) / max(7, story.count(".")), abs=0.03)
    assert scored(story)["whole_plots"] == 0.0
    assert scored(story)[f"{kind}_hold"] < 1.0


def scored(story: str) -> dict[str, float]:
    return {name: each.score for name, each in TASK.further_scores(story, CAST).items()}


def test_after_a_break_a_story_is_taken_as_told():
    story = STORY.replace("Mia gave the ball to Leo", "Ben gave the ball to Leo")
    assert TASK.verify(story, CAST).reason.endswith("breaks: things 1")
    assert scored(story)["things_hold"] == pytest.approx(6 / 7)


def test_stories_of_every_length_hold_and_say_what_was_asked_for():
    lengths = set()
    for example in TASK.test_items(140):
        sentences = example.response.count(".")
        assert example.group == str(sentences)
        assert example.reference.endswith(f"; {(sentences - 1) // 3}")
        lengths.add(sentences)
        assert TASK.verify(example.response, example.reference).score == 1.0
    assert lengths == {4, 7, 10, 13, 16, 19, 22}


def test_no_cast_of_a_test_story_is_trained_on_at_any_length():
    def casts(texts):
        found = re.findall(r"about (\w+), (\w+) and (\w+), a (\w+) and a (\w+)", "\n".join(texts))
        return {frozenset(each) for each in found}

    tested = casts(each.prompt for each in TASK.test_items(2_000))
    assert len(tested) > 1_000
    trained = casts([*TASK.documents(0), *(each.prompt for each in Plots(3).demonstrations())])
    assert len(trained) > 4_000
    assert not tested & trained


def test_a_story_of_no_known_cast_is_not_graded():
    for reference in ("", "Mia", "Mia, Ben, Leo; ball, kite; 9", "Mia, Ben, Eve; ball, kite; 2"):
        assert TASK.verify(STORY, reference).score is None
        assert {e.score for e in TASK.further_scores(STORY, reference).values()} == {None}


@pytest.mark.parametrize("days", [0, 8])
def test_days_are_those_of_a_week(days):
    with pytest.raises(ValueError, match="days is 1 to 7"):
        Plots(days)
