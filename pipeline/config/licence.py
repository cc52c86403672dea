"""On which pairs a judge or a reward model is examined before it counts: the `licence:` block.

Not the exam (eval/comparison/licence.py), and not who takes it (pipeline/rewards/licence.py).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, PositiveInt, Tag, model_validator

from pipeline.config.blocks import DataBlock

OFF: Literal["off"] = "off"
PAIRS_OF_AN_EXAM = 200


class LicenceBlock(DataBlock):
    """Pairs that people labelled, on which a judge or a reward model is examined.

    A source as in `data`, of preferences; of one that is trained on, the part that is kept out.
    pairs: at most so many, of different prompts, drawn by their hash.
    """

    pairs: PositiveInt = PAIRS_OF_AN_EXAM

    @model_validator(mode="after")
    def _is_read_once(self) -> LicenceBlock:
        for name in ("weight", "dedup"):
            if getattr(self, name) is not None:
                raise ValueError(f"`{name}` has no meaning for a `licence`; leave it out")
        if self.task is not None and self.split == "train":
            raise ValueError("`split` train is what models learn from; leave it out")
        if self.form not in (None, "preference"):
            raise ValueError(f"`form` is {self.form}, and a licence takes preferences")
        return self


def _kind(value: Any) -> str:
    is_source = not isinstance(value, str) or value.startswith("$")
    return "LicenceBlock" if is_source else "off"


Licence = Annotated[
    Annotated[LicenceBlock, Tag("LicenceBlock")] | Annotated[Literal["off"], Tag("off")],
    Discriminator(_kind),
]


def no_pairs(name: str) -> tuple[str, str]:
    """Return what is wrong with a judge that there are no labelled pairs for, and what to do."""
    return (
        f"the judge `{name}` has no licence: there are no pairs that people labelled",
        "write `licence: {file: PAIRS}` in it (or `hub:`, `task:`), or `licence: off`",
    )
