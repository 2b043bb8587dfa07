"""Texts as people write them in requests."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints


def storable(text: str) -> str:
    """Give `text` back. ValueError for the one character that Postgres cannot keep."""
    if "\0" in text:
        raise ValueError("may not contain the NUL character")
    return text


Storable = AfterValidator(storable)
"""Goes behind the constraints of every text that is kept."""
MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=40), Storable]
MetadataValue = Annotated[str, StringConstraints(max_length=500), Storable]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=50)]
"""What a merchant keeps beside a payment, for itself."""
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500), Storable
]
"""Why a person does it, for the record."""
