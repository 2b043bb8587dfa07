"""What takes more than one call: creating, confirming on a rail, asking the rail."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from functions.payment_intents.models import CreatePaymentIntent, Customer, MobileMoney
from shared import log
from shared.db import Answer, Database
from shared.errors import DependencyUnavailable, StalelaError
from shared.http.caller import Caller, digest
from shared.masking import mask_email, mask_name, mask_phone
from shared.money import Money
from shared.phones import parse_payer_phone
from shared.rails.base import RailEvent
from shared.rails.instructions import instruction_from
from shared.rails.registry import Rails
from shared.vault import Vault, VaultError

PATIENCE_S: Final = 5.0  # a database that is restarted or failed over is back by then
PAUSE_S: Final = 0.25


class Collector:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, db: Database, vault: Vault, rails: Rails, functions_url: str) -> None:
        self._db = db
        self._vault = vault
        self._rails = rails
        self._functions_url = functions_url

    async def create(
        self, body: CreatePaymentIntent, amount: Money, key: str, body_hash: str, caller: Caller
    ) -> Answer:
        """Create the intent: one call. The customer's personal values leave here sealed."""
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
        replayed, order = Answer.from_row(begun["answer"]), begun["instruction"]
        if replayed is not None:
            return replayed
        event = await self._send(order, phone, key, caller)
        log.event(
            "transfer_submitted",
            transfer_id=order["transfer_id"],
            rail=order["rail"],
            outcome=event.outcome,
        )
        answer = Answer.from_row(
            await self._insist(
                "payments.record_submission",
                {
                    "transfer_id": order["transfer_id"],
                    "callback_token_hash": digest(order["callback_token"]),
                    "idempotency_key": key,
                    "event": event.to_json(),
                },
                caller,
            )
        )
        assert answer is not None, "payments.record_submission answers"
        return answer.with_headers(order["headers"])

    async def _send(
        self, order: Mapping[str, Any], phone: str, key: str, caller: Caller
    ) -> RailEvent:
        """One request to the rail. Whatever is raised here was raised before anything was sent."""
        try:
            instruction = instruction_from(
                order,
                self._vault,
                payer=phone,
                callback_url=f"{self._functions_url}/momo-callback/{order['callback_token']}",
                traceparent=caller.traceparent,
            )
            return await self._rails.get(order["rail"]).submit(instruction)
        except (StalelaError, VaultError) as refused:
            await self._insist(
                "payments.release_submission",
                {
                    "transfer_id": order["transfer_id"],
                    "callback_token_hash": digest(order["callback_token"]),
                    "idempotency_key": key,
                    # A fault of the vault is ours, and no text for a payer.
                    "reason": str(refused) if isinstance(refused, StalelaError) else "Not sent",
                    "retry_after": getattr(refused, "retry_after", None),
                },
                caller,
            )
            raise

    async def _insist(self, function: str, args: Mapping[str, Any], caller: Caller) -> Any:
        """Call what may be repeated until the database is back, for PATIENCE_S.

        Only the reference that the rail just gave lets anybody ask about the attempt later.
        """
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + PATIENCE_S
        while True:
            try:
                return await self._db.call(function, args, caller, idempotent=True)
            except DependencyUnavailable:
                if clock() + PAUSE_S > give_up_at:
                    raise
            await asyncio.sleep(PAUSE_S)

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


def _masked(customer: Customer | None) -> dict[str, str | None] | None:
    if customer is None:
        return None
    return {
        "reference": customer.reference,
        "name": mask_name(customer.name) if customer.name else None,
        "email": mask_email(customer.email) if customer.email else None,
    }
