"""The wire shapes of /events. The events themselves are described by events.json."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

EVENT_ID = "evt_01kaj3vxhbfeasgnw4k6x1c2pd"

EventFilter = Annotated[
    str, StringConstraints(pattern=r"^(\*|[a-z_]+(\.[a-z_]+)*(\.\*)?)$", max_length=80)
]


class Page(BaseModel):
    """The query of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100, description="How many events a page holds.")] = 20
    after: Annotated[
        str | None,
        Field(
            pattern=r"^evt_[0-9a-z]{26}$",
            description="The last event that was seen: `next_after`, or a `webhook-id`.",
            examples=[EVENT_ID],
        ),
    ] = None
    type: Annotated[
        list[EventFilter] | None,
        Field(
            max_length=50,
            description="Only these: a type, a family as `transfer.*`. May be repeated.",
            examples=[["payment_intent.*"]],
        ),
    ] = None


class Event(BaseModel):
    """What happened. `data` has a schema per `type` and `api_version` in events.json."""

    id: Annotated[str, Field(examples=[EVENT_ID])]
    type: Annotated[str, Field(examples=["payment_intent.succeeded"])]
    api_version: Annotated[str, Field(examples=["2026-11-21"])]
    livemode: Annotated[bool, Field(examples=[False])]
    timestamp: datetime
    data: Annotated[
        dict[str, Any],
        Field(
            examples=[
                {
                    "amount": "100.00",
                    "status": "succeeded",
                    "currency": "KES",
                    "sequence": 2,
                    "transfer_id": "tr_01kaj3vq1nfr5r3e2n9v4d8yzx",
                    "amount_received": "100.00",
                    "payment_intent_id": "pi_01kaj3v7wvf4fr8mnp5sye2s6k",
                }
            ]
        ),
    ]


class Pagination(BaseModel):
    """`next_after` goes into `after` of the next request, now or later: it is always given."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_after: Annotated[str | None, Field(examples=[EVENT_ID])]


class Events(BaseModel):
    """Oldest first."""

    data: list[Event]
    pagination: Pagination


class Catalogue(BaseModel):
    """A JSON Schema (2020-12) of any event: one of its `$defs`, each a type in one version."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "$schema": "https://json-schema.org/draft/2020-12/schema",
                    "title": "Stalela events",
                    "$defs": {"transfer.settled@2026-11-21": {"type": "object"}},
                }
            ]
        },
    )

    title: Literal["Stalela events"]
