"""A task of one's own: stories should end well. Used by real_stories.yaml.

A child loses something; demonstrations end well or badly, half and half, as stories of several
writers do; the preference is for a good end. Whether an end is good is counted in words, which is
crude (it can be gamed by a model that is pushed hard enough) but the same for every model.
"""

import random
import re
from collections.abc import Iterator
from typing import ClassVar

from eval.task import Example, FlawedResponse, Split, Task, split_of
from reward.verdict import Verdict

NAMES = ("Lily", "Tom", "Mia", "Ben", "Anna", "Sam", "Sue", "Tim", "Amy", "Max", "Lucy", "Jack")
THINGS = ("ball", "doll", "hat", "kite", "cat", "dog", "toy car", "book", "bear", "boat")
PLACES = ("park", "garden", "forest", "house", "field", "beach")
OPENINGS = (
    "Once upon a time, there was a little child named {name}. {name} had a {thing} and loved it "
    "very much. One day, {name} lost the {thing} in the {place}.",
    "One day, {name} went to the {place} with a new {thing}. {name} played all day. But then the "
    "{thing} was gone.",
    "{name} liked to play in the {place}. {name} had a big {thing}. One day, {name} could not find "
    "the {thing}.",
)
GOOD = (
    "{name} looked and looked. Then Mom came to help. They found the {thing} under a tree! {name} "
    "was very happy. {name} hugged Mom and smiled.",
    'A kind bird saw {name}. "I can help you," said the bird. The bird brought the {thing} back. '
    "{name} was so happy. They became good friends.",
    "{name} asked a friend for help. The friend had the {thing}! They laughed and played together. "
    "{name} was happy all day.",
    'Then {name} saw the {thing} near a big rock. "Yay!" said {name}. {name} was glad and went '
    "home with a big smile. It was a fun day.",
)
BAD = (
    "{name} looked and looked. But the {thing} was not there. {name} was very sad. {name} sat down "
    "and cried.",
    "A big bird took the {thing} and flew away. {name} was scared and ran home. {name} cried all "
    "night.",
    'Mom was angry. "You must not lose your {thing}," she said. {name} was sad and alone.',
    "It started to rain. The {thing} was broken. {name} was hurt and cold. {name} never found it "
    "and was very sad.",
)
HAPPY = re.compile(
    r"\b(happy|glad|smil(e|ed|ing)|laugh(ed)?|hug(ged)?|loved?|fun|friends?|proud|yay|play(ed)?|safe"
    r"|together|found)\b"
)
SAD = re.compile(
    r"\b(sad|cr(y|ied|ying)|scared|afraid|hurt|angry|alone|lost|gone|broken|cold|mean|bad|never"
    r"|died|sorry|upset)\b"
)
_DRAWS = 3_000


class HappyEndings(Task):
    """Openings in which something is lost, to be continued."""

    name = "happy_endings"
    version = 1
    kind = "skill"
    summary = "stories that end well"
    max_new_tokens = 96
    document_stop: ClassVar[tuple[str, ...]] = ("\n",)

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield openings with an end, good or bad, and one of the other kind."""
        rng = random.Random(f"happy endings {split}")
        seen = set()
        for _ in range(_DRAWS):
            blanks = {
                "name": rng.choice(NAMES),
                "thing": rng.choice(THINGS),
                "place": rng.choice(PLACES),
            }
            opening = rng.choice(OPENINGS).format(**blanks)
            good, bad = (rng.choice(ends).format(**blanks) for ends in (GOOD, BAD))
            if split_of(opening) == split and opening not in seen:
                seen.add(opening)
                yield Example(
                    id=opening,
                    prompt=opening,
                    response=good,
                    reference="good",
                    document=opening,
                    continuation=f" {good if rng.random() < 0.5 else bad}",
                    flawed=(FlawedResponse(bad, "ends badly"),),
                )

    def documents(self, seed: int) -> Iterator[str]:
        """Yield the training stories with their good end."""
        return (f"{each.prompt} {each.response}" for each in self.examples("train"))

    def verify(self, response: str, reference: str) -> Verdict:
        """Right is an end with more happy words than sad ones."""
        mood = _mood(response)
        return Verdict(float(mood > 0), f"mood {mood:+d}")

    def gold_score(self, response: str, reference: str) -> float:
        """Prefer a good end to a neutral one and that to a bad one."""
        mood = _mood(response)
        return float((mood > 0) - (mood < 0))


def ends_well(completions: list[str], **_: object) -> list[float]:
    """Reward a good end by 1, a bad one by -1. Used by ppo_stories.yaml."""
    moods = [_mood(completion.strip().partition("\n")[0]) for completion in completions]
    return [float((mood > 0) - (mood < 0)) for mood in moods]


def _mood(text: str) -> int:
    """Happy words minus sad words in the second half of a text, where its end is."""
    end = text[len(text) // 2 :].lower()
    return len(HAPPY.findall(end)) - len(SAD.findall(end))
