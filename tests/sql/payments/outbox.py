"""Destinations, writers and consumers of the outbox: each is a session of its own."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from psycopg.types.json import Jsonb

from scripts.stack.database import Database
from tests.support.sql import Books, Row

TENANT = "tn_outbox"


def add_destination(books: Books, name: str, kind: str = "database", **changes: Any) -> str:
    """A destination of a test, which nothing pokes: there is no function of its name."""
    values = {"batch": 100, "lease_s": 60, "max_attempts": 10, "stalled_after": 5} | changes
    books.run(
        "insert into public.destinations (destination, function_name, kind, batch, lease_s,"
        " max_attempts, stalled_after, enabled, description)"
        " values (%s, %s, %s, %s, %s, %s, %s, true, 'Of a test')",
        name,
        name,
        kind,
        values["batch"],
        values["lease_s"],
        values["max_attempts"],
        values["stalled_after"],
    )
    return name


@dataclass(frozen=True)
class Log:
    """A destination that hears of every event whose type starts with its name."""

    books: Books
    database: Database
    destination: str

    @classmethod
    def open(
        cls, books: Books, database: Database, kind: str = "database", **changes: Any
    ) -> "Log":
        name = add_destination(books, f"test_{uuid.uuid4().hex[:12]}", kind, **changes)
        books.run(
            "insert into public.tenants (tenant_id, name, country, status, plan)"
            " values (%s, 'A shop', 'KE', 'active', 'unlimited') on conflict do nothing",
            TENANT,
        )
        books.run(
            "insert into public.event_subscriptions (pattern, destination, enabled, description)"
            " values (%s, %s, true, 'Of a test')",
            f"{name}.%",
            name,
        )
        return cls(books, database, name)

    @contextmanager
    def session(self) -> Iterator["Session"]:
        """A connection of its own."""
        with Session(self) as opened:
            yield opened

    def write(self, stream: str, seq: int, **payload: Any) -> None:
        """One event, committed."""
        with self.session() as writer:
            writer.write(stream, seq, **payload)

    def exceptions(self) -> list[tuple[str, int, str, int]]:
        """(stream, seq, state, attempts) of what did not simply pass, in order."""
        rows = self.books.rows(
            "select ordering_key, seq, state, attempts from payments.outbox_exceptions"
            " where destination = %s order by outbox_id",
            self.destination,
        )
        return [
            (name_of(row["ordering_key"]), row["seq"], row["state"], row["attempts"])
            for row in rows
        ]

    def alerts(self) -> list[tuple[str, str, int]]:
        """(kind, status, occurrences) of the alerts about this destination."""
        rows = self.books.rows(
            "select kind, status, occurrences from public.alerts"
            " where subject like %s order by alert_id",
            f"{self.destination}/%",
        )
        return [tuple(row.values()) for row in rows]

    def postpone(self) -> None:
        """Let no retry's time come during this test."""
        self.books.run(
            "update payments.outbox_exceptions set next_attempt_at = clock_timestamp() + '1 hour'"
            " where destination = %s",
            self.destination,
        )

    def make_due(self) -> None:
        """Let the time of every retry come."""
        self.books.run(
            "update payments.outbox_exceptions set next_attempt_at = clock_timestamp()"
            " where destination = %s",
            self.destination,
        )


class Session:
    """One connection that writes or consumes. Every statement commits unless `begin` was called."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.books = Books(log.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.books.connection.close()

    def begin(self) -> Self:
        self.books.run("begin")
        return self

    def commit(self) -> None:
        self.books.run("commit")

    def rollback(self) -> None:
        self.books.run("rollback")

    def take_number(self) -> None:
        """Get a transaction id now, before anything is written."""
        self.books.run("select pg_current_xact_id()")

    def write(self, stream: str, seq: int, **payload: Any) -> None:
        """One event of a stream, as record_transfer_event writes it."""
        transfer = {
            # Unique in the database; `keys` takes the destination off again.
            "transfer_id": f"{self.log.destination}:{stream}",
            "tenant_id": TENANT,
            "environment": "sandbox",
            "version": seq,
        }
        self.books.run(
            "select payments.record_transfer_event("
            " jsonb_populate_record(null::payments.transfers, %s), %s, %s)",
            Jsonb(transfer),
            f"{self.log.destination}.happened",
            Jsonb(payload),
        )

    def take(self, max_rows: int = 100) -> list[Row]:
        """payments.take_events; whole rows."""
        return self.books.rows(
            "select * from payments.take_events(%s, %s)", self.log.destination, max_rows
        )

    def taken(self, max_rows: int = 100) -> list[tuple[str, int]]:
        """(stream, seq) of what payments.take_events returns."""
        return keys(self.take(max_rows))

    def fail(self, row: Row, error: str = "no", *, final: bool = False) -> list[int]:
        """payments.fail_event."""
        held: list[int] = self.books.value(
            "select payments.fail_event(%s, %s, %s, %s)",
            self.log.destination,
            row["outbox_id"],
            error,
            final,
        )
        return held

    def lease(self, max_rows: int = 100) -> list[Row]:
        """payments.lease_events; whole rows."""
        return self.books.rows(
            "select * from payments.lease_events(%s, %s)", self.log.destination, max_rows
        )

    def acknowledge(self, *rows: Row) -> int:
        """payments.acknowledge_events."""
        number: int = self.books.value(
            "select payments.acknowledge_events(%s, %s::bigint[])",
            self.log.destination,
            [row["outbox_id"] for row in rows],
        )
        return number

    def give_back(self, row: Row, retry_after_s: int | None = None) -> list[int]:
        """payments.return_event."""
        returned: list[int] = self.books.value(
            "select payments.return_event(%s, %s, 'no', %s)",
            self.log.destination,
            row["outbox_id"],
            retry_after_s,
        )
        return returned


def keys(rows: list[Row]) -> list[tuple[str, int]]:
    """(stream, seq) of each delivery."""
    return [(name_of(row["ordering_key"]), row["seq"]) for row in rows]


def name_of(ordering_key: str) -> str:
    """The stream as a test calls it."""
    return ordering_key.partition(":")[2]
