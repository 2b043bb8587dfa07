"""What takes more than one call: creating, confirming on a rail, asking the rail."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from functions.payment_intents.models import CreatePaymentIntent, Customer, MobileMoney
from shared.clock import utc_now
from shared.db import Answer, Database
from shared.errors import (
    ClassificationRuleBroken,
    InvoiceRuleBroken,
    ManifestNotInForce,
    TaxGroupInvalid,
    TotalsMismatch,
)
from shared.fiscal.ordering import check_order
from shared.http.caller import Caller
from shared.masking import mask_email, mask_name, mask_phone
from shared.money import Money
from shared.phones import parse_payer_phone
from shared.rails.instructions import instruction_from
from shared.rails.registry import Rails
from shared.sending import Sender
from shared.vault import Vault


class Collector:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, db: Database, vault: Vault, rails: Rails, functions_url: str) -> None:
        self._db = db
        self._vault = vault
        self._rails = rails
        self._sender = Sender(db, vault, rails, functions_url)

    async def create(
        self, body: CreatePaymentIntent, amount: Money, key: str, body_hash: str, caller: Caller
    ) -> Answer:
        """Create the intent: one call. The customer's personal values leave here sealed."""
        with _inside("/invoice"):
            if body.invoice is not None:
                check_order(body.invoice, amount, utc_now())
            return await self._create(body, amount, key, body_hash, caller)

    async def _create(
        self, body: CreatePaymentIntent, amount: Money, key: str, body_hash: str, caller: Caller
    ) -> Answer:
        return await self._db.answer(
            "payments.create_intent",
            {
                "idempotency_key": key,
                "body_hash": body_hash,
                "amount_minor": amount.minor,
                "currency": amount.currency,
                "payment_method_types": body.payment_method_types,
                "description": body.description,
                "customer": _masked(body.customer),
                "customer_sealed": self._sealed(body.customer),
                "metadata": body.metadata,
                "return_url": str(body.return_url) if body.return_url else None,
                "expires_in_s": body.expires_in,
                "invoice": body.invoice and body.invoice.model_dump(exclude_none=True),
            },
            caller,
        )

    def _sealed(self, customer: Customer | None) -> str | None:
        # The intent's id does not exist yet: the seal is bound to a name that is kept beside it.
        if customer is None:
            return None
        name = uuid4().hex
        sealed = self._vault.seal(customer.model_dump_json().encode(), f"customer|{name}")
        return f"{name}.{sealed}"

    async def confirm(
        self, payment_intent_id: str, method: MobileMoney, key: str, body_hash: str, caller: Caller
    ) -> Answer:
        """Begin, send, record. The attempt is written before the rail hears of it.

        Raises RailUnavailable (503), among others, when nothing was sent: the intent is unharmed
        and the same key may try again.
        """
        phone = parse_payer_phone(method.phone)
        begun = await self._db.call(
            "payments.begin_transfer",
            {
                "payment_intent_id": payment_intent_id,
                "idempotency_key": key,
                "body_hash": body_hash,
                "rail": method.type,
                "payer_sealed": self._vault.seal(phone.encode(), f"payer|{payment_intent_id}"),
                "payer_masked": mask_phone(phone),
                "payer_hash": self._vault.blind_index(phone, "payer"),
            },
            caller,
        )
        return await self._sender.send(begun, key, caller, payer=phone)

    async def reconcile(self, payment_intent_id: str, caller: Caller) -> Answer:
        """Ask the rail about the running attempt, if there is one to ask about."""
        asked = await self._db.call(
            "payments.ask_rail", {"payment_intent_id": payment_intent_id}, caller
        )
        stands, work = Answer.from_row(asked["answer"]), asked["work"]
        assert stands is not None, "payments.ask_rail answers"
        if work is None:
            return stands
        event = await self._rails.get(work["rail"]).query(
            instruction_from(work, self._vault, traceparent=caller.traceparent)
        )
        recorded = await self._db.answer(
            "payments.record_query",
            {
                "transfer_id": work["transfer_id"],
                "event": event.to_json(),
            },
            caller,
        )
        return recorded.with_headers(stands.headers)


@contextmanager
def _inside(part: str) -> Iterator[None]:
    """Refusals of the fiscal domain point into `part` of this body."""
    try:
        yield
    except (
        ClassificationRuleBroken,
        InvoiceRuleBroken,
        ManifestNotInForce,
        TaxGroupInvalid,
        TotalsMismatch,
    ) as refused:
        # What is paid is the amount; an intent has no other payments.
        refused.errors = tuple(
            error
            | {"pointer": "/amount" if error["pointer"] == "/payments" else part + error["pointer"]}
            for error in refused.errors
        )
        raise


def _masked(customer: Customer | None) -> dict[str, str | None] | None:
    if customer is None:
        return None
    return {
        "reference": customer.reference,
        "name": mask_name(customer.name) if customer.name else None,
        "email": mask_email(customer.email) if customer.email else None,
    }
