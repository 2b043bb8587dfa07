"""From events and requests to kept receipts. SQL has the facts; the address is opened here."""

import json
from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Any, Final

from functions.receipts.documents import render_document
from functions.receipts.rendering import render
from shared import log
from shared.db import Answer, Database
from shared.errors import InvalidParameter
from shared.http.caller import Caller, digest
from shared.postman import sealed_message
from shared.vault import Vault, VaultError

BATCH: Final = 20


class Receipts:
    """Lives as long as the app; opened values live as long as one call."""

    def __init__(self, database: Database, vault: Vault, sender: str, functions_url: str) -> None:
        self._database, self._vault, self._sender = database, vault, sender
        self._links = f"{functions_url}/receipts/i"

    async def take(self, caller: Caller) -> int:
        """Turn a batch of events into kept receipts; how many events there were."""
        events = await self._database.call("messages.take_receipts", {"max_rows": BATCH}, caller)
        made = []
        for event in events:
            try:
                made.append(self._made(event))
            except (VaultError, KeyError, ValueError) as failed:
                log.error("receipt_not_made", failed, event_id=event["event_id"])
                await self._database.call(
                    "messages.return_receipt",
                    {"outbox_id": event["outbox_id"], "reason": type(failed).__name__},
                    caller,
                    idempotent=True,
                )
        if made:
            kept = await self._database.call(
                "messages.keep_receipts", {"receipts": made}, caller, idempotent=True
            )
            log.event("receipts_kept", count=kept, rows=len(events))
        return len(events)

    async def send_again(
        self, payment_intent_id: str, key: str, body_hash: str, caller: Caller
    ) -> Answer:
        """Keep one more receipt of a payment. Raises InvalidParameter without an address."""
        facts = await self._database.call(
            "messages.prepare_receipt", {"payment_intent_id": payment_intent_id}, caller
        )
        rendered = self._rendered(facts, f"again|{payment_intent_id}|{key}")
        if rendered is None:
            raise InvalidParameter(
                "the payment has no customer with an e-mail address",
                errors=[{"pointer": "/customer/email", "detail": "the payment has none"}],
            )
        return await self._database.answer(
            "messages.send_receipt",
            {
                "payment_intent_id": payment_intent_id,
                "idempotency_key": key,
                "body_hash": body_hash,
                "rendered": rendered,
            },
            caller,
        )

    def _made(self, event: Mapping[str, Any]) -> dict[str, Any]:
        facts = event["facts"]
        if facts is None:
            raise ValueError("no facts: a type of event that nobody taught us")
        dedupe_key = f"{facts['kind']}|{event['event_id']}"
        made = {
            "outbox_id": event["outbox_id"],
            "dedupe_key": dedupe_key,
            **{name: facts[name] for name in ("kind", "tenant_id", "environment", "subject_id")},
        }
        if facts["kind"] == "document":
            return made | self._document(facts, dedupe_key)
        return made | {"rendered": self._rendered(facts, dedupe_key)}

    def _document(self, facts: Mapping[str, Any], dedupe_key: str) -> dict[str, Any]:
        """A sealed document for its client; the link is known to the mail alone, we keep a hash."""
        if facts["client_email"] is None:
            return {"rendered": None}
        token = token_urlsafe(32)
        email = render_document(facts, f"{self._links}/{token}", self._sender)
        return {
            "rendered": sealed_message(self._vault, email, dedupe_key, facts["language"]),
            "token_hash": digest(token),
        }

    def _rendered(self, facts: Mapping[str, Any], dedupe_key: str) -> dict[str, Any] | None:
        """None: there is nobody to write to."""
        sealed = facts["customer_sealed"]
        if sealed is None:
            return None
        name, _, body = sealed.partition(".")
        customer = json.loads(self._vault.open(body, f"customer|{name}"))
        if not customer.get("email"):
            return None
        email, sms_text, language = render(facts, customer, self._sender)
        return sealed_message(self._vault, email, dedupe_key, language, sms_text)
