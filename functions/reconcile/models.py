"""The wire shapes of /reconcile."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

# A callback whose token no transfer has: what a forger or a stale link sends.
_EVENT = {
    "outcome": "succeeded",
    "source": "callback",
    "rail_ref": "ws_CO_21112026080012345712345678",
    "receipt": "UKL5K3VX1N",
    "amount_minor": 10000,
    "currency": "KES",
    "payer_masked": "+2547******78",
    "code": "0",
}


class Reconciled(BaseModel):
    """How many transfers were asked about."""

    asked: Annotated[int, Field(examples=[3])]


class ParkedCallback(BaseModel):
    """A callback that was kept but not believed, and why."""

    id: Annotated[int, Field(examples=[4711])]
    rail: Annotated[str, Field(examples=["mpesa"])]
    transfer_id: Annotated[str | None, Field(examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    reason: Annotated[str | None, Field(examples=["amount_mismatch"])]
    source_address: Annotated[str | None, Field(examples=["196.201.214.200"])]
    source_trusted: bool
    events: Annotated[list[dict[str, Any]] | None, Field(examples=[[_EVENT]])]
    received_at: datetime


class ParkedCallbacks(BaseModel):
    """Newest first; `before` with the last id gives the next page."""

    data: list[ParkedCallback]
