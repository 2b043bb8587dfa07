"""The wire shapes of /reconcile."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class Reconciled(BaseModel):
    """How many transfers were asked about."""

    asked: int


class ParkedCallback(BaseModel):
    """A callback that was kept but not believed, and why."""

    id: int
    rail: str
    transfer_id: str | None
    reason: str | None
    source_address: str | None
    source_trusted: bool
    events: list[dict[str, Any]] | None
    received_at: datetime


class ParkedCallbacks(BaseModel):
    """Newest first; `before` with the last id gives the next page."""

    data: list[ParkedCallback]
