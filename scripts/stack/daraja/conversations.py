"""Payouts, reversals, status and balance questions: taken now, decided later, told to an address.

As with prompts, what is decided is in the books before anything waits.
"""

import asyncio
import json
import sqlite3
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from scripts.stack.daraja import outcomes, wire
from scripts.stack.daraja.asks import Ask
from scripts.stack.daraja.clock import wall
from scripts.stack.daraja.couriers import Couriers
from scripts.stack.daraja.credentials import BY_SHORT_CODE
from scripts.stack.daraja.faults import (
    MANY,
    CallbackFirst,
    Contradiction,
    DuplicateCallback,
    Forged,
    Garbage,
    LateCallback,
    LostCallback,
    NoReceipt,
    QueueTimeOut,
    Selection,
    WrongAmount,
)
from scripts.stack.daraja.journal import say
from scripts.stack.daraja.outcomes import NO_VALUE, Pair
from scripts.stack.daraja.world import World

THINKS_S = 1.0  # when no script says otherwise
PAYOUT_MIN, PAYOUT_MAX = 10, 250_000
HEADERS = {"content-type": "application/json;charset=UTF-8"}
SPACING_S = 0.2
INVALID_INITIATOR, NO_FUNDS, NOT_FOUND = "2001", "1", "25"
REVERSED_BEFORE, NO_SUCH_PAYMENT = "R000001", "R000002"
STATES = {"open": "Pending Authorized", "done": "Completed", "failed": "Declined"}


@dataclass(frozen=True)
class Conversation:
    """A row of conversations; amount in whole shillings."""

    id: int
    originator: str
    conversation_id: str
    kind: str
    short_code: str
    phone: str | None
    amount: int | None
    asks: str | None
    result_url: str
    timeout_url: str
    request: str
    initiator_ok: int
    faults: str
    opened_at: str
    due_v: float
    state: str
    result_code: str | None
    receipt: str | None
    closed_at: str | None

    @cached_property
    def selection(self) -> Selection:
        return Selection(MANY.validate_json(self.faults))

    @property
    def closed(self) -> datetime:
        return datetime.fromisoformat(self.closed_at or self.opened_at)


class Duplicate(Exception):
    """The OriginatorConversationID was used before."""


class Conversations:
    """All that are open."""

    def __init__(self, world: World, couriers: Couriers) -> None:
        self._world = world
        self._couriers = couriers
        self._tasks: set[asyncio.Task[None]] = set()

    def resume(self) -> None:
        """After a start: what was taken goes on."""
        for row in self._world.store.execute("select * from conversations where state = 'open'"):
            self._live(Conversation(**row))

    async def forget(self) -> None:
        """Before the books are emptied: nobody acts any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, ask: Ask, selection: Selection) -> Conversation:
        """Accept a request. Raises Duplicate when its reference is not new."""
        at = wall()
        rng = self._world.rng("conversation", at.isoformat(), ask.request)
        outcome = selection.outcome
        originator = ask.originator or outcomes.originator(rng)
        row = {
            "originator": originator,
            "conversation_id": outcomes.conversation_id(at, rng),
            "kind": ask.kind,
            "short_code": ask.short_code,
            "phone": ask.phone,
            "amount": ask.amount,
            "asks": ask.asks,
            "result_url": ask.result_url,
            "timeout_url": ask.timeout_url,
            "request": ask.request,
            "initiator_ok": int(ask.initiator_ok),
            "faults": MANY.dump_json(selection.faults).decode(),
            "opened_at": at.isoformat(),
            "due_v": self._world.clock.now() + (outcome.after_s if outcome else THINKS_S),
        }
        columns, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
        insert = f"insert into conversations ({columns}) values ({marks})"  # noqa: S608 - our names
        try:
            self._world.store.execute(insert, row)
        except sqlite3.IntegrityError as error:
            raise Duplicate(ask.originator) from error
        taken = self.find(originator)
        assert taken is not None, "it was written just now"
        say("conversation_opened", kind=taken.kind, conversation=taken.conversation_id)
        forged = selection.get(Forged)
        if forged:
            self._forge(taken, forged)
        self._live(taken)
        return taken

    def find(self, originator: str) -> Conversation | None:
        """By either of its names."""
        query = "select * from conversations where originator = ? or conversation_id = ?"
        row = self._world.store.execute(query, (originator, originator)).fetchone()
        return Conversation(**row) if row else None

    def all(self, phone: str | None = None) -> list[Conversation]:
        """Newest first."""
        query = "select * from conversations where ? is null or phone = ? order by id desc"
        return [Conversation(**row) for row in self._world.store.execute(query, (phone, phone))]

    async def told(self, conversation: Conversation) -> None:
        """Returns when the first result was attempted, or after 10 wall seconds."""
        await self._couriers.first(conversation.conversation_id, timeout_s=10)

    def _live(self, conversation: Conversation) -> None:
        task = asyncio.create_task(self._life(conversation))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _life(self, conversation: Conversation) -> None:
        await self._world.clock.sleep_until(conversation.due_v)
        with self._world.books.transaction():
            closed = self._decide(conversation)
        self._couriers.collect(conversation.conversation_id)
        say("conversation_closed", conversation=closed.conversation_id, result=closed.result_code)
        self._world.changes.announce()

    def _decide(self, conversation: Conversation) -> Conversation:
        """Enters what happens and schedules what is said about it; inside a transaction."""
        timeout = conversation.selection.get(QueueTimeOut)
        if timeout:
            self._echo(conversation)
        if timeout and timeout.then == "nothing":
            return self._close(conversation, "lost", None, None)
        contradiction = conversation.selection.get(Contradiction)
        if contradiction:
            return self._contradict(conversation, contradiction)
        outcome = conversation.selection.outcome
        closed = self._conclude(conversation, outcome.code if outcome else "0")
        self._tell(closed, closed.result_code or "", timeout.gap_s if timeout else 0)
        return closed

    def _contradict(self, conversation: Conversation, fault: Contradiction) -> Conversation:
        """Two results, one of them true: money moves when either says so, and stays moved."""
        codes = (fault.first, fault.then)
        closed = self._conclude(conversation, "0" if "0" in codes else fault.then)
        if "0" in codes and closed.result_code != "0":
            self._tell(closed, closed.result_code or "", 0)
            return closed
        self._tell(closed, fault.first, 0)
        self._tell(closed, fault.then, fault.gap_s)
        return closed

    def _conclude(self, conversation: Conversation, wanted: str) -> Conversation:
        """What truly happens: as `wanted`, unless the rules say otherwise."""
        code = self._judge(conversation) if wanted == "0" else wanted
        if not conversation.initiator_ok:
            code = INVALID_INITIATOR
        receipt = self._move(conversation) if code == "0" else None
        return self._close(conversation, "done" if code == "0" else "failed", code, receipt)

    def _judge(self, conversation: Conversation) -> str:
        if conversation.kind == "payout":
            return self._judge_payout(conversation)
        if conversation.kind == "reversal":
            return self._judge_reversal(conversation)
        is_found = conversation.kind == "balance" or self._pairs_of_status(conversation)
        return "0" if is_found else NOT_FOUND

    def _judge_payout(self, conversation: Conversation) -> str:
        amount = conversation.amount or 0
        if not PAYOUT_MIN <= amount <= PAYOUT_MAX:
            return "2" if amount < PAYOUT_MIN else "3"
        cost = amount + self._world.settings.payout_charge
        return "0" if cost <= self._world.accounts.utility(conversation.short_code) else NO_FUNDS

    def _judge_reversal(self, conversation: Conversation) -> str:
        accounts, amount = self._world.accounts, conversation.amount or 0
        entry = accounts.entry(conversation.asks or "")
        is_ours = entry is not None and entry["short_code"] == conversation.short_code
        if entry is None or not is_ours or entry["kind"] not in ("prompt", "deposit"):
            return NO_SUCH_PAYMENT
        left = entry["amount"] - accounts.reversed(entry["receipt"])
        if left <= 0:
            return REVERSED_BEFORE
        if not 1 <= amount <= left:
            return "2" if amount < 1 else "3"
        return "0" if amount <= accounts.working(conversation.short_code) else NO_FUNDS

    def _move(self, conversation: Conversation) -> str | None:
        """Move the money, if it is about money; returns the receipt."""
        if conversation.kind not in ("payout", "reversal"):
            return None
        at = wall()
        rng = self._world.rng("receipt", conversation.originator, at.isoformat())
        receipt = wire.receipt(at, rng)
        merchant = BY_SHORT_CODE[conversation.short_code]
        is_payout = conversation.kind == "payout"
        self._world.accounts.enter(
            "payout" if is_payout else "reversal",
            receipt=receipt,
            conversation_id=conversation.conversation_id,
            payer=merchant.short_code if is_payout else merchant.party_b,
            short_code=merchant.short_code,
            paid_to=conversation.phone,
            amount=conversation.amount,
            charge=self._world.settings.payout_charge if is_payout else 0,
            reverses=conversation.asks,
            started_at=conversation.opened_at,
            paid_at=at.isoformat(),
        )
        return receipt

    def _close(
        self, conversation: Conversation, state: str, code: str | None, receipt: str | None
    ) -> Conversation:
        self._world.store.execute(
            "update conversations set state = ?, result_code = ?, receipt = ?, closed_at = ?"
            " where id = ?",
            (state, code, receipt, wall().isoformat(), conversation.id),
        )
        closed = self.find(conversation.originator)
        assert closed is not None, "it was there"
        return closed

    def _echo(self, conversation: Conversation) -> None:
        """Our own request comes back to QueueTimeOutURL, credential and all."""
        echoed = json.loads(conversation.request)
        echoed.setdefault("OriginatorConversationID", conversation.originator)
        echo = json.dumps(echoed).encode()
        self._schedule(conversation, "timeout", conversation.timeout_url, echo, 0)

    def _tell(self, conversation: Conversation, code: str, delay_s: float) -> None:
        selection = conversation.selection
        if selection.get(LostCallback):
            return
        late, duplicate = selection.get(LateCallback), selection.get(DuplicateCallback)
        kind = conversation.kind if conversation.kind in ("status", "balance") else "result"
        body = self._body(conversation, code)
        after_s = delay_s + (late.after_s if late else 0)
        for copy in range(duplicate.copies if duplicate else 1):
            is_spaced = duplicate is not None and not duplicate.concurrent
            wait_s = after_s + copy * SPACING_S * is_spaced
            self._schedule(conversation, kind, conversation.result_url, body, wait_s)

    def _schedule(
        self, conversation: Conversation, kind: str, url: str, body: bytes, wait_s: float
    ) -> None:
        self._world.books.schedule(
            conversation.conversation_id,
            kind,
            url=url,
            source=self._world.settings.callback_source,
            headers=HEADERS,
            body=body,
            due_v=self._world.clock.now() + wait_s,
            phone=conversation.phone,
        )

    def _forge(self, conversation: Conversation, forged: Forged) -> None:
        """A success with an invented receipt, from somebody who is not the party."""
        rng = self._world.rng("forged", conversation.id)
        claimed = replace(
            conversation, state="done", receipt=wire.receipt(wall(), rng), result_code="0"
        )
        url, settings = conversation.result_url, self._world.settings
        if forged.how in ("token", "both"):
            base, _, kind = url.rpartition("/")
            url = f"{base.rpartition('/')[0]}/{rng.randbytes(16).hex()}/{kind}"
        self._world.books.schedule(
            conversation.conversation_id,
            "forged",
            url=url,
            source=settings.callback_source if forged.how == "token" else forged.source,
            headers=HEADERS | forged.headers,
            body=self._body(claimed, "0"),
            due_v=self._world.clock.now() + forged.after_s,
            phone=conversation.phone,
        )
        self._couriers.collect(conversation.conversation_id)

    def _body(self, conversation: Conversation, code: str) -> bytes:
        settings, selection = self._world.settings, conversation.selection
        rng = self._world.rng("result", conversation.originator, code)
        is_paid = code == "0" and conversation.receipt is not None
        transaction = conversation.receipt if is_paid else None
        pairs = self._pairs(conversation) if code == "0" else []
        if selection.get(NoReceipt):
            transaction = ""
            pairs = [(key, value) for key, value in pairs if key != "TransactionReceipt"]
        if transaction is None:
            transaction = outcomes.placeholder(conversation.closed, rng)
        ids = (conversation.originator, conversation.conversation_id, transaction)
        body = outcomes.result(ids, code, pairs, rng, varied=settings.shape_noise)
        garbage = selection.get(Garbage)
        return wire.garble(garbage.kind, body) if garbage and garbage.at == "callback" else body

    def _pairs(self, conversation: Conversation) -> list[Pair]:
        kinds = {
            "payout": self._pairs_of_payout,
            "reversal": self._pairs_of_reversal,
            "status": self._pairs_of_status,
            "balance": self._pairs_of_balance,
        }
        return kinds[conversation.kind](conversation)

    def _pairs_of_payout(self, conversation: Conversation) -> list[Pair]:
        accounts, code = self._world.accounts, conversation.short_code
        phone = conversation.phone or ""
        return [
            ("TransactionAmount", self._told_amount(conversation)),
            ("TransactionReceipt", conversation.receipt),
            ("B2CRecipientIsRegisteredCustomer", "Y"),
            ("B2CChargesPaidAccountAvailableFunds", -accounts.charged(code)),
            ("ReceiverPartyPublicName", f"{phone} - {outcomes.person(phone)}"),
            ("TransactionCompletedDateTime", outcomes.completed(conversation.closed)),
            ("B2CUtilityAccountAvailableFunds", float(accounts.utility(code))),
            ("B2CWorkingAccountAvailableFunds", float(accounts.working(code))),
        ]

    def _pairs_of_reversal(self, conversation: Conversation) -> list[Pair]:
        """May carry no parameters at all."""
        rng = self._world.rng("reversal", conversation.originator)
        if self._world.settings.shape_noise and rng.random() < 0.15:
            return []
        phone, amount = conversation.phone or "", self._told_amount(conversation)
        merchant = BY_SHORT_CODE[conversation.short_code]
        braces = self._world.settings.shape_noise and rng.random() < 0.3
        return [
            ("OriginalTransactionID", conversation.asks),
            ("Amount", outcomes.amount_in_braces(amount) if braces else amount),
            ("TransCompletedTime", outcomes.stamp(conversation.closed)),
            ("Charge", 0),
            ("CreditPartyPublicName", f"{phone} - {outcomes.person(phone)}"),
            ("DebitPartyPublicName", f"{merchant.party_b} - {merchant.name.upper()}"),
        ]

    def _told_amount(self, conversation: Conversation) -> int:
        wrong = conversation.selection.get(WrongAmount)
        return (conversation.amount or 0) + (wrong.delta if wrong else 0)

    def _pairs_of_status(self, conversation: Conversation) -> list[Pair]:
        """What is known of the transaction asked for; nothing when there is none."""
        asked = conversation.asks or ""
        entry = self._world.accounts.entry(asked)
        about = self.find(entry["conversation_id"] if entry and entry["conversation_id"] else asked)
        if about is not None and about.kind in ("payout", "reversal"):
            if about.state == "lost":
                return []
            return self._known(about)
        if entry is None or entry["short_code"] != conversation.short_code:
            return []
        paid_at = datetime.fromisoformat(entry["paid_at"])
        return [
            ("TransactionStatus", STATES["done"]),
            ("ReceiptNo", entry["receipt"]),
            ("Amount", float(entry["amount"])),
            ("FinalisedTime", outcomes.stamp(paid_at)),
            ("DebitPartyName", f"{entry['payer']} - {outcomes.person(entry['payer'])}"),
            ("CreditPartyName", entry["paid_to"]),
        ]

    def _known(self, about: Conversation) -> list[Pair]:
        merchant, phone = BY_SHORT_CODE[about.short_code], about.phone or ""
        rng = self._world.rng("status", about.originator)
        receipt = about.receipt or outcomes.placeholder(about.closed, rng)
        name = f"{merchant.short_code} - {merchant.name.upper()}"
        pairs: list[Pair] = [
            ("DebitPartyName", name),
            ("TransactionStatus", STATES[about.state]),
            ("Amount", float(about.amount or 0)),
            ("OriginatorConversationID", about.originator),
            ("ConversationID", about.conversation_id),
            ("DebitPartyCharges", NO_VALUE),
            ("DebitPartyName", name),
            ("CreditPartyName", f"{phone} - {outcomes.person(phone)}"),
        ]
        if about.state == "open":
            return pairs
        return [*pairs, ("ReceiptNo", receipt), ("FinalisedTime", outcomes.stamp(about.closed))]

    def _pairs_of_balance(self, conversation: Conversation) -> list[Pair]:
        settings, code = self._world.settings, conversation.short_code
        rng = self._world.rng("balance", conversation.originator)
        told = outcomes.accounts(
            {
                "Working Account": self._world.accounts.working(code),
                "Utility Account": self._world.accounts.utility(code),
                "Charges Paid Account": -self._world.accounts.charged(code),
            },
            rng,
            varied=settings.shape_noise,
        )
        return [
            ("AccountBalance", told),
            ("BOCompletedTime", outcomes.stamp(conversation.closed)),
        ]


def is_told_first(conversation: Conversation) -> bool:
    """Whether the result arrives before the acknowledgement."""
    return conversation.selection.get(CallbackFirst) is not None
