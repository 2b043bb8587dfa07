"""The wire shapes of /alerts."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Environment = Literal["sandbox", "production"]


class Drained(BaseModel):
    """How much was done: digests kept, and mails tried."""

    done: Annotated[int, Field(examples=[3])]


class Page(BaseModel):
    """Which alerts, newest first. `cursor` is `next_cursor` of the page before."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[
        Literal["open", "resolved"], Field(description="Those that wait, or those that are done.")
    ] = "open"
    kind: Annotated[
        str | None,
        Field(pattern=r"^[a-z][a-z_]{0,60}$", description="Alerts of this kind only."),
    ] = None
    limit: Annotated[int, Field(ge=1, le=100, description="How many alerts a page holds.")] = 20
    cursor: Annotated[
        str | None,
        Field(pattern=r"^[0-9]{1,18}$", description="`next_cursor` of the page before."),
    ] = None


class Reason(BaseModel):
    """Why it is done, for the record."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"reason": "Not on the statement of 21 November"}]},
    )

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500)]


class Alert(BaseModel):
    """What a person must look at: one open alert per kind and subject, counted while it lasts."""

    id: Annotated[int, Field(examples=[4711])]
    object: Literal["alert"]
    kind: Annotated[str, Field(examples=["callback_parked"])]
    severity: Literal["info", "warning", "critical"]
    subject: Annotated[str, Field(examples=["mpesa unmatched"])]
    title: Annotated[str, Field(examples=["A callback of a rail was kept but not believed"])]
    advice: Annotated[str | None, Field(examples=["Compare it with the rail's statement."])]
    details: Annotated[dict[str, Any], Field(examples=[{"callback_id": 42}])]
    status: Literal["open", "resolved"]
    occurrences: Annotated[int, Field(examples=[3])]
    tenant_id: Annotated[str | None, Field(examples=["tn_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    environment: Environment | None
    first_at: datetime
    last_at: datetime
    resolved_at: datetime | None
    resolution: Annotated[str | None, Field(examples=["Not on the statement of 21 November"])]


class Pagination(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=["4711"])]


class Alerts(BaseModel):
    """Newest first."""

    data: list[Alert]
    pagination: Pagination


class ResolvedAlert(BaseModel):
    """A closed alert. `callbacks_closed`: unmatched callbacks that were closed with it."""

    id: Annotated[int, Field(examples=[4711])]
    object: Literal["alert"]
    kind: Annotated[str, Field(examples=["callback_parked"])]
    subject: Annotated[str, Field(examples=["mpesa unmatched"])]
    status: Literal["resolved"]
    resolved_at: datetime
    resolution: Annotated[str, Field(examples=["Not on the statement of 21 November"])]
    callbacks_closed: Annotated[int, Field(examples=[2])]


class ResolvedCallback(BaseModel):
    """A callback that no longer waits for a person."""

    id: Annotated[int, Field(examples=[42])]
    object: Literal["callback"]
    rail: Annotated[str, Field(examples=["mpesa"])]
    disposition: Literal["resolved"]
    reason: Annotated[str, Field(examples=["Not on the statement of 21 November"])]
