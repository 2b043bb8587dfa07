"""A merchant and the rail, reduced to the SQL calls that the functions make for them."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from shared.money import Money
from shared.rails.base import Outcome, RailEvent, Source
from shared.rails.mpesa import stk
from tests.support.sql import Api, Books, Headers, Row, digest

FUNCTION = "fn_payment_intents"
PAYER = {"payer_sealed": "sealed", "payer_masked": "+254*****678", "payer_hash": digest("payer")}


@dataclass(frozen=True)
class Answer:
    """public.answer as a handler reads it."""

    status: int
    body: Row
    headers: dict[str, str]

    @classmethod
    def of(cls, answer: Row) -> "Answer":
        return cls(answer["status"], json.loads(answer["body"]), answer["headers"])


@dataclass(frozen=True)
class Attempt:
    """One attempt that is out at the rail."""

    intent_id: str
    transfer_id: str
    token: str
    key: str
    rail_ref: str
    amount_minor: int

    def paid(
        self,
        receipt: str | None = None,
        amount_minor: int | None = None,
        rail_ref: str | None = None,
    ) -> Row:
        """A callback that says the money moved."""
        minor = self.amount_minor if amount_minor is None else amount_minor
        return dict(
            RailEvent(
                Outcome.SUCCEEDED,
                Source.CALLBACK,
                rail_ref or self.rail_ref,
                receipt=receipt or f"R{self.rail_ref[-20:]}",
                amount=Money(minor, "KES"),
                code="0",
            ).to_json()
        )

    def told(self, code: str, message: str = "as the rail words it") -> Row:
        """A callback with a result code, as shared/rails reads it."""
        return dict(stk.stk_event(Source.CALLBACK, self.rail_ref, code, message).to_json())

    def answered(self, code: str) -> Row:
        """The answer of a status query with a result code: no amount, no receipt."""
        return dict(stk.stk_event(Source.QUERY, self.rail_ref, code, "as above").to_json())


@dataclass(frozen=True)
class Shop:
    """A tenant in one environment, with its keys."""

    api: Api
    books: Books
    tenant_id: str = field(default_factory=lambda: f"tn_{uuid.uuid4().hex}")
    environment: str = "sandbox"

    def open(self) -> "Shop":
        """Write tenant, keys and M-Pesa credentials."""
        self.books.run(
            "insert into public.tenants (tenant_id, name, country, status, plan)"
            " values (%s, 'A shop', 'KE', 'active', 'unlimited') on conflict do nothing",
            self.tenant_id,
        )
        self.books.run(
            "insert into rails.credentials"
            " (tenant_id, environment, rail, sealed, key_version, masked, created_by)"
            " values (%s, %s, 'mpesa', 'sealed', 1, '{}', 'key_0')",
            self.tenant_id,
            self.environment,
        )
        self.add_key("secret", ["*"])
        self.add_key("publishable", ["payments:confirm"])
        return self

    def add_key(self, name: str, scopes: list[str], status: str = "active") -> Headers:
        """Write a key; the header that presents it."""
        secret = f"{name}-{self.environment}-{self.tenant_id}"
        self.books.run(
            "insert into public.api_keys (key_id, tenant_id, environment, kind, name, key_hash,"
            " last4, scopes, created_by, status, revoked_at)"
            " values (%s, %s, %s, %s, %s, %s, '0000', %s, 'key_0', %s,"
            " case when %s = 'revoked' then now() end)",
            f"key_{uuid.uuid4().hex}",
            self.tenant_id,
            self.environment,
            "publishable" if name == "publishable" else "secret",
            name,
            digest(secret),
            scopes,
            status,
            status,
        )
        return {"x-stalela-key-hash": digest(secret)}

    @property
    def headers(self) -> Headers:
        """What the function sends for the secret key."""
        return {"x-stalela-key-hash": digest(f"secret-{self.environment}-{self.tenant_id}")}

    def payer(self, client_secret: str) -> Headers:
        """What the function sends for a payer's browser."""
        key = f"publishable-{self.environment}-{self.tenant_id}"
        return {
            "x-stalela-key-hash": digest(key),
            "x-stalela-client-secret-hash": digest(client_secret),
        }

    def call(self, function: str, headers: Headers | None = None, **arguments: Any) -> Any:
        """One call by the payment_intents function for this shop, or for `headers`."""
        return self.api.call(FUNCTION, headers or self.headers, function, **arguments)

    def create(self, amount_minor: int = 10_000, **changes: Any) -> Answer:
        """POST /payment-intents."""
        arguments: Row = {
            "idempotency_key": new_key(),
            "body_hash": "body",
            "amount_minor": amount_minor,
            "currency": "KES",
            "payment_method_types": ["mpesa"],
            "description": None,
            "customer": None,
            "customer_sealed": None,
            "metadata": {},
            "return_url": None,
            "expires_in_s": 3600,
        }
        return Answer.of(self.call("payments.create_intent", **arguments | changes))

    def new_intent(self, **changes: Any) -> str:
        """The id of a new intent."""
        return str(self.create(**changes).body["id"])

    def get(self, intent_id: str) -> Row:
        """GET /payment-intents/{id}: the resource."""
        return Answer.of(self.call("payments.get_intent", payment_intent_id=intent_id)).body

    def begin(self, intent_id: str, headers: Headers | None = None, **changes: Any) -> Row:
        """POST …/confirm up to the rail: payments.begun, {answer, instruction}."""
        arguments = {
            "payment_intent_id": intent_id,
            "idempotency_key": new_key(),
            "body_hash": "body",
            "rail": "mpesa",
            **PAYER,
        }
        return dict(self.call("payments.begin_transfer", headers, **arguments | changes))

    def send(self, intent_id: str, **changes: Any) -> Attempt:
        """Begin an attempt; the rail has not answered yet."""
        key = changes.pop("idempotency_key", new_key())
        order = self.begin(intent_id, idempotency_key=key, **changes)["instruction"]
        return Attempt(
            intent_id,
            order["transfer_id"],
            order["callback_token"],
            key,
            f"ws_CO_{uuid.uuid4().hex}",
            order["amount_minor"],
        )

    def record(self, attempt: Attempt, event: Row | None = None) -> Answer:
        """POST …/confirm after the rail: by default it accepted the push."""
        return Answer.of(
            self.call(
                "payments.record_submission",
                transfer_id=attempt.transfer_id,
                callback_token_hash=digest(attempt.token),
                idempotency_key=attempt.key,
                event=event or accepted(attempt.rail_ref),
            )
        )

    def release(self, attempt: Attempt) -> None:
        """POST …/confirm after the rail could not be reached: nothing was sent."""
        self.call(
            "payments.release_submission",
            transfer_id=attempt.transfer_id,
            callback_token_hash=digest(attempt.token),
            idempotency_key=attempt.key,
            reason="connection refused",
            retry_after=30,
        )

    def attempt(self, amount_minor: int = 10_000) -> Attempt:
        """An intent with a prompt on the payer's phone."""
        return self.retry(self.new_intent(amount_minor=amount_minor))

    def retry(self, intent_id: str) -> Attempt:
        """Another prompt for an intent."""
        attempt = self.send(intent_id)
        self.record(attempt)
        return attempt

    def cancel(self, intent_id: str, **changes: Any) -> Answer:
        """POST …/cancel."""
        arguments = {
            "payment_intent_id": intent_id,
            "idempotency_key": new_key(),
            "body_hash": "body",
            "reason": "requested_by_customer",
        }
        return Answer.of(self.call("payments.cancel_intent", **arguments | changes))


def accepted(rail_ref: str) -> Row:
    """The rail took the push."""
    return dict(RailEvent(Outcome.PENDING, Source.SUBMIT, rail_ref, code="0").to_json())


def silent() -> Row:
    """The rail said nothing after the push was sent."""
    return dict(RailEvent(Outcome.UNKNOWN, Source.SUBMIT).to_json())


def new_key() -> str:
    """An Idempotency-Key nobody used."""
    return uuid.uuid4().hex


def open_shop(api: Api, books: Books, **changes: Any) -> Shop:
    """A new tenant, ready to take payments."""
    return Shop(api, books, **changes).open()
