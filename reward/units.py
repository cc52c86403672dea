r"""Units of measurement: which a number has, and texts whose numbers are written in one unit.

Lengths, masses, times and volumes; what is not in the table is no unit here and left as it is, as
are products and powers (`m/s`, `cm^2`). Not a parser of physics: 5 km is 5000 m, and no more.
"""

import re
from fractions import Fraction

# Each kind: how many of its first unit one of these is. Names in lower case but for the symbols.
_KINDS: tuple[dict[str, Fraction], ...] = tuple(
    {name: Fraction(factor) for names, factor in kind.items() for name in names.split()}
    for kind in (
        {
            "m meter meters metre metres": "1",
            "km kilometer kilometers kilometre kilometres": "1000",
            "cm centimeter centimeters centimetre centimetres": "0.01",
            "mm millimeter millimeters millimetre millimetres": "0.001",
            "inch inches": "0.0254",
            "ft foot feet": "0.3048",
            "yd yard yards": "0.9144",
            "mile miles": "1609.344",
        },
        {
            "g gram grams": "1",
            "kg kilogram kilograms": "1000",
            "mg milligram milligrams": "0.001",
            "lb lbs pound pounds": "453.59237",
            "oz ounce ounces": "28.349523125",
        },
        {
            "s sec second seconds": "1",
            "ms millisecond milliseconds": "0.001",
            "min minute minutes": "60",
            "h hr hrs hour hours": "3600",
            "day days": "86400",
            "week weeks": "604800",
        },
        {
            "l L liter liters litre litres": "1",
            "ml mL milliliter milliliters millilitre millilitres": "0.001",
        },
    )
)
_NAMES = sorted((name for kind in _KINDS for name in kind), key=len, reverse=True)
_DIGITS = r"[0-9]{1,50}(?:,[0-9]{3}){0,9}(?:\.[0-9]{1,50})?(?:/[0-9]{1,50})?"
_MEASURED = re.compile(
    rf"(?<![0-9.,/])({_DIGITS})(?: |~|\\ |\\,|-)?(?:\\(?:text|mathrm)\{{ ?)?({'|'.join(_NAMES)})"
    r"(?![A-Za-z0-9_^/*\u00b2\u00b3]|\}\^)\}?"
)


def unit_of(text: str) -> str | None:
    """Return the unit of the only number with a known unit in a text; None without or for more."""
    found = _MEASURED.findall(text)
    return found[0][1] if len(found) == 1 else None


def in_unit(text: str, unit: str) -> str:
    """Write numbers with units of the same kind in this unit, and take out those of other kinds."""
    kind = next(kind for kind in _KINDS if unit in kind)

    def write(match: re.Match[str]) -> str:
        factor = kind.get(match[2])
        if factor is None:
            return " "
        if factor == kind[unit]:
            return match[1]
        top, _, bottom = match[1].replace(",", "").partition("/")
        if bottom and not int(bottom):
            return " "
        value = Fraction(top) / (int(bottom) if bottom else 1) * factor / kind[unit]
        return str(value)

    return _MEASURED.sub(write, text)
