"""Text that is sealed or printed: NFC, trimmed, and nothing in it that cannot be seen."""

import unicodedata
from typing import Annotated

from pydantic import BeforeValidator, StringConstraints

# Unseen, they make a paper read otherwise than what was sealed: "100" as "001".
_TURNING = frozenset(("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"))


def _clean(text: object) -> object:
    """NFC, trimmed, one line. ValueError for control characters and for broken UTF-16."""
    return _cleaned(text, keep="")


def _clean_lines(text: object) -> object:
    return _cleaned(text, keep="\n")


def _cleaned(text: object, keep: str) -> object:
    if not isinstance(text, str):
        return text
    clean = unicodedata.normalize("NFC", text).strip()
    for character in clean:
        kind = unicodedata.category(character)
        if kind in ("Cc", "Cs") and character not in keep:
            raise ValueError("may not contain control characters")
        if unicodedata.bidirectional(character) in _TURNING:
            raise ValueError("may not contain characters that turn the direction of text")
    return clean


Clean = BeforeValidator(_clean)
Text50 = Annotated[str, Clean, StringConstraints(min_length=1, max_length=50)]
Text64 = Annotated[str, Clean, StringConstraints(min_length=1, max_length=64)]
Text120 = Annotated[str, Clean, StringConstraints(min_length=1, max_length=120)]
Text200 = Annotated[str, Clean, StringConstraints(min_length=1, max_length=200)]
Notes = Annotated[
    str, BeforeValidator(_clean_lines), StringConstraints(min_length=1, max_length=400)
]
