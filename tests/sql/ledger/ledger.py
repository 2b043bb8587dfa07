"""A tenant's books, and the events that are booked into them."""

# ruff: noqa: S608 -- statements are put together from constants of this file

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from tests.support.sql import Api, Books, Headers, Row, digest

ENTRIES = """
select j.number, e.leg, d.code as debit, c.code as credit, e.amount_minor, e.currency
from ledger.journals as j
join ledger.journal_entries as e on e.journal_no = j.journal_no
join ledger.accounts as d on d.account_id = e.debit_account_id
join ledger.accounts as c on c.account_id = e.credit_account_id
where j.tenant_id = %s
order by j.number, e.leg_no
"""
BALANCES = """
select a.code, a.currency, b.balance_minor
from ledger.accounts as a
join ledger.balances as b on b.account_id = a.account_id
where a.tenant_id = %s and b.balance_minor <> 0
"""
DELIVERY = "row(%s, %s, %s, %s, %s, %s, %s, 0, %s::timestamptz, null, %s::jsonb)::payments.delivery"


@dataclass(frozen=True)
class Event:
    """A delivery of the outbox."""

    type: str
    transfer_id: str
    payload: Row
    tenant_id: str
    environment: str = "sandbox"
    seq: int = 4
    occurred_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    event_id: str = field(default_factory=lambda: f"evt_{uuid.uuid4().hex[:26]}")
    outbox_id: int = field(default_factory=lambda: uuid.uuid4().int >> 66)

    def changed(self, **changes: Any) -> "Event":
        """The same event with other words in its payload."""
        return replace(self, payload=self.payload | changes)

    @property
    def values(self) -> list[Any]:
        return [
            self.outbox_id,
            self.event_id,
            self.type,
            self.tenant_id,
            self.environment,
            self.transfer_id,
            self.seq,
            self.occurred_at,
            json.dumps(self.payload),
        ]


@dataclass(frozen=True)
class Ledger:
    """The books of one tenant in the sandbox."""

    api: Api
    books: Books
    tenant_id: str = field(default_factory=lambda: f"tn_{uuid.uuid4().hex}")

    def open(self) -> "Ledger":
        """Write the tenant and a secret key."""
        self.books.run(
            "insert into public.tenants (tenant_id, name, country, status, plan)"
            " values (%s, 'A shop', 'KE', 'active', 'unlimited')",
            self.tenant_id,
        )
        self.books.run(
            "insert into public.api_keys (key_id, tenant_id, environment, kind, name, key_hash,"
            " last4, scopes, created_by)"
            " values (%s, %s, 'sandbox', 'secret', 'test', %s, '0000', '{*}', 'test')",
            f"key_{uuid.uuid4().hex}",
            self.tenant_id,
            digest(self.tenant_id),
        )
        return self

    @property
    def headers(self) -> Headers:
        """What the function sends for the secret key."""
        return {"x-stalela-key-hash": digest(self.tenant_id)}

    def person(self, app_role: str = "finance") -> Headers:
        """What the function sends for a new person with this role."""
        user_id = str(uuid.uuid4())
        self.books.run("insert into public.users (user_id) values (%s)", user_id)
        self.books.run(
            "insert into public.memberships (tenant_id, user_id, app_role) values (%s, %s, %s)",
            self.tenant_id,
            user_id,
            app_role,
        )
        return {
            "x-stalela-user-id": user_id,
            "x-stalela-tenant-id": self.tenant_id,
            "x-stalela-environment": "sandbox",
        }

    def call(self, function: str, headers: Headers | None = None, **arguments: Any) -> Row:
        """The body of an answer to the secret key, or to `headers`."""
        answer = self.api.call("fn_ledger", headers or self.headers, function, **arguments)
        return dict(json.loads(answer["body"]))

    def text(self, function: str, **arguments: Any) -> str:
        """The same, byte for byte."""
        return str(self.api.call("fn_ledger", self.headers, function, **arguments)["body"])

    def event(self, type_: str = "settled", transfer_id: str | None = None, **words: Any) -> Event:
        """An event of a transfer of 100.00 KES by M-Pesa."""
        payload = {
            "purpose": "collection",
            "intent": "PULL",
            "rail": "mpesa",
            "amount": "100.00",
            "currency": "KES",
            "triggered_by": "callback",
        }
        return Event(
            f"transfer.{type_}",
            transfer_id or f"tr_{uuid.uuid4().hex[:26]}",
            {name: word for name, word in (payload | words).items() if word is not None},
            self.tenant_id,
        )

    def refund(self, original: Event, amount: str, **words: Any) -> Event:
        """A refund of a collection, settled."""
        return self.event(
            purpose="refund",
            intent="PUSH",
            related_transfer_id=original.transfer_id,
            amount=amount,
            **words,
        )

    def book(self, *events: Event) -> list[tuple[str, bool]]:
        """Book them as one batch; (problem, is it final) of those that were refused."""
        return book(self.books, *events)

    def tariff(self, **terms: Any) -> None:
        """Agree on a tariff with this tenant."""
        row = {
            "tariff_id": f"t_{uuid.uuid4().hex}",
            "tenant_id": self.tenant_id,
            "purpose": "*",
            "rail": "*",
            "currency": "*",
            "rate_bps": 0,
            "fixed_minor": 0,
            "tax_bps": 0,
            "reserve_bps": 0,
            "reserve_days": 0,
            "is_fee_returned": True,
            "valid_from": "2026-01-01",
        } | terms
        self.books.run(
            f"insert into ledger.tariffs ({', '.join(row)})"
            f" values ({', '.join(['%s'] * len(row))})",
            *row.values(),
        )

    def balances(self, currency: str = "KES") -> dict[str, int]:
        """What accounts hold, debits positive, without those that hold nothing."""
        return {
            row["code"].replace(self.tenant_id, "me"): row["balance_minor"]
            for row in self.books.rows(BALANCES, self.tenant_id)
            if row["currency"] == currency
        }

    def entries(self, number: int | None = None) -> list[tuple[str, str, str, int]]:
        """(leg, debit, credit, minor) of one journal, or of all."""
        return [
            (
                row["leg"],
                row["debit"].replace(self.tenant_id, "me"),
                row["credit"].replace(self.tenant_id, "me"),
                row["amount_minor"],
            )
            for row in self.books.rows(ENTRIES, self.tenant_id)
            if number in (None, row["number"])
        ]

    def journals(self) -> list[Row]:
        """The rows of the journals, oldest first."""
        return self.books.rows(
            "select * from ledger.journals where tenant_id = %s order by number", self.tenant_id
        )

    def verify(self) -> Row:
        """What the verifier says of the whole chain."""
        return dict(
            self.books.value(
                "select ledger.verify_chain(%s, 'sandbox', 1, 9223372036854775807)", self.tenant_id
            )
        )


def book(books: Books, *events: Event) -> list[tuple[str, bool]]:
    """Book events of any tenants as one batch; (problem, is it final) of the refused."""
    return [(row["problem"], row["is_final"]) for row in refused(books, *events)]


def refused(books: Books, *events: Event) -> list[Row]:
    """The same, with the outbox_id of each."""
    return books.rows(
        "select r.outbox_id, r.problem, r.is_final from unnest(ledger.book_events(array["
        + ", ".join([DELIVERY] * len(events))
        + "])) as r order by r.outbox_id",
        *(value for event in events for value in event.values),
    )


@contextmanager
def bent(books: Books) -> Iterator[None]:
    """Whoever holds the disk: triggers do not run, and what is done is undone at the end."""
    with books.connection.transaction(force_rollback=True):
        books.run("set local session_replication_role = replica")
        yield
