"""Ids: a prefix, an underscore and 26 characters of a UUIDv7 (TypeID 0.3, jetify-com/typeid).

SQL makes the ids of rows (`public.new_id`). Here they are checked, so that an impossible id costs
no round trip, and request ids are made, which no row needs.
"""

import os
import re
import time
from typing import Final, NewType

from shared.errors import NotFound

TenantId = NewType("TenantId", str)
PaymentIntentId = NewType("PaymentIntentId", str)
TransferId = NewType("TransferId", str)

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford base32, lower case
_PAIRS: Final = [high + low for high in _ALPHABET for low in _ALPHABET]
# The first of 26 characters carries 3 bits only, so it is at most 7.
_SUFFIX: Final = "[0-7][0-9a-hjkmnp-tv-z]{25}"
_TYPE_ID: Final = re.compile(rf"([a-z][a-z_]{{0,61}}[a-z]|[a-z])_({_SUFFIX})", re.ASCII)


def pattern(prefix: str) -> str:
    """The regular expression of ids with `prefix`, for OpenAPI: pattern("pi")."""
    return f"^{prefix}_{_SUFFIX}$"


def is_id(prefix: str, value: str) -> bool:
    """Whether `value` has the form of an id with `prefix`. Says nothing about a row."""
    match = _TYPE_ID.fullmatch(value)
    return match is not None and match[1] == prefix


def require_id(prefix: str, value: str) -> str:
    """`value`, or NotFound: an id that cannot exist looks like one that does not."""
    if not is_id(prefix, value):
        raise NotFound(f"there is no {prefix}_… with this id")
    return value


def new_id(prefix: str) -> str:
    """A fresh id. Ordered by the wall clock in milliseconds, random below it."""
    return f"{prefix}_{_encode(uuid7(time.time_ns() // 1_000_000, os.urandom(10)))}"


def uuid7(unix_ms: int, random: bytes) -> int:
    """The 128 bits of a UUIDv7 (RFC 9562 §5.7). random: 10 bytes, of which 74 bits are used."""
    bits = int.from_bytes(random, "big")
    return (
        (unix_ms & (1 << 48) - 1) << 80
        | 0x7 << 76
        | (bits >> 62 & 0xFFF) << 64
        | 0b10 << 62
        | bits & (1 << 62) - 1
    )


def _encode(value: int) -> str:
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])
