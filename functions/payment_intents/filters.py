"""The query parameters of GET /payment-intents."""

import re
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Query
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

from shared.errors import InvalidParameter, InvalidRequest
from shared.http.instants import Instant
from shared.http.texts import Storable, storable
from shared.http.validation import unknown_parameter
from shared.money import Money

_METADATA = re.compile(r"metadata\[([^\[\]\0]{1,40})\]")

Status = Literal[
    "requires_payment_method", "processing", "partially_paid", "succeeded", "canceled", "expired"
]


class Filters(BaseModel):
    """All must hold. `metadata[order]=20418` filters by metadata; amounts need `currency`."""

    model_config = ConfigDict(extra="allow")

    limit: Annotated[int, Field(ge=1, le=100, description="How many intents a page holds.")] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,18}\.pi_[0-9a-z]{26}$",
            description="`next_cursor` of the page before.",
        ),
    ] = None
    status: Annotated[Status | None, Field(description="Only intents in this state.")] = None
    currency: Annotated[
        Annotated[str, Field(max_length=8), Storable] | None,
        Field(description="Only intents in this currency.", examples=["KES"]),
    ] = None
    created_after: Annotated[Instant | None, Field(description="Created at or after this.")] = None
    created_before: Annotated[Instant | None, Field(description="Created before this.")] = None
    amount_gte: Annotated[
        str | None,
        Field(max_length=32, description="At least this much.", examples=["10.00"]),
    ] = None
    amount_lte: Annotated[
        str | None,
        Field(max_length=32, description="At most this much.", examples=["500.00"]),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of payments.list_intents; refuses unknown parameters by name."""
        found: dict[str, Any] = {
            "status": self.status,
            "currency": self.currency,
            "created_after": _iso(self.created_after),
            "created_before": _iso(self.created_before),
            "amount_gte_minor": self._minor("amount_gte"),
            "amount_lte_minor": self._minor("amount_lte"),
            "metadata": self._metadata() or None,
        }
        return {
            "filters": {name: value for name, value in found.items() if value is not None},
            "page_size": self.limit,
            "page_after": self.cursor,
        }

    def _minor(self, name: str) -> int | None:
        value = getattr(self, name)
        if value is None:
            return None
        if self.currency is None:
            raise InvalidParameter(
                f"{name} needs currency beside it, which says how many decimals it has.",
                errors=[{"pointer": "/currency", "detail": f"required with {name}", "in": "query"}],
            )
        return Money.parse(value, self.currency, pointer=f"/{name}", positive=False).minor

    def _metadata(self) -> dict[str, str]:
        wanted: dict[str, str] = {}
        for name, value in (self.model_extra or {}).items():
            key = _METADATA.fullmatch(name)
            if key is None:
                raise unknown_parameter(name, [*Filters.model_fields, "metadata[…]"])
            wanted[key[1]] = _storable(name, str(value))
        return wanted


ListFilters = Annotated[Filters, Query()]
METADATA_FILTER: Final[dict[str, Any]] = {
    "name": "metadata",
    "in": "query",
    "style": "deepObject",
    "description": "Only intents with this metadata: `metadata[order]=20418`.",
    "schema": {
        "type": "object",
        "propertyNames": {"pattern": r"^[^\[\]\x00]{1,40}$"},
        "additionalProperties": {"type": "string"},
        "examples": [{"order": "20418"}],
    },
}
"""In the document by hand: its names are the merchant's own, so Filters has no field for it."""


def _storable(name: str, value: str) -> str:
    try:
        return storable(value)
    except ValueError as rule:
        raise InvalidRequest(
            f"{name}: {rule}",
            errors=[{"pointer": f"/{name}", "detail": str(rule), "in": "query"}],
        ) from None


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at else None
