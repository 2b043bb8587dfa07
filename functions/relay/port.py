"""What a distributed log must be able to do for us. jetstream.py is one; a Kafka one is another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """One event. aggregate: transfer, payment_intent …; stream: the one that its order is of."""

    event_id: str
    environment: str
    aggregate: str
    stream: str
    body: bytes
    headers: Mapping[str, str]


class LogUnavailable(Exception):
    """The log does not answer. Nothing is known about what was not acknowledged."""


class RecordRefused(Exception):
    """The log answers and does not take this record. The message is its reason."""


class Log(Protocol):
    """Appends durably. A second append of the same event_id has no effect."""

    async def open(self) -> None:
        """Reach the log, and make what it needs on first use. Raises LogUnavailable."""

    async def append(self, record: Record) -> None:
        """Return once the log has the record for good. Raises LogUnavailable, RecordRefused."""

    async def aclose(self) -> None:
        """Let go of the connection. `open` makes a new one."""
