"""The wire shapes of /deliveries."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

State = Literal["pending", "leased", "retry", "waiting", "dead", "delivered", "skipped"]


class Delivery(BaseModel):
    """One event on its way to one destination.

    retry: it failed and is tried again at `next_attempt_at`. waiting: an earlier event of the same
    subject has not passed. dead: it failed too often, or can never pass; a person decides.
    """

    id: Annotated[int, Field(examples=[4711])]
    object: Literal["delivery"]
    destination: Annotated[str, Field(examples=["ledger"])]
    state: Annotated[State, Field(examples=["dead"])]
    event_id: Annotated[str, Field(examples=["evt_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    event_type: Annotated[str, Field(examples=["transfer.settled"])]
    subject: Annotated[str, Field(examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    seq: Annotated[int, Field(examples=[3])]
    attempts: Annotated[int, Field(examples=[10])]
    next_attempt_at: datetime | None
    last_error: Annotated[str | None, Field(examples=["there is no rule for transfer.settled"])]
    tenant_id: Annotated[str, Field(examples=["tn_01kaj3tq8efk3t9n1w6d5z2ryc"])]
    environment: Literal["sandbox", "production"]
    created_at: datetime


class Deliveries(BaseModel):
    """Oldest first; `after` with the last id gives the next page."""

    object: Literal["list"]
    oldest_age_s: Annotated[int | None, Field(examples=[93])]
    data: list[Delivery]


class Destination(BaseModel):
    """Who hears of events, and how far behind they are."""

    destination: Annotated[str, Field(examples=["ledger"])]
    object: Literal["destination"]
    function: Annotated[str, Field(examples=["ledger"])]
    kind: Literal["database", "function"]
    enabled: bool
    oldest_due_age_s: Annotated[int | None, Field(examples=[2])]
    retrying: Annotated[int, Field(examples=[1])]
    waiting: Annotated[int, Field(examples=[4])]
    dead: Annotated[int, Field(examples=[1])]
    leased: Annotated[int, Field(examples=[0])]


class Destinations(BaseModel):
    """Every destination there is."""

    object: Literal["list"]
    data: list[Destination]


class Decision(BaseModel):
    """Why; it is kept in the audit log of the organisation."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"reason": "The posting rule was added this morning"}]},
    )

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500)]
