"""The words of the physics task: laws, and how each quantity is asked for, stated and worked out.

Not the numbers, which `eval.tasks.physics` chooses.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

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


THINGS: dict[Law, tuple[str, ...]] = {
    "motion": ("a train", "a ball", "a runner", "a dog", "a boat", "a car", "a bird", "a horse"),
    "fall": ("a stone", "a ball", "an apple", "a coin", "a brick", "a nut"),
    "lever": ("a box", "a bag", "a basket", "a bucket", "a stone", "a chest"),
}
LAWS: dict[Law, tuple[str, ...]] = {
    "motion": (
        "The distance is the speed times the time.",
        "The time is the distance divided by the speed.",
        "The speed is the distance divided by the time.",
        "A speed of 1 m/s means a distance of 1 m in each second.",
        "Distances are in m, times in s and speeds in m/s.",
    ),
    "fall": (
        "A falling body gains a speed of 10 m/s in each second.",
        "The gain in speed is 10 times the time.",
        "The speed of a dropped body is 10 times the time.",
        "The speed of a body that is thrown down is its start speed plus the gain.",
        "The start speed is the speed minus the gain.",
        "The depth of a fall is 5 times the square of the time.",
    ),
    "lever": (
        "The moment is the weight times the arm.",
        "A lever is balanced when both moments are equal.",
        "The force is the moment divided by its distance from the pivot.",
        "The distance from the pivot is the moment divided by the force.",
        "Weights and forces are in N, arms and distances in m.",
    ),
}
_GAIN = Step("gain", "10", "*", "time")
_MOMENT = Step("moment", "weight", "*", "arm")
WORDINGS: dict[str, Wording] = {
    "distance": Wording(
        "motion",
        "m",
        (
            "{A thing} moves at {speed} m/s for {time} s. How far does it go?",
            "How far does {a thing} go in {time} s at a speed of {speed} m/s?",
            "{A thing} has a speed of {speed} m/s. What distance does it cover in {time} s?",
        ),
        "In {time} s at {speed} m/s {a thing} goes",
        "Distance of {a thing} in {time} s at {speed} m/s",
        (Step("distance", "speed", "*", "time"),),
    ),
    "time": Wording(
        "motion",
        "s",
        (
            "{A thing} moves at {speed} m/s. How long does it take for {distance} m?",
            "How much time does {a thing} need for {distance} m at a speed of {speed} m/s?",
            "{A thing} goes {distance} m at {speed} m/s. How many seconds does it take?",
        ),
        "For {distance} m at {speed} m/s {a thing} needs",
        "Time of {a thing} for {distance} m at {speed} m/s",
        (Step("time", "distance", "/", "speed"),),
    ),
    "speed": Wording(
        "motion",
        "m/s",
        (
            "{A thing} goes {distance} m in {time} s. How fast is it?",
            "What is the speed of {a thing} that goes {distance} m in {time} s?",
            "{A thing} needs {time} s for {distance} m. What is its speed?",
        ),
        "{A thing} that goes {distance} m in {time} s has a speed of",
        "Speed of {a thing} that goes {distance} m in {time} s",
        (Step("speed", "distance", "/", "time"),),
    ),
    "drop speed": Wording(
        "fall",
        "m/s",
        (
            "{A thing} is dropped. How fast does it fall after {time} s?",
            "What is the speed of {a thing} that is dropped and falls for {time} s?",
            "How fast is {a thing} that has been falling from rest for {time} s?",
        ),
        "After {time} s {a thing} that is dropped has a speed of",
        "Speed of {a thing} {time} s after it is dropped",
        (Step("speed", "10", "*", "time"),),
    ),
    "drop time": Wording(
        "fall",
        "s",
        (
            "{A thing} is dropped. After how many seconds does it fall at {speed} m/s?",
            "How long must {a thing} fall from rest to have a speed of {speed} m/s?",
            "{A thing} is dropped and falls at {speed} m/s now. How long has it been falling?",
        ),
        "{A thing} that is dropped falls at {speed} m/s after",
        "Time until {a thing} that is dropped falls at {speed} m/s",
        (Step("time", "speed", "/", "10"),),
    ),
    "depth": Wording(
        "fall",
        "m",
        (
            "{A thing} is dropped. How far does it fall in {time} s?",
            "How deep does {a thing} fall from rest in {time} s?",
            "{A thing} is dropped into a shaft and lands after {time} s. How deep is the shaft?",
        ),
        "In {time} s {a thing} that is dropped falls",
        "Depth that {a thing} falls in {time} s",
        (Step("square", "time", "*", "time"), Step("depth", "5", "*", "square")),
    ),
    "thrown speed": Wording(
        "fall",
        "m/s",
        (
            "{A thing} is thrown down at {start} m/s. How fast does it fall after {time} s?",
            "How fast is {a thing} {time} s after it is thrown down at {start} m/s?",
            "{A thing} falls for {time} s after a start at {start} m/s. What is its speed then?",
        ),
        "After {time} s {a thing} that is thrown down at {start} m/s has a speed of",
        "Speed of {a thing} {time} s after it is thrown down at {start} m/s",
        (_GAIN, Step("speed", "start", "+", "gain")),
    ),
    "thrown time": Wording(
        "fall",
        "s",
        (
            "{A thing} is thrown down at {start} m/s. When does it fall at {speed} m/s?",
            "How long does {a thing} thrown down at {start} m/s fall until it has {speed} m/s?",
            "{A thing} starts to fall at {start} m/s and falls at {speed} m/s now. "
            "How long has it been falling?",
        ),
        "{A thing} that is thrown down at {start} m/s falls at {speed} m/s after",
        "Time until {a thing} that is thrown down at {start} m/s falls at {speed} m/s",
        (Step("gain", "speed", "-", "start"), Step("time", "gain", "/", "10")),
    ),
    "start": Wording(
        "fall",
        "m/s",
        (
            "{A thing} falls at {speed} m/s after {time} s. How fast was it thrown down?",
            "At which speed was {a thing} thrown down that falls at {speed} m/s after {time} s?",
            "{A thing} that was thrown down has {speed} m/s after {time} s. "
            "What was its start speed?",
        ),
        "{A thing} that falls at {speed} m/s after {time} s was thrown down at",
        "Start speed of {a thing} that falls at {speed} m/s after {time} s",
        (_GAIN, Step("start", "speed", "-", "gain")),
    ),
    "force": Wording(
        "lever",
        "N",
        (
            "{A thing} of {weight} N hangs {arm} m from the pivot. "
            "What force balances it at {distance} m?",
            "What force at {distance} m balances {a thing} of {weight} N at {arm} m?",
            "{A thing} of {weight} N is {arm} m from the pivot. "
            "How much force does it take to balance it from {distance} m?",
        ),
        "{A thing} of {weight} N at {arm} m is balanced at {distance} m by a force of",
        "Force at {distance} m that balances {a thing} of {weight} N at {arm} m",
        (_MOMENT, Step("force", "moment", "/", "distance")),
    ),
    "arm": Wording(
        "lever",
        "m",
        (
            "{A thing} of {weight} N hangs {arm} m from the pivot. "
            "At what distance does a force of {force} N balance it?",
            "How far from the pivot must a force of {force} N be "
            "to balance {a thing} of {weight} N at {arm} m?",
            "{A thing} of {weight} N is {arm} m from the pivot. "
            "Where does a force of {force} N balance it?",
        ),
        "{A thing} of {weight} N at {arm} m is balanced by a force of {force} N at",
        "Distance at which {force} N balance {a thing} of {weight} N at {arm} m",
        (_MOMENT, Step("distance", "moment", "/", "force")),
    ),
}
