"""Refunds, payouts and direct transfers, reduced to the SQL calls that their functions make."""

import uuid
from dataclasses import dataclass
from typing import Any

from shared.money import Money
from shared.rails.base import Outcome, RailEvent, Source
from tests.sql.payments.shop import Answer, Shop, new_key
from tests.sql.rails.rail import Rail
from tests.support.sql import Headers, Row, digest

PAYEE = {"payee_sealed": "n.sealed", "payee_masked": "+254*****612", "payee_hash": digest("payee")}


@dataclass(frozen=True)
class Move:
    """Money on its way out; `rail_ref` is what the rail will name it."""

    transfer_id: str
    token: str
    key: str
    amount_minor: int
    instruction: Row
    rail_ref: str

    def event(self, outcome: Outcome, source: Source = Source.CALLBACK, **facts: Any) -> Row:
        """What the rail says about it."""
        amount = Money(facts.pop("amount_minor", self.amount_minor), "KES")
        found = {"code": "0", "channel": "b2c"} | facts
        return dict(RailEvent(outcome, source, self.rail_ref, amount=amount, **found).to_json())

    def paid(self, receipt: str | None = None, **facts: Any) -> Row:
        """It arrived."""
        return self.event(Outcome.SUCCEEDED, receipt=receipt or f"M{self.rail_ref[-9:]}", **facts)

    def refused(self) -> Row:
        """Nothing moved: no float."""
        return self.event(Outcome.FAILED_FINAL, code="2040")

    def timed_out(self) -> Row:
        """The rail's queue gave up, which says nothing."""
        return self.event(Outcome.UNKNOWN, code=None)


@dataclass(frozen=True)
class Desk:
    """Where a shop asks for money to leave."""

    shop: Shop

    def call(self, role: str, function: str, headers: Headers | None = None, **more: Any) -> Any:
        return self.shop.api.call(role, headers or self.shop.headers, function, **more)

    def begin_refund(self, headers: Headers | None = None, **changes: Any) -> Row:
        """POST /refunds up to the rail: payments.begun."""
        arguments: Row = {
            "idempotency_key": new_key(),
            "body_hash": "body",
            "payment_intent_id": None,
            "transfer_id": None,
            "amount_minor": None,
            "currency": "KES" if changes.get("amount_minor") else None,
            "reason": None,
            "method": None,
            "metadata": {},
        }
        return dict(
            self.call("fn_refunds", "payments.begin_refund", headers, **arguments | changes)
        )

    def begin_payout(self, headers: Headers | None = None, **changes: Any) -> Row:
        """POST /payouts up to the rail: payments.begun."""
        arguments: Row = {
            "idempotency_key": new_key(),
            "body_hash": "body",
            "rail": "mpesa",
            "amount_minor": 150_000,
            "currency": "KES",
            **PAYEE,
            "description": None,
            "external_ref": None,
            "metadata": {},
        }
        return dict(
            self.call("fn_payouts", "payments.begin_payout", headers, **arguments | changes)
        )

    def refund(self, **changes: Any) -> Move:
        """A refund that is out at the rail, which has not answered."""
        key = changes.setdefault("idempotency_key", new_key())
        return moving(self.begin_refund(**changes), key)

    def payout(self, **changes: Any) -> Move:
        """A payout that is out at the rail, which has not answered."""
        key = changes.setdefault("idempotency_key", new_key())
        return moving(self.begin_payout(**changes), key)

    def record(self, move: Move, event: Row | None = None) -> Answer:
        """After the rail: by default it took the order."""
        taken = move.event(Outcome.PENDING, Source.SUBMIT, channel="api")
        return Answer.of(
            self.call(
                "fn_payouts",
                "payments.record_submission",
                transfer_id=move.transfer_id,
                callback_token_hash=digest(move.token),
                idempotency_key=move.key,
                event=event or taken,
            )
        )

    def release(self, move: Move) -> None:
        """After the rail could not be reached: nothing was sent."""
        self.call(
            "fn_payouts",
            "payments.release_submission",
            transfer_id=move.transfer_id,
            callback_token_hash=digest(move.token),
            idempotency_key=move.key,
            reason="connection refused",
            retry_after=30,
        )

    def decide(
        self, transfer_id: str, who: Headers, decision: str = "approve", **changes: Any
    ) -> Row:
        """POST …/{id}/approve or reject, by a person."""
        arguments: Row = {
            "transfer_id": transfer_id,
            "idempotency_key": new_key(),
            "body_hash": "body",
            "purpose": "payout",
            "decision": decision,
            "reason": "seen the invoice",
        }
        return dict(self.call("fn_payouts", "payments.decide_approval", who, **arguments | changes))

    def paid_intent(self, rail: Rail, amount_minor: int = 10_000) -> tuple[str, str]:
        """An intent that was paid, and the transfer that paid it."""
        attempt = self.shop.attempt(amount_minor)
        rail.call_back(attempt, attempt.paid())
        return attempt.intent_id, attempt.transfer_id

    def person(self, app_role: str = "finance") -> Headers:
        """A new person of the shop, as a function passes them on."""
        user_id = str(uuid.uuid4())
        self.shop.books.run("insert into public.users (user_id) values (%s)", user_id)
        self.shop.books.run(
            "insert into public.memberships (tenant_id, user_id, app_role) values (%s, %s, %s)",
            self.shop.tenant_id,
            user_id,
            app_role,
        )
        return {
            "x-stalela-user-id": user_id,
            "x-stalela-tenant-id": self.shop.tenant_id,
            "x-stalela-environment": self.shop.environment,
        }


def moving(begun: Row, key: str) -> Move:
    """What was handed out to be sent."""
    order = begun["instruction"]
    assert order is not None, begun["answer"]
    reference = f"AG_{uuid.uuid4().hex}"
    return Move(
        order["transfer_id"], order["callback_token"], key, order["amount_minor"], order, reference
    )
