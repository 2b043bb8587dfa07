"""Canonical bytes: RFC 8785 (JCS) and their SHA-256. Normalisation (NFC) happened at the edge."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from rfc8785 import CanonicalizationError, dumps


class NotCanonical(ValueError):
    """JCS has no form for this value: a NaN, an integer beyond 2^53 - 1, a lone surrogate."""


def canonical_bytes(value: Any) -> bytes:
    """The one byte sequence that stands for `value`. NotCanonical when there is none."""
    try:
        return bytes(dumps(value))
    except (CanonicalizationError, UnicodeEncodeError) as odd:
        raise NotCanonical(str(odd)) from odd


def canonical_hash(value: Mapping[str, Any]) -> str:
    """Lower-case hex SHA-256 of the canonical bytes."""
    return sha256(canonical_bytes(value)).hexdigest()
