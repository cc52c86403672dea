"""The tool `calculator`: arithmetic on exact numbers, by a tree walk of our own.

Python parses the expression and evaluates nothing of it. Numbers are fractions of bounded size, so
that no call takes long: 0.1 + 0.2 is 0.3.
"""

from __future__ import annotations

import ast
import operator
from decimal import Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from eval.tools.tool import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_MAX_CHARACTERS = 500
_MAX_BITS = 3_000  # of a numerator or denominator: some 900 digits
_MAX_EXPONENT = 400  # of a number like 1e9
_EXACT_DIGITS, _ROUNDED_DIGITS = 40, 15
_SIGNS = str.maketrans({"\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-", "\u2013": "-"})

_OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda a, b: Fraction(a // b),
    ast.Mod: operator.mod,
}


def calculator(expression: str) -> str:
    """Compute the value of an arithmetic expression.

    Args:
        expression: Numbers with + - * / // % ** and brackets, such as 12*(34+5).
    """
    if len(expression) > _MAX_CHARACTERS:
        raise ToolError(f"the expression has more than {_MAX_CHARACTERS} characters")
    source = expression.translate(_SIGNS).replace("^", "**").strip()
    if not source.isascii():
        raise ToolError("the expression is no arithmetic")
    try:
        tree = ast.parse(source, mode="eval")
        value = _Evaluation(source).value_of(tree.body)
    except ZeroDivisionError:
        raise ToolError("division by zero") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ToolError("the expression is no arithmetic") from None
    return _shown(value)


class _Evaluation:
    """The value of a parsed expression. source: ASCII, so that offsets are those of characters."""

    def __init__(self, source: str) -> None:
        self._source = source.split("\n")

    def value_of(self, node: ast.expr) -> Fraction:
        """Return the value of a part. Raises ToolError, ZeroDivisionError, ValueError."""
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.UnaryOp(op=ast.UAdd(), operand=operand):
                return self.value_of(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value_of(operand)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return _power(self.value_of(left), self.value_of(right))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
                return _checked(_OPERATIONS[type(op)](self.value_of(left), self.value_of(right)))
            case ast.Call(func=ast.Name(id=name), args=[_, *_] as given, keywords=[]):
                return _apply(name, [self.value_of(argument) for argument in given])
            case ast.Tuple():
                raise ToolError("write numbers without commas")
            case ast.Name(id=name):
                raise ToolError(f"{name[:20]} is no number")
            case _:
                raise ToolError("the expression is no arithmetic")

    def _number(self, node: ast.Constant) -> Fraction:
        """Return a number as it is written, not as a float has it."""
        if type(node.value) is int:
            return _checked(Fraction(node.value))
        if type(node.value) is not float:
            raise ToolError("the expression is no arithmetic")
        line = self._source[node.lineno - 1]
        text = line[node.col_offset : node.end_col_offset].replace("_", "").lower()
        exponent = text.partition("e")[2]
        if exponent and abs(int(exponent)) > _MAX_EXPONENT:
            raise ToolError("a number is too large")
        return _checked(Fraction(text))


def _apply(name: str, values: Sequence[Fraction]) -> Fraction:
    if name not in ("abs", "min", "max"):
        raise ToolError(f"there is no function {name[:20]}; abs, min, max")
    if name == "abs":
        if len(values) > 1:
            raise ToolError("abs takes one number")
        return abs(values[0])
    return min(values) if name == "min" else max(values)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1:
        raise ToolError("powers are whole numbers")
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if size > 1 and size * abs(exponent.numerator) > 2 * _MAX_BITS:
        raise ToolError("a number is too large")
    # of 0 and 1, too, whose powers are small at any exponent
    if size <= 1 and abs(exponent.numerator) > _MAX_BITS:
        exponent = Fraction(exponent.numerator % 2 + 2) * (1 if exponent > 0 else -1)
    return _checked(base**exponent.numerator)


def _checked(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise ToolError("a number is too large")
    return value


def _shown(value: Fraction) -> str:
    """Return a number in full where its decimals end soon, else rounded to 15 digits."""
    if value.denominator == 1:
        return str(value.numerator)
    exact = Context(prec=_EXACT_DIGITS).divide(Decimal(value.numerator), Decimal(value.denominator))
    if Fraction(exact) == value:
        return format(exact, "f") if exact.adjusted() > -_ROUNDED_DIGITS else str(exact)
    rounded = Context(prec=_ROUNDED_DIGITS).divide(
        Decimal(value.numerator), Decimal(value.denominator)
    )
    is_plain = -7 < rounded.adjusted() < 2 * _ROUNDED_DIGITS
    return format(rounded, "f") if is_plain else str(rounded)
