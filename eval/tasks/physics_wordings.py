"""The words of the physics task: laws, and how each quantity is asked for, stated and worked out.

They lie in physics.json. Not the numbers, which `eval.tasks.physics` chooses.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from eval.tasks.word_tables import read_table

Law = Literal["motion", "fall", "lever"]
Sign = Literal["+", "-", "*", "/"]


class Step(NamedTuple):
    """`name = left sign right`, where left and right are names of quantities or digits."""

    name: str
    left: str
    sign: Sign
    right: str


@dataclass(frozen=True)
class Wording:
    """How one quantity is asked for; blanks are {a thing} and the names of known quantities.

    questions: of a chat user. document: its beginning; the answer with its unit completes it.
    title: of a document that works it out by the `steps`, the last of which gives the answer.
    """

    law: Law
    unit: str
    questions: tuple[str, ...]
    document: str
    title: str
    steps: tuple[Step, ...]


_TABLE = read_table("physics")
THINGS: dict[Law, tuple[str, ...]] = {
    law: tuple(things) for law, things in _TABLE["things"].items()
}
LAWS: dict[Law, tuple[str, ...]] = {law: tuple(laws) for law, laws in _TABLE["laws"].items()}
WORDINGS: dict[str, Wording] = {
    name: Wording(
        **wording
        | {
            "questions": tuple(wording["questions"]),
            "steps": tuple(Step(*step) for step in wording["steps"]),
        }
    )
    for name, wording in _TABLE["wordings"].items()
}
