"""Who holds how much: every movement of money with its receipt, and the accounts it moved.

A short code has a working account, where collections land, and a utility account that pays out.
Amounts are whole shillings. Call `enter` inside the transaction that decides.
"""

import sqlite3
from collections.abc import Mapping
from typing import Any, Literal

from scripts.stack.daraja.clock import wall

OPENING_FLOAT = 100_000  # in each utility account, so that a payout needs no preparation
BANK = "bank"  # where a top-up comes from and a settlement goes to
Kind = Literal["prompt", "deposit", "payout", "reversal", "topup", "settlement"]

# What an entry of each kind does to the two accounts of its short code.
WORKING: Mapping[str, int] = {"prompt": 1, "deposit": 1, "reversal": -1, "settlement": -1}
UTILITY: Mapping[str, int] = {"payout": -1, "topup": 1}

SUMS = """
select kind, sum(amount) as amount, sum(charge) as charges
from ledger where short_code = ? group by kind
"""


class Accounts:
    """The ledger table."""

    def __init__(self, store: sqlite3.Connection) -> None:
        self._store = store

    def enter(self, kind: Kind, **parts: Any) -> None:
        """One movement: receipt, payer, paid_to, short_code, amount, and what else is known."""
        now = wall().isoformat()
        row = {"kind": kind, "started_at": now, "paid_at": now, **parts}
        columns, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        self._store.execute(
            f"insert into ledger ({columns}) values ({marks})",  # noqa: S608 - our own names
            row,
        )

    def entry(self, receipt: str) -> dict[str, Any] | None:
        row = self._store.execute("select * from ledger where receipt = ?", (receipt,)).fetchone()
        return dict(row) if row else None

    def entries(self, limit: int = -1) -> list[dict[str, Any]]:
        """Newest first, all of them by default."""
        query = "select * from ledger order by id desc limit ?"
        return [dict(row) for row in self._store.execute(query, (limit,))]

    def of(self, short_code: str) -> list[dict[str, Any]]:
        """Entries of a short code, oldest first."""
        query = "select * from ledger where short_code = ? order by id"
        return [dict(row) for row in self._store.execute(query, (short_code,))]

    def collected(self) -> int:
        """What payers paid to anybody so far."""
        query = "select coalesce(sum(amount), 0) from ledger where kind in ('prompt', 'deposit')"
        return int(self._store.execute(query).fetchone()[0])

    def working(self, short_code: str) -> int:
        return self._balance(short_code, WORKING)

    def utility(self, short_code: str) -> int:
        return OPENING_FLOAT + self._balance(short_code, UTILITY) - self.charged(short_code)

    def charged(self, short_code: str) -> int:
        """Charges paid so far."""
        return sum(row["charges"] for row in self._store.execute(SUMS, (short_code,)))

    def reversed(self, receipt: str) -> int:
        """How much of a payment went back so far."""
        query = "select coalesce(sum(amount), 0) from ledger where reverses = ?"
        return int(self._store.execute(query, (receipt,)).fetchone()[0])

    def statement(self) -> dict[str, Any]:
        """All entries with what every party gained or lost; balances sum to zero."""
        entries = self.entries()[::-1]
        balances: dict[str, int] = {}
        for entry in entries:
            balances[entry["payer"]] = balances.get(entry["payer"], 0) - entry["amount"]
            balances[entry["paid_to"]] = balances.get(entry["paid_to"], 0) + entry["amount"]
        total = sum(entry["amount"] for entry in entries)
        return {"currency": "KES", "total": total, "balances": balances, "entries": entries}

    def _balance(self, short_code: str, effects: Mapping[str, int]) -> int:
        rows = self._store.execute(SUMS, (short_code,))
        return sum(effects.get(row["kind"], 0) * row["amount"] for row in rows)
