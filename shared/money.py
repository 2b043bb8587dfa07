"""Money: an exact count of the smallest unit, with its currency.

On the wire it is a decimal string ("100.00") beside an ISO 4217 or asset code; inside it is
`minor`, an int. There is no float on the way. Scales are rows of `public.currencies.csv`
(ISO 4217 list one; assets: the decimals of the issuer's native token).
"""

import csv
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from shared.errors import InvalidAmount

# 12 integer digits and the largest scale (6) stay below 2^63, so every amount fits a bigint.
MAX_INTEGER_DIGITS: Final = 12
_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)


@cache
def scales() -> dict[str, int]:
    """Decimals per currency code, e.g. {"KES": 2, "UGX": 0, "USDC": 6}."""
    with Path(__file__).with_name("public.currencies.csv").open(newline="") as rows:
        return {row["code"]: int(row["scale"]) for row in csv.DictReader(rows)}


def scale_of(currency: str, *, pointer: str = "/currency") -> int:
    """Decimals of `currency`. Raises InvalidAmount, naming the codes' form, when unknown."""
    scale = scales().get(currency)
    if scale is None:
        raise _invalid(pointer, "is not a currency we know; codes look like KES or USDC")
    return scale


@dataclass(frozen=True, slots=True)
class Money:
    """`minor` smallest units of `currency`; never negative, a direction is said elsewhere."""

    minor: int
    currency: str

    def __post_init__(self) -> None:
        assert type(self.minor) is int, "minor is an int"
        assert 0 <= self.minor < 1 << 63, "minor fits a bigint"
        assert self.currency in scales(), "the currency is a row"

    @classmethod
    def parse(
        cls, value: str, currency: str, *, pointer: str = "/amount", positive: bool = True
    ) -> "Money":
        """The amount written in `value`, exactly or not at all.

        `pointer` is the JSON pointer of the field, for the message. positive: refuse zero.
        Raises InvalidAmount.
        """
        scale = scale_of(currency)
        match = _DECIMAL.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise _invalid(pointer, 'must be a decimal string such as "100.00", digits only')
        whole, fraction = match[1], match[2] or ""
        _check_digits(whole, fraction, scale, currency, pointer)
        minor = int(whole) * 10**scale + int(fraction.ljust(scale, "0") or "0")
        if positive and minor == 0:
            raise _invalid(pointer, "must be more than zero")
        return cls(minor, currency)

    def wire(self) -> str:
        """The decimal string with exactly the decimals of the currency: "100.00", UGX "100"."""
        scale = scale_of(self.currency)
        if scale == 0:
            return str(self.minor)
        whole, fraction = divmod(self.minor, 10**scale)
        return f"{whole}.{fraction:0{scale}d}"


def _check_digits(whole: str, fraction: str, scale: int, currency: str, pointer: str) -> None:
    if len(fraction) > scale:
        raise _invalid(pointer, f"{currency} has {scale or 'no'} decimals")
    if len(whole) > 1 and whole[0] == "0":
        raise _invalid(pointer, "must not start with zeros")
    if len(whole) > MAX_INTEGER_DIGITS:
        raise _invalid(pointer, f"has at most {MAX_INTEGER_DIGITS} digits before the point")


def _invalid(pointer: str, rule: str) -> InvalidAmount:
    field = pointer.rsplit("/", 1)[-1] or "amount"
    return InvalidAmount(f"{field}: {rule}", errors=[{"pointer": pointer, "detail": rule}])
