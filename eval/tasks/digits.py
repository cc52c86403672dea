"""Drawing handwritten digits, pixel by pixel: a world of pictures instead of words. A skill task.

A document is a digit and its picture, one letter a pixel; a model that learns which letter comes
next learns to draw. With a tokenizer that merges nothing (`vocab_size: 262`) a token is a pixel. A
test item is an image: what it asks, a digit, is asked in training, too. The images and their parts
are `eval.tasks.digit_images`'s subject, who reads a drawing that of `eval.tasks.digit_judges`.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version as release_of
from typing import ClassVar

from eval.statistics.spread import spread_shares
from eval.task import Example, FlawedResponse, FurtherScore, Metric, RlPrompt, Split, Task
from eval.tasks.digit_images import (
    INK,
    NUM_PIXELS,
    SIDE,
    Image,
    Pixels,
    flaw_of,
    images,
    read_drawing,
    shift,
    write_drawing,
)
from eval.tasks.digit_judges import Judge, read_digit
from reward.verdict import Verdict

_DIGITS = tuple("0123456789")
_CUT_BY = SIDE  # a row of pixels that a flawed drawing lacks
_GOLD = "recognised_by_gold_judge"
_DIVERSITY = "diversity"


class Digits(Task):
    """A digit to draw.

    shift: by how many pixels, at most, documents move their images to a side, another way in each
        pass; digits are as high as the images, so that up and down would cut them.
    """

    name = "digits"
    version = 2
    kind = "skill"
    summary = "handwritten digits, drawn pixel by pixel"
    metrics: ClassVar[tuple[Metric, ...]] = ("verified_accuracy",)
    further_metrics: ClassVar[tuple[str, ...]] = (_GOLD,)
    set_metrics: ClassVar[tuple[str, ...]] = (_DIVERSITY,)
    unit: ClassVar[str] = "pixel"
    group_unit: ClassVar[str] = "digit"
    max_new_tokens = NUM_PIXELS + 2  # a space before it, an end behind it

    def __init__(self, shift: int = 1) -> None:
        if not 0 <= shift < SIDE // 2:
            raise ValueError(f"shift is 0 to {SIDE // 2 - 1} pixels, not {shift}")
        self._shift = shift
        self.source = f"scikit-learn {release_of('scikit-learn')}"

    def examples(self, split: Split) -> Iterator[Example]:
        """Yield an example of each image that the verifier reads right."""
        rng = random.Random(f"digits {split}")
        readable = [each for each in images(split) if _is_read(each)]
        rng.shuffle(readable)
        for image in readable:
            other = rng.choice([each for each in readable if each.digit != image.digit])
            yield _example(image, other)

    def documents(self, seed: int) -> Iterator[str]:
        """Yield each training image behind its digit, moved as the pass has it."""
        rng = random.Random(f"digits documents {seed}")
        shown = list(images("train"))
        rng.shuffle(shown)
        moves = range(-self._shift, self._shift + 1)
        for image in shown:
            yield _document(image.digit, shift(image.pixels, rng.choice(moves), 0))

    def held_out_documents(self, seed: int) -> Iterator[str]:
        """Yield the validation images as they are."""
        return (_document(image.digit, image.pixels) for image in images("validation"))

    def rl_prompts(self, split: Split = "train") -> Iterator[RlPrompt]:
        """Yield a digit to draw for each image, so that they come as often as they are written."""
        for example in self.demonstrations(split):
            yield RlPrompt(example.prompt, example.reference, document=example.document)

    def verify(self, response: str, reference: str) -> Verdict:
        """Accept a drawing in which the verifier sees the digit."""
        return _judged("verifier", response, reference)

    def gold_score(self, response: str, reference: str) -> float | None:
        """Prefer a drawing in which the gold judge sees the digit, which verifies nothing."""
        return _judged("gold", response, reference).score

    def further_scores(self, response: str, reference: str) -> Mapping[str, FurtherScore]:
        """Return whether the gold judge sees the digit."""
        return {_GOLD: FurtherScore(self.gold_score(response, reference))}

    def set_scores(
        self, responses: Sequence[str], references: Sequence[str]
    ) -> Mapping[str, Sequence[float | None]]:
        """Return how far drawings of one digit lie apart, in grey levels a pixel.

        A model that draws the same 3 again and again has a diversity of 0, however good that 3 is.
        """
        drawn = [_pixels_of(response) for response in responses]
        return {_DIVERSITY: spread_shares(drawn, references, _distance)}

    def picture(self, response: str) -> Sequence[Sequence[float]] | None:
        """Return a drawing as ink on paper; None for what is none."""
        pixels = _pixels_of(response)
        if pixels is None:
            return None
        rows = range(0, NUM_PIXELS, SIDE)
        return [[1 - level / INK for level in pixels[start : start + SIDE]] for start in rows]


def _is_read(image: Image) -> bool:
    return read_digit("verifier", image.pixels) == image.digit


def _document(digit: int, pixels: Pixels) -> str:
    return f"{digit} {write_drawing(pixels)}"


def _example(image: Image, other: Image) -> Example:
    drawing = write_drawing(image.pixels)
    return Example(
        id=f"image {image.number}",
        prompt=f"Draw the digit {image.digit}.",
        response=drawing,
        reference=str(image.digit),
        document=str(image.digit),
        continuation=f" {drawing}",
        flawed=(
            FlawedResponse(write_drawing(other.pixels), "another digit"),
            FlawedResponse(drawing[:-_CUT_BY], "a row is missing"),
        ),
        group=str(image.digit),
    )


def _judged(judge: Judge, response: str, reference: str) -> Verdict:
    if reference not in _DIGITS:
        return Verdict(None, None, f"the reference `{reference[:80]}` is no digit")
    drawing = response.strip()
    flaw = flaw_of(drawing)
    if flaw:
        return Verdict(0.0, None, flaw)
    seen = str(read_digit(judge, read_drawing(drawing)))
    if seen == reference:
        return Verdict(1.0, seen, "the digit that was asked for")
    return Verdict(0.0, seen, f"it looks like a {seen}")


def _pixels_of(response: str) -> Pixels | None:
    drawing = response.strip()
    return None if flaw_of(drawing) else read_drawing(drawing)


def _distance(one: Pixels, other: Pixels) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / NUM_PIXELS
