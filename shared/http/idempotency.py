"""The Idempotency-Key header, and the hash that tells a repetition from another request."""

from typing import Annotated, Final

from fastapi import Header
from pydantic import BaseModel

from shared.canonical import NotCanonical, canonical_hash
from shared.errors import InvalidRequest

HEADER: Final = "Idempotency-Key"

IdempotencyKey = Annotated[
    str,
    Header(
        alias=HEADER,
        min_length=1,
        max_length=128,
        pattern=r"^[\x21-\x7e]+$",  # visible ASCII
        description="Names this operation. A repetition with the same body gets the first answer.",
        examples=["order-1042-attempt-1"],
    ),
]
"""Required on every POST that creates or moves money; its absence is 40002, not 40001."""


def body_hash(model: BaseModel | None) -> str:
    """SHA-256 (hex) of the RFC 8785 form of the fields the caller sent.

    Defaults are left out, so a release that adds an optional field does not change the hash of a
    request already made. None: a route without a body. Raises InvalidRequest for numbers and text
    that JSON cannot carry exactly.
    """
    sent = {} if model is None else model.model_dump(mode="json", exclude_unset=True)
    try:
        return canonical_hash(sent)
    except NotCanonical as inexact:
        raise InvalidRequest("the body holds a number or text that JSON cannot carry") from inexact
