"""The log of every request received and every callback sent, and the counts tests ask for."""

import json
import sqlite3
import sys
from typing import Any

from scripts.stack.daraja.clock import wall

COUNTED = """
select {column} as name, count(*) as n from {table}
where {column} is not null and {only} group by {column}
"""
CHARGES = "kind in ('prompt', 'deposit')"


def mask(phone: str) -> str:
    """For the console: 2547******78."""
    return phone[:4] + "*" * (len(phone) - 6) + phone[-2:]


def say(event: str, **fields: object) -> None:
    """One JSON line on standard output, for a person who watches the stack."""
    sys.stdout.write(json.dumps({"event": event, **fields}) + "\n")
    sys.stdout.flush()


class Journal:
    """Requests as they came in, beside the deliveries of the books."""

    def __init__(self, store: sqlite3.Connection) -> None:
        self._store = store

    def open(self, endpoint: str, method: str, path: str) -> int:
        """Enters a request as it arrives, so that one without an answer is seen too."""
        return (
            self._store.execute(
                "insert into requests (at, endpoint, method, path) values (?, ?, ?, ?)",
                (wall().isoformat(), endpoint, method, path),
            ).lastrowid
            or 0
        )

    def note(self, request_id: int, **fields: Any) -> None:
        """Adds what is known by now: phone, account_reference, result, faults, status."""
        assignments = ", ".join(f"{name} = :{name}" for name in fields)
        self._store.execute(
            f"update requests set {assignments} where id = :id",  # noqa: S608 - our own names
            {**fields, "id": request_id},
        )

    def read(self, phone: str | None, account_reference: str | None, since: int) -> dict[str, Any]:
        """Requests after id `since` and all callbacks, oldest first and narrowed; counts of all."""
        requests = self._store.execute(
            "select * from requests where id > ? and (? is null or phone = ?)"
            " and (? is null or account_reference = ?) order by id",
            (since, phone, phone, account_reference, account_reference),
        )
        callbacks = self._store.execute(
            "select * from deliveries where (? is null or phone = ?)"
            " and (? is null or account_reference = ?) order by id",
            (phone, phone, account_reference, account_reference),
        )
        return {
            "requests": [
                row | {"faults": json.loads(row["faults"])} for row in map(dict, requests)
            ],
            "callbacks": [_readable(dict(row)) for row in callbacks],
            "counts": self.counts(),
        }

    def counts(self) -> dict[str, Any]:
        return {
            "requests": self._count("requests", "endpoint"),
            "results": self._count("requests", "endpoint || ' ' || result"),
            "prompts_by_phone": self._count("prompts", "phone"),
            "prompts_by_reference": self._count("prompts", "account_reference"),
            "charges_by_phone": self._count("ledger", "payer", CHARGES),
            "charges_by_reference": self._count("ledger", "account_reference", CHARGES),
            "payouts_by_phone": self._count("ledger", "paid_to", "kind = 'payout'"),
            "reversals_by_phone": self._count("ledger", "paid_to", "kind = 'reversal'"),
        }

    def _count(self, table: str, column: str, only: str = "true") -> dict[str, int]:
        rows = self._store.execute(COUNTED.format(table=table, column=column, only=only))
        return {row["name"]: row["n"] for row in rows}


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "body": row["body"].decode("utf-8", "replace"),
        "headers": json.loads(row["headers"]),
    }
