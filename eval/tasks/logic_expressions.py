"""Expressions of `true`, `false`, `and`, `or` and `not`: their values, steps and splits.

The half of the logic task that calculates; syllogisms and wordings are in `eval.tasks.logic`.
"""

from dataclasses import dataclass
from functools import cached_property

from eval.task import Split, split_of

TRUTH = ("true", "false")


@dataclass(frozen=True)
class Expression:
    """`true` or `false`, or an operator (not, and, or) with its one or two parts."""

    sign: str
    parts: tuple["Expression", ...] = ()

    def __str__(self) -> str:
        if not self.parts:
            return self.sign
        inside = [f"({part})" if len(part.parts) == 2 else str(part) for part in self.parts]
        return f"not {inside[0]}" if self.sign == "not" else f" {self.sign} ".join(inside)

    @property
    def value(self) -> str:
        """`true` or `false`."""
        values = [part.value == "true" for part in self.parts]
        match self.sign:
            case "not":
                is_true = not values[0]
            case "and":
                is_true = all(values)
            case "or":
                is_true = any(values)
            case _:
                return self.sign
        return str(is_true).lower()

    @property
    def num_operators(self) -> int:
        """How many operators it has, those of its parts included."""
        return bool(self.parts) + sum(part.num_operators for part in self.parts)

    @cached_property
    def canonical(self) -> str:
        """The text that it shares with all expressions that differ in the order of parts."""
        inside = sorted(part.canonical for part in self.parts)
        return f"{self.sign}({' '.join(inside)})" if inside else self.sign

    @cached_property
    def split(self) -> Split:
        """Where its id or a part of it belongs: test before validation before train."""
        if self.num_operators < 2:
            return "train"
        found = {split_of(f"logic {self.canonical}", validation=0.15, test=0.3)}
        found |= {part.split for part in self.parts}
        return next(split for split in ("test", "validation", "train") if split in found)

    def orders(self) -> list["Expression"]:
        """Return the expressions that differ from it in the order of parts, itself included."""
        if not self.parts:
            return [self]
        if len(self.parts) == 1:
            return [Expression(self.sign, (part,)) for part in self.parts[0].orders()]
        left, right = (part.orders() for part in self.parts)
        pairs = [pair for one in left for other in right for pair in ((one, other), (other, one))]
        return [Expression(self.sign, pair) for pair in dict.fromkeys(pairs)]

    def steps(self) -> str:
        """Return the operators worked out from the inside, `not true = false. false or ...`."""
        if not self.parts:
            return ""
        values = (Expression(part.value) for part in self.parts)
        last = f"{Expression(self.sign, tuple(values))} = {self.value}."
        return " ".join(filter(None, (*(part.steps() for part in self.parts), last)))


def families(max_operators: int) -> list[Expression]:
    """Return one expression of two and more operators for each canonical text; no double not."""
    by_size: list[list[Expression]] = [[Expression(value) for value in TRUTH]]
    for size in range(1, max_operators + 1):
        made = [Expression("not", (part,)) for part in by_size[-1] if part.sign != "not"]
        for left_size in range(size):
            for left in by_size[left_size]:
                for right in by_size[size - 1 - left_size]:
                    made += [Expression(sign, (left, right)) for sign in ("and", "or")]
        by_size.append(list({each.canonical: each for each in made}.values()))
    return [family for families in by_size[2:] for family in families]


def truth_table() -> list[str]:
    """Return every single operator on plain values with its result."""
    single = [Expression("not", (Expression(value),)) for value in TRUTH]
    double = [
        Expression(sign, (Expression(left), Expression(right)))
        for sign in ("and", "or")
        for left in TRUTH
        for right in TRUTH
    ]
    return [f"{expression} = {expression.value}" for expression in (*single, *double)]
