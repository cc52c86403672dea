"""BLiMP: which of two sentences that differ in a word or two is grammatical (Warstadt et al. 2020).

A row is `sentence_good` and `sentence_bad`; its `UID` (what is tested) becomes the item's group.
Right is a model that finds the good one likelier. Both go on from the words that they share, which
are as likely before either. A test set and nothing else.
"""

from itertools import takewhile
from typing import ClassVar

from eval.task import Example, Metric, Split
from eval.tasks.benchmark import BenchmarkTask, Row, RowsError, digest
from reward.verdict import Verdict

_START = "\n"  # a text begins after it; many models have no token for a beginning


class Blimp(BenchmarkTask):
    """Minimal pairs of English sentences."""

    name = "blimp"
    version = 1
    summary = "which of two sentences is grammatical"
    hub = "nyu-mll/blimp"
    subset = "adjunct_island"
    hub_splits: ClassVar[dict[Split, str]] = {"test": "train"}  # the only one it has there
    metrics: ClassVar[tuple[Metric, ...]] = ("choice_accuracy",)

    def example(self, row: Row) -> Example:
        """Read a pair; RowsError where both sentences are the same."""
        good, bad = (row.text(name).strip() for name in ("sentence_good", "sentence_bad"))
        if good == bad or not good or not bad:
            raise RowsError(f"{row.where}: `sentence_good` and `sentence_bad` are no two sentences")
        words = zip(good.split(" ")[:-1], bad.split(" ")[:-1], strict=False)
        shared = " ".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], words))
        return Example(
            id=f"blimp {digest(good, bad)}",
            prompt="Write a grammatical English sentence.",
            response=good,
            reference=good,
            document=f"{_START}{shared}",
            continuation=good.removeprefix(shared),
            distractors=(bad.removeprefix(shared),),
            group=row.text("UID") if row.fields.get("UID") else "",
        )

    def verify(self, response: str, reference: str) -> Verdict:
        """Compare with the good sentence."""
        return Verdict(float(response.strip() == reference), response.strip())
