"""Daraja's loose JSON made safe: any key case, numbers as strings, absent items, hostile bodies."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from shared.money import Money, scales

CURRENCY = "KES"
_AMOUNT_DIGITS_MAX = (
    12  # far above any wallet; keeps a hostile exponent from becoming a huge number
)
_AMOUNT_DECIMALS_MAX = 12
_CODE_LENGTH_MAX = 40
_UNAUTHORIZED = 401

# Of a timeout, which echoes our own request. The value may be cut off with the body.
_CREDENTIAL = re.compile(rb'("securitycredential"\s*:\s*")[^"]*', re.IGNORECASE)

Node = dict[str, object]
Body = dict[str, str | int]  # of a request


class NotReadable(ValueError):
    """A value is not of the kind its place asks for. The text names the place, not the value."""


def read_object(body: bytes) -> Node:
    """Parse a JSON object, keys in lower case, decimals exact. NotReadable for anything else."""
    try:
        parsed = json.loads(body, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, ArithmeticError, RecursionError):
        raise NotReadable("the body is not JSON") from None
    return node(parsed, "the body")


def read_answer(body: bytes) -> Node:
    """Parse an answer. Garbage is an empty one, which every reader takes for UNKNOWN."""
    try:
        return read_object(body)
    except NotReadable:
        return {}


def error_code(status: int, answer: Node) -> str:
    """Give the code of an API error, "" when it is none. A bare 401 is one, too."""
    return text(answer.get("errorcode")) or (str(status) if status == _UNAUTHORIZED else "")


def redact(body: bytes) -> bytes:
    """Give the body without the security credential that a timeout echoes; else as it came."""
    return _CREDENTIAL.sub(rb"\1***", body)


def node(value: object, name: str) -> Node:
    """Give an object with its keys in lower case; the first of two that differ in case wins."""
    if not isinstance(value, Mapping):
        raise NotReadable(f"{name} is not an object")
    folded: Node = {}
    for key, member in value.items():
        folded.setdefault(str(key).lower(), member)
    return folded


def text(value: object, length_max: int = 200) -> str:
    """Give printable text of a string or whole number, cut to size; "" for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    written = str(value)
    if not written.isprintable():
        # NUL and lone surrogates among them, which Postgres and UTF-8 cannot hold.
        written = "".join(c for c in written if c.isprintable())
    return written.strip()[:length_max]


def code(value: object, name: str) -> str:
    """Give a result code as text: 0, "0" and 0.0 are all "0"; None is "". Else NotReadable."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        value = _whole(value, name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise NotReadable(f"{name} is neither text nor number")
    written = text(value, _CODE_LENGTH_MAX + 1)
    if len(written) > _CODE_LENGTH_MAX:
        raise NotReadable(f"{name} is too long")
    return written


def amount(value: object, currency: str = CURRENCY) -> Money:
    """Give the exact amount of 1500, 1500.00 or "1500.00" units. Else NotReadable."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise NotReadable("Amount is neither text nor number")
    try:
        shillings = Decimal(value)
    except (InvalidOperation, ValueError):
        raise NotReadable("Amount is not a number") from None
    exponent = shillings.as_tuple().exponent
    if not isinstance(exponent, int) or shillings.adjusted() >= _AMOUNT_DIGITS_MAX:
        raise NotReadable("Amount is not a plausible number")
    if shillings < 0 or exponent < -_AMOUNT_DECIMALS_MAX:
        raise NotReadable("Amount is not a plausible number")
    if currency not in scales():
        raise NotReadable("Currency is not one we know")
    minor = Fraction(shillings) * 10 ** scales()[currency]
    if minor.denominator != 1:
        raise NotReadable("Amount has more decimals than its currency")
    return Money(minor.numerator, currency)


def _whole(value: Decimal, name: str) -> int:
    if value.adjusted() >= _CODE_LENGTH_MAX or value != value.to_integral_value():
        raise NotReadable(f"{name} is not a whole number")
    return int(value)


def _refuse_constant(name: str) -> object:
    raise NotReadable(f"{name} is not JSON")
