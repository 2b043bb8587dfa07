"""The simulator's own books: which prompts were shown, who paid whom, what was called back.

Nothing here waits or sends. A prompt and the payment it caused change in one transaction.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scripts.stack.daraja.accounts import Accounts
from scripts.stack.daraja.clock import wall
from scripts.stack.daraja.faults import MANY, Selection


@dataclass(frozen=True)
class Order:
    """A push request after validation. Amount in whole shillings, phone as 2547… or 2541…."""

    short_code: str
    party_b: str
    phone: str
    amount: int
    account_reference: str
    description: str
    callback_url: str
    well_paired: bool


@dataclass(frozen=True)
class Prompt:
    """A row of prompts; `*_v` are virtual seconds, `*_at` wall time in ISO 8601 UTC."""

    id: int
    checkout_request_id: str
    merchant_request_id: str
    short_code: str
    party_b: str
    phone: str
    amount: int
    account_reference: str
    description: str
    callback_url: str
    faults: str
    opened_at: str
    expires_v: float
    due_v: float
    due_code: str
    ignored: int
    state: str
    result_code: str | None
    closed_at: str | None
    closed_v: float | None
    receipt: str | None
    paid_amount: int | None
    contradicted: int

    @cached_property
    def selection(self) -> Selection:
        return Selection(MANY.validate_json(self.faults))


@dataclass(frozen=True, slots=True)
class Registration:
    """Where a short code has its C2B addresses, and what happens when validation is silent."""

    confirmation_url: str
    validation_url: str
    response_type: str
    version: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A callback to be sent once, at virtual time `due_v`, from `source` (None: any address).

    `about`: the prompt, the conversation or the receipt it tells of.
    """

    id: int
    about: str
    kind: str
    url: str
    source: str | None
    headers: dict[str, str]
    body: bytes
    due_v: float


class Books:
    """Prompts, payments and deliveries, over one sqlite connection."""

    def __init__(self, store: sqlite3.Connection) -> None:
        self._store = store
        self.accounts = Accounts(store)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; the caller must not await inside."""
        self._store.execute("begin")
        try:
            yield
        except BaseException:
            self._store.execute("rollback")
            raise
        self._store.execute("commit")

    def next_id(self) -> int:
        row = self._store.execute("select seq from sqlite_sequence where name = 'prompts'")
        return int((row.fetchone() or [0])[0]) + 1

    def add_prompt(
        self, order: Order, ids: tuple[str, str], selection: Selection, schedule: dict[str, Any]
    ) -> Prompt:
        """Raises sqlite3.IntegrityError when the checkout request id is taken."""
        row = {
            "checkout_request_id": ids[0],
            "merchant_request_id": ids[1],
            "short_code": order.short_code,
            "party_b": order.party_b,
            "phone": order.phone,
            "amount": order.amount,
            "account_reference": order.account_reference,
            "description": order.description,
            "callback_url": order.callback_url,
            "faults": MANY.dump_json(selection.faults).decode(),
            "opened_at": wall().isoformat(),
            **schedule,
        }
        self._insert("prompts", row)
        return self.prompt(ids[0])

    def prompt(self, checkout_request_id: str) -> Prompt:
        """Raises KeyError for an id that was never given."""
        query = "select * from prompts where checkout_request_id = ?"
        row = self._store.execute(query, (checkout_request_id,)).fetchone()
        if row is None:
            raise KeyError(checkout_request_id)
        return Prompt(**row)

    def prompts(self, phone: str | None = None, limit: int = 1000) -> list[Prompt]:
        """Newest first."""
        query = "select * from prompts where ? is null or phone = ? order by id desc limit ?"
        return [Prompt(**row) for row in self._store.execute(query, (phone, phone, limit))]

    def unsettled(self) -> list[Prompt]:
        """Prompts with something still to happen, for a start after a stop."""
        rows = self._store.execute("select * from prompts where state = 'open' or not contradicted")
        return [Prompt(**row) for row in rows]

    def waiting_prompts(self) -> list[Prompt]:
        """Open ones, oldest first."""
        rows = self._store.execute("select * from prompts where state = 'open' order by id")
        return [Prompt(**row) for row in rows]

    def reschedule(self, prompt: Prompt, due_v: float, code: str) -> None:
        self._store.execute(
            "update prompts set ignored = 1, due_v = ?, due_code = ? where id = ?",
            (due_v, code, prompt.id),
        )

    def fail(self, prompt: Prompt, code: str, now_v: float) -> None:
        self._store.execute(
            "update prompts set state = 'failed', result_code = ?, closed_at = ?, closed_v = ?"
            " where id = ?",
            (code, wall().isoformat(), now_v, prompt.id),
        )

    def pay(self, prompt: Prompt, amount: int, receipt: str, now_v: float) -> None:
        """Closes the prompt as paid and enters the payment; call inside a transaction."""
        paid_at = wall().isoformat()
        self._store.execute(
            "update prompts set state = 'paid', result_code = '0', closed_at = ?, closed_v = ?,"
            " receipt = ?, paid_amount = ? where id = ?",
            (paid_at, now_v, receipt, amount, prompt.id),
        )
        self.accounts.enter(
            "prompt",
            receipt=receipt,
            checkout_request_id=prompt.checkout_request_id,
            payer=prompt.phone,
            short_code=prompt.short_code,
            paid_to=prompt.party_b,
            amount=amount,
            account_reference=prompt.account_reference,
            started_at=prompt.opened_at,
            paid_at=paid_at,
        )

    def contradicted(self, prompt: Prompt) -> None:
        self._store.execute("update prompts set contradicted = 1 where id = ?", (prompt.id,))

    def schedule(self, about: str, kind: str, **parts: Any) -> int:
        """A delivery of `kind`; parts: url, source, headers, body, due_v, phone, …; its id."""
        parts["headers"] = json.dumps(parts["headers"])
        return self._insert("deliveries", {"about": about, "kind": kind, **parts})

    def waiting(self, about: str | None = None) -> list[Delivery]:
        """Deliveries that nobody has attempted yet, of one subject or of all."""
        columns = "id, about, kind, url, source, headers, body, due_v"
        query = (
            f"select {columns} from deliveries where attempted_at is null"  # noqa: S608
            " and (? is null or about = ?) order by id"
        )
        rows = [dict(row) for row in self._store.execute(query, (about, about))]
        return [Delivery(**{**row, "headers": json.loads(row["headers"])}) for row in rows]

    def attempt(self, delivery: Delivery) -> bool:
        """Marks the one attempt before it is made: a crash in between loses it, as with theirs.

        False: there is no such delivery any more, or it was attempted.
        """
        done = self._store.execute(
            "update deliveries set attempted_at = ? where id = ? and attempted_at is null",
            (wall().isoformat(), delivery.id),
        )
        return done.rowcount == 1

    def record(self, delivery: Delivery, **result: Any) -> None:
        """What became of a delivery: status, latency_ms, answer, error."""
        assignments = ", ".join(f"{name} = :{name}" for name in result)
        self._store.execute(
            f"update deliveries set {assignments} where id = :id",  # noqa: S608 - our own names
            {**result, "id": delivery.id},
        )

    def shown(self) -> int:
        """How many prompts there were."""
        return int(self._store.execute("select count(*) from prompts").fetchone()[0])

    def register_c2b(self, short_code: str, registration: Registration) -> None:
        self._store.execute(
            "insert or replace into c2b_urls values (?, ?, ?, ?, ?)",
            (
                short_code,
                registration.confirmation_url,
                registration.validation_url,
                registration.response_type,
                registration.version,
            ),
        )

    def forget_c2b(self) -> None:
        self._store.execute("delete from c2b_urls")

    def c2b(self, short_code: str) -> Registration | None:
        """The addresses of a short code, None when it has registered none."""
        query = (
            "select confirmation_url, validation_url, response_type, version from c2b_urls"
            " where short_code = ?"
        )
        row = self._store.execute(query, (short_code,)).fetchone()
        return Registration(**row) if row else None

    def _insert(self, table: str, row: dict[str, Any]) -> int:
        columns, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        statement = f"insert into {table} ({columns}) values ({marks})"  # noqa: S608 - our own names
        return self._store.execute(statement, row).lastrowid or 0
