"""Exact decimals: text in, text out, half away from zero when a rule says round. No float."""

import re
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final

# Wide enough for 500 lines of 18 digits times 12 decimals; what does not fit raises, never rounds.
EXACT: Final = Context(prec=60, rounding=ROUND_HALF_UP)
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
ZERO: Final = Decimal(0)


def parse(text: str) -> Decimal:
    """The value of a decimal string. ValueError says what is wrong with it."""
    if not isinstance(text, str) or _NUMBER.fullmatch(text) is None:
        raise ValueError('must be a decimal string such as "100.00"')
    value = Decimal(text)
    if value.is_zero() and text.startswith("-"):
        raise ValueError("zero has no sign")
    return value


def decimals_of(text: str) -> int:
    """How many digits follow the point."""
    return len(text.partition(".")[2])


def rounded(value: Decimal, scale: int) -> Decimal:
    """`value` with `scale` decimals, half away from zero."""
    result = value.quantize(Decimal(1).scaleb(-scale), context=EXACT)
    return result.copy_abs() if result.is_zero() else result


def money_text(value: Decimal, scale: int) -> str:
    """Exactly `scale` decimals. The value must already have no more."""
    result = rounded(value, scale)
    assert result == value, "money is rounded where a rule says so, never when it is written"
    return f"{result:f}"


def shortest(value: Decimal, least: int = 0) -> str:
    """Without trailing zeros, but with at least `least` decimals: "2", "33.33", "500.00"."""
    whole, _, fraction = f"{value:f}".partition(".")
    fraction = fraction.rstrip("0").ljust(least, "0")
    return f"{whole}.{fraction}" if fraction else whole
