"""Canonical bytes are RFC 8785's, whichever way they are written."""

from typing import Any

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from shared.canonical import NotCanonical, canonical_bytes

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())  # control characters and lone surrogates, too
    | st.text('"\\/\b\f\n\r\t\x00\x1f\x7f\u2028éμ😀'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("azé\ue000😀"), inner),
)


def canonical(value: Any) -> bytes | None:
    try:
        return canonical_bytes(value)
    except NotCanonical:
        return None


def by_the_library(value: Any) -> bytes | None:
    try:
        return bytes(rfc8785.dumps(value))
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        return None


@given(VALUES)
def test_bytes_are_those_of_the_library(value: Any) -> None:
    assert canonical(value) == by_the_library(value)
