"""Payments that nobody was prompted for (C2B): asked about, booked, confirmed. Reference 2.8."""

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scripts.stack.daraja import wire
from scripts.stack.daraja.books import Registration
from scripts.stack.daraja.clock import wall
from scripts.stack.daraja.couriers import Couriers
from scripts.stack.daraja.credentials import Merchant
from scripts.stack.daraja.faults import (
    MANY,
    DuplicateCallback,
    LateCallback,
    LostCallback,
    Selection,
)
from scripts.stack.daraja.journal import mask, say
from scripts.stack.daraja.world import World

HEADERS = {"content-type": "application/json;charset=UTF-8"}
ACCEPTED = "0"


@dataclass(frozen=True)
class Paying:
    """A row of deposits; amount in whole shillings. `answer` is what validation said."""

    id: int
    receipt: str
    short_code: str
    phone: str
    amount: int
    account_reference: str
    faults: str
    state: str
    answer: str | None
    third_party_id: str
    opened_at: str


class Deposits:
    """All that are under way."""

    def __init__(self, world: World, couriers: Couriers) -> None:
        self._world = world
        self._couriers = couriers
        self._tasks: set[asyncio.Task[None]] = set()

    def resume(self) -> None:
        """After a start: what was asked about is asked about again."""
        for row in self._world.store.execute("select * from deposits where state = 'open'"):
            self._live(Paying(**row))

    async def forget(self) -> None:
        """Before the books are emptied."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def pay(
        self, merchant: Merchant, phone: str, amount: int, reference: str, selection: Selection
    ) -> Paying:
        """A payer enters the pay bill (or till) and an account of their own choice."""
        at = wall()
        rng = self._world.rng("deposit", phone, at.isoformat())
        receipt = wire.receipt(at, rng)
        row = {
            "receipt": receipt,
            "short_code": merchant.short_code,
            "phone": phone,
            "amount": amount,
            "account_reference": reference,
            "faults": MANY.dump_json(selection.faults).decode(),
            "opened_at": at.isoformat(),
        }
        columns, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        insert = f"insert into deposits ({columns}) values ({marks})"  # noqa: S608 - our own names
        self._world.store.execute(insert, row)
        paying = self.find(receipt)
        say("deposit_begun", phone=mask(phone), receipt=paying.receipt)
        self._live(paying)
        return paying

    def find(self, receipt: str) -> Paying:
        """Raises KeyError."""
        query = "select * from deposits where receipt = ?"
        row = self._world.store.execute(query, (receipt,)).fetchone()
        if row is None:
            raise KeyError(receipt)
        return Paying(**row)

    def all(self, phone: str | None = None) -> list[Paying]:
        """Newest first."""
        query = "select * from deposits where ? is null or phone = ? order by id desc"
        return [Paying(**row) for row in self._world.store.execute(query, (phone, phone))]

    def _live(self, paying: Paying) -> None:
        task = asyncio.create_task(self._life(paying))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _life(self, paying: Paying) -> None:
        registration = self._world.books.c2b(paying.short_code)
        answer: dict[str, Any] | None = None
        is_asked = registration is not None and self._world.settings.c2b_validation
        if registration and is_asked:
            answer = await self._validate(paying, registration)
        goes_through = not is_asked or _accepts(answer, registration)
        with self._world.books.transaction():
            self._close(paying, answer, goes_through=goes_through)
            if goes_through:
                self._book(paying)
            if goes_through and registration:
                self._confirm(self.find(paying.receipt), registration)
        self._couriers.collect(paying.receipt)
        say("deposit_closed", receipt=paying.receipt, paid=goes_through)
        self._world.changes.announce()

    async def _validate(self, paying: Paying, registration: Registration) -> dict[str, Any] | None:
        """What the merchant answered in time, None when it was nothing of use."""
        said = await self._couriers.ask(
            registration.validation_url,
            HEADERS,
            self._body(paying, registration.version, None),
            self._world.settings.validation_deadline_s,
        )
        try:
            answer = json.loads(said or b"")
        except ValueError:
            return None
        return answer if isinstance(answer, dict) and "ResultCode" in answer else None

    def _close(self, paying: Paying, answer: dict[str, Any] | None, *, goes_through: bool) -> None:
        told = answer or {}
        self._world.store.execute(
            "update deposits set state = ?, answer = ?, third_party_id = ? where id = ?",
            (
                "paid" if goes_through else "refused",
                None if answer is None else str(told["ResultCode"]),
                str(told.get("ThirdPartyTransID") or ""),
                paying.id,
            ),
        )

    def _book(self, paying: Paying) -> None:
        self._world.accounts.enter(
            "deposit",
            receipt=paying.receipt,
            payer=paying.phone,
            short_code=paying.short_code,
            paid_to=paying.short_code,
            amount=paying.amount,
            account_reference=paying.account_reference,
            started_at=paying.opened_at,
        )

    def _confirm(self, paying: Paying, registration: Registration) -> None:
        selection = Selection(MANY.validate_json(paying.faults))
        if selection.get(LostCallback):
            return
        late, duplicate = selection.get(LateCallback), selection.get(DuplicateCallback)
        balance = self._world.accounts.working(paying.short_code)
        for _ in range(duplicate.copies if duplicate else 1):
            self._world.books.schedule(
                paying.receipt,
                "c2b_confirmation",
                url=registration.confirmation_url,
                source=self._world.settings.callback_source,
                headers=HEADERS,
                body=self._body(paying, registration.version, balance),
                due_v=self._world.clock.now() + (late.after_s if late else 0),
                phone=paying.phone,
                account_reference=paying.account_reference,
            )

    def _body(self, paying: Paying, version: int, balance: int | None) -> bytes:
        return wire.c2b(
            wire.Paid(
                receipt=paying.receipt,
                at=datetime.fromisoformat(paying.opened_at),
                amount=paying.amount,
                short_code=paying.short_code,
                account_reference=paying.account_reference,
                phone=paying.phone,
                third_party_id=paying.third_party_id,
            ),
            version,
            balance,
            self._world.rng("c2b", paying.receipt, balance is None),
            varied=self._world.settings.shape_noise,
        )


def _accepts(answer: dict[str, Any] | None, registration: Registration | None) -> bool:
    """What the merchant says, or what it registered for when it says nothing of use."""
    if answer is None:
        return registration is None or registration.response_type == "Completed"
    return str(answer["ResultCode"]) == ACCEPTED
