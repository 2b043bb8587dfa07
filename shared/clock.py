"""Instants: aware, UTC, RFC 3339 on the wire. Rules take time as an argument; edges ask here."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The wall clock, aware, UTC."""
    return datetime.now(UTC)


def to_wire(instant: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: "2026-11-21T07:10:00.123Z". `instant` must be aware."""
    assert instant.tzinfo is not None, "an instant has a zone"
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def from_wire(text: str) -> datetime:
    """The aware instant written in `text` (RFC 3339). Raises ValueError when it has no zone."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError("a time needs its zone, such as 2026-11-21T07:10:00Z")
    return instant.astimezone(UTC)
