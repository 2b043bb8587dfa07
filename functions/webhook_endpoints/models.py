"""The wire shapes of /webhook-endpoints."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from shared.http.instants import Instant
from shared.http.texts import Storable

ENDPOINT_ID = "whe_01kaj3v7wvf4fr8mnp5sye2s6k"
EVENT_ID = "evt_01kaj3vxhbfeasgnw4k6x1c2pd"
_SECRET = "whsec_2v5hXW1p8C0nQd7mLk3uPz6SgAo9Di1Rk4Vt2wYbE5c="  # noqa: S105  an example
_PAYLOAD = (
    '{"id":"evt_01kaj3vxhbfeasgnw4k6x1c2pd","type":"payment_intent.succeeded",'
    '"api_version":"2026-11-21","livemode":false,"timestamp":"2026-11-21T08:00:22.735179Z",'
    '"data":{"amount":"100.00","status":"succeeded","currency":"KES","sequence":2,'
    '"transfer_id":"tr_01kaj3vq1nfr5r3e2n9v4d8yzx","amount_received":"100.00",'
    '"payment_intent_id":"pi_01kaj3v7wvf4fr8mnp5sye2s6k"}}'
)


DeliveryStatus = Literal["pending", "delivered", "failed", "missed"]


Url = Annotated[
    str,
    StringConstraints(min_length=8, max_length=2048),
    Field(examples=["https://shop.example/hooks/stalela"]),
]
EventFilter = Annotated[
    str, StringConstraints(pattern=r"^(\*|[a-z_]+(\.[a-z_]+)*(\.\*)?)$", max_length=80)
]
EventFilters = Annotated[
    list[EventFilter],
    Field(min_length=1, max_length=50, examples=[["payment_intent.*", "transfer.settled"]]),
]
Description = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=500),
    Storable,
    Field(examples=["Order system"]),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class CreateEndpoint(_Body):
    """Where to send, and what: event types, a whole family as `payment_intent.*`, or `*`."""

    url: Url
    event_types: EventFilters = ["*"]
    description: Description | None = None


class UpdateEndpoint(_Body):
    """What is to change."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"minProperties": 1, "examples": [{"event_types": ["*"]}]},
    )

    url: Url = ""
    event_types: EventFilters = ["*"]
    description: Description | None = None

    @model_validator(mode="after")
    def _something(self) -> "UpdateEndpoint":
        if not self.model_fields_set:
            raise ValueError("give url, event_types or description")
        return self


class Replay(_Body):
    """The span of time of the events' first delivery; `to` is now when absent."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"from": "2026-11-21T06:00:00Z", "statuses": ["failed"]}]},
    )

    from_at: Annotated[Instant, Field(alias="from")]
    to_at: Annotated[Instant | None, Field(alias="to")] = None
    statuses: Annotated[
        list[Literal["delivered", "failed", "missed"]], Field(min_length=1, max_length=3)
    ] = ["failed", "missed"]


class Page(BaseModel):
    """The query of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100, description="How many deliveries a page holds.")] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,18}\.evt_[0-9a-z]{26}$",
            description="`next_cursor` of the page before.",
        ),
    ] = None
    status: Annotated[
        DeliveryStatus | None, Field(description="Only deliveries in this state.")
    ] = None


class Endpoint(BaseModel):
    """An endpoint without its secret.

    `paused_until`: it failed and is tried again then. `former_secret_until`: both secrets sign.
    """

    id: Annotated[str, Field(examples=[ENDPOINT_ID])]
    object: Literal["webhook_endpoint"]
    url: Url
    event_types: EventFilters
    description: Annotated[str | None, Field(examples=["Order system"])]
    status: Literal["enabled", "disabled"]
    disabled_reason: Literal["requested", "gone", "failing"] | None
    disabled_at: datetime | None
    paused_until: datetime | None
    failing_since: datetime | None
    former_secret_until: datetime | None
    environment: Literal["sandbox", "production"]
    created_by: Annotated[str, Field(examples=["key_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    created_at: datetime
    updated_at: datetime


class EndpointWithSecret(Endpoint):
    """With the secret, which only this answer shows; null, and a note, when it is a replay."""

    secret: Annotated[str | None, Field(examples=[_SECRET])]
    note: str | None = None


class Endpoints(BaseModel):
    """Oldest first."""

    data: list[Endpoint]


class EndpointDeleted(BaseModel):
    """Nothing is sent there any more."""

    id: Annotated[str, Field(examples=[ENDPOINT_ID])]
    object: Literal["webhook_endpoint"]
    deleted: Literal[True]


class Delivery(BaseModel):
    """One event for one endpoint. `missed`: it happened while the endpoint was disabled.

    `next_attempt_at` is null when it is over, or waits for an earlier event of the same payment.
    """

    event_id: Annotated[str, Field(examples=[EVENT_ID])]
    object: Literal["webhook_delivery"]
    webhook_endpoint_id: Annotated[str, Field(examples=[ENDPOINT_ID])]
    type: Annotated[str, Field(examples=["payment_intent.succeeded"])]
    status: DeliveryStatus
    attempts: Annotated[int, Field(examples=[2])]
    status_code: Annotated[int | None, Field(examples=[503])]
    next_attempt_at: datetime | None
    created_at: datetime
    finished_at: datetime | None


class Pagination(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=[f"1795248022735179.{EVENT_ID}"])]


class Deliveries(BaseModel):
    """Newest first."""

    data: list[Delivery]
    pagination: Pagination


class Attempt(BaseModel):
    """What one attempt met: a status and the first 2 KB of the answer, or the error."""

    number: Annotated[int, Field(examples=[1])]
    started_at: datetime
    duration_ms: Annotated[int, Field(examples=[184])]
    url: Url
    status_code: Annotated[int | None, Field(examples=[503])]
    error: Annotated[str | None, Field(examples=["timeout"])]
    response_excerpt: Annotated[str | None, Field(examples=["try again later"])]


class DeliveryDetail(BaseModel):
    """A delivery, the bytes that were sent as text, and every attempt; both kept for 30 days."""

    delivery: Delivery
    payload: Annotated[str | None, Field(examples=[_PAYLOAD])]
    attempts: list[Attempt]


class Replayed(BaseModel):
    """How many are queued again. `next_from`: there were more; go on from there."""

    object: Literal["webhook_replay"]
    queued: Annotated[int, Field(examples=[17])]
    next_from: datetime | None


class Resealed(BaseModel):
    """How many endpoints are under the current master key now, and how many do not open."""

    resealed: Annotated[int, Field(examples=[12])]
    failed: Annotated[int, Field(examples=[0])]
