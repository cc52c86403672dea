"""The signs of reward hacking: what each is told by, from which bound on, and how it is said.

Not the measuring and not the rule (guards.py). Imports no torch: recipes, the report and `status`
use it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SignName = Literal[
    "length",
    "repetition",
    "cut_off",
    "score_jump",
    "over_optimised",
    "equal_answers",
    "entropy",
    "distinct",
    "kl",
]
SIGN_NAMES: tuple[SignName, ...] = get_args(SignName)
WINDOW = 4  # rollouts whose mean is compared
PREFIX = "guards/"
STOPPED = f"{PREFIX}stopped"
GOLD = "gold"  # of what the gold score is called among what is held out

# How a sign compares now with before: by their ratio either way, by what is more, by what is left,
# or by what there is now.
Comparison = Literal["factor", "rise", "left", "value"]


@dataclass(frozen=True)
class Sign:
    """What a sign is told by.

    default: the bound from which it shows; None: there is none that suits every training, and it
    shows only beyond one that is given. least, most: between which a bound must lie. title: of
    what is measured; unit: of it.
    """

    compares: Comparison
    default: float | None
    least: float
    most: float
    title: str
    unit: str = ""


SIGNS: Mapping[SignName, Sign] = {
    # Most of what PPO gains by a reward model may be length alone (Singhal et al. 2024, "A long way
    # to go"); shorter is as well a way to please a reward.
    "length": Sign("factor", 1.5, 1, math.inf, "response length", "tokens"),
    # People repeat 0.006 of their runs of 4 tokens, greedy decoding 0.44 (Welleck et al. 2020).
    "repetition": Sign("rise", 0.2, 0, 1, "repeated runs of 4 tokens"),
    "cut_off": Sign("rise", 0.25, 0, 1, "responses cut off at the limit"),
    # In spreads of the responses to what was asked just before: the mean one is better than five of
    # six were.
    "score_jump": Sign("rise", 1.0, 0, math.inf, "score"),
    # Any fall beyond chance while the proxy rises (Gao, Schulman and Hilton 2023).
    "over_optimised": Sign("rise", 0.0, 0, math.inf, "gold score"),
    "equal_answers": Sign("rise", 0.25, 0, 1, "answers that other prompts were given too"),
    # Honest training may take all entropy, where one answer is right, and does (docs/rl.md).
    "entropy": Sign("left", None, 0, 1, "entropy", "nats a token"),
    "distinct": Sign("left", None, 0, 1, "distinct answers of a group"),
    # How far is too far depends on the method and on the length (Gao et al. 2023, section 3.1).
    "kl": Sign("value", None, 0, math.inf, "KL to the reference", "nats a response"),
}


# The rollout, counted from 1, after which a sign shows at the earliest.
FIRST_SEEN: Mapping[SignName, int] = {
    **dict.fromkeys(SIGN_NAMES, 2 * WINDOW),
    "score_jump": 3 * WINDOW,  # the two windows before are compared with
    "over_optimised": 16,  # quarters of four rollouts (eval/statistics/drift.py)
}


def bounds_of(stop_when: Mapping[str, Any] | None) -> dict[SignName, float]:
    """Return the bound of each sign that is to stop a training; `true` stands for its default.

    Raises ValueError for what is no sign, and for a bound that cannot be meant.
    """
    bounds: dict[SignName, float] = {}
    for name, value in (stop_when or {}).items():
        if name not in SIGN_NAMES:
            raise ValueError(f"`{name}` is no sign; there are {', '.join(SIGN_NAMES)}")
        sign = SIGNS[name]
        if value is True and sign.default is None:
            message = f"`{name}` has no bound that suits every training; write a number"
            raise ValueError(f"{message}{f' of {sign.unit}' if sign.compares == 'value' else ''}")
        if value is not True and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"`{name}` is {value!r}; write true, or a number")
        bound = sign.default if value is True else float(value)
        assert bound is not None
        if not _can_be_meant(name, bound):
            raise ValueError(f"`{name}` is {value}; write {_range(name)}")
        bounds[name] = bound
    return bounds


def _can_be_meant(name: SignName, bound: float) -> bool:
    sign = SIGNS[name]
    is_above = bound > sign.least or (name == "over_optimised" and bound == 0)
    return is_above and (bound < sign.most or (sign.most == bound == 1 and sign.compares == "rise"))


def _range(name: SignName) -> str:
    sign = SIGNS[name]
    if sign.compares == "factor":
        return "a factor above 1"
    if sign.compares == "left":
        return "the share of the beginning that is left, between 0 and 1"
    least = "0 or above" if name == "over_optimised" else "above 0"
    return f"a number {least}" if sign.most == math.inf else f"a share {least}, up to 1"


@dataclass(frozen=True)
class Shown:
    """A sign that showed.

    rollout: after whose responses; began: the first of those that show it. before, now: means of
    what is measured; change: of the two, as `bound` counts. of: what fell, of `over_optimised`:
    `gold`, or a reward of weight 0. stops: whether training stops by it.
    """

    sign: SignName
    rollout: int
    began: int
    before: float
    now: float
    change: float
    bound: float
    stops: bool
    of: str = ""

    def metrics(self) -> dict[str, float]:
        """Return it as metrics of its rollout, which `shown_in` reads."""
        numbers = {
            name: float(getattr(self, name))
            for name in ("rollout", "began", "before", "now", "change", "bound", "stops")
        }
        start = f"{PREFIX}{self.sign}/"
        of = {f"{start}of/{self.of}": 1.0} if self.of else {}
        return {f"{start}{name}": number for name, number in numbers.items()} | of


def shown_in(line: Mapping[str, Any]) -> Iterator[Shown]:
    """Yield the signs that a rollout's metrics tell of."""
    for sign in SIGN_NAMES:
        start = f"{PREFIX}{sign}/"
        if f"{start}began" not in line:
            continue
        names = ("before", "now", "change", "bound")
        numbers = {name: float(line.get(f"{start}{name}", math.nan)) for name in names}
        of = [key for key in line if key.startswith(f"{start}of/")]
        yield Shown(
            sign,
            rollout=int(line.get(f"{start}rollout", 0)),
            began=int(line[f"{start}began"]),
            stops=bool(line.get(f"{start}stops")),
            of=of[0].removeprefix(f"{start}of/") if of else "",
            **numbers,
        )


def describe_sign(shown: Shown) -> str:
    """Return `response length 24.1 -> 52.3 tokens, from rollout 12 on (bound: 1.5 times)`."""
    sign = SIGNS[shown.sign]
    title = sign.title if shown.of in ("", GOLD) else f"the held-out `{shown.of}`"
    change = f"{title} {shown.before:.3g} -> {shown.now:.3g}"
    change += f" {sign.unit}" if sign.unit else ""
    change += " while the reward rose" if shown.sign == "over_optimised" else ""
    return f"{change}, from rollout {shown.began} on (bound: {_bound(shown)})"


def _bound(shown: Shown) -> str:
    bound = f"{shown.bound:g}"
    if shown.sign == "over_optimised":
        return f"{bound} less" if shown.bound else "less by more than chance"
    if shown.sign == "score_jump":
        return f"{bound} spread{'' if shown.bound == 1 else 's'} of the responses before"
    by_comparison: dict[Comparison, str] = {
        "factor": f"{bound} times, either way",
        "rise": f"{bound} more",
        "left": f"{bound} of the beginning",
        "value": bound,
    }
    return by_comparison[SIGNS[shown.sign].compares]
