"""From what SQL decided to what the rail was told: one request, then a record of what came back.

The one place that sends. SQL hands out an instruction once in the life of a transfer; whatever goes
wrong afterwards, it is asked about, never sent again.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from shared import log
from shared.db import Answer, Database
from shared.errors import StalelaError
from shared.http.caller import Caller, digest
from shared.rails.base import Operation, RailEvent
from shared.rails.instructions import callback_url, instruction_from
from shared.rails.registry import Rails, UnknownRail
from shared.vault import Vault, VaultError

PATIENCE_S: Final = 5.0  # a database that is restarted or failed over is back by then


class Sender:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, db: Database, vault: Vault, rails: Rails, functions_url: str) -> None:
        self._db = db
        self._vault = vault
        self._rails = rails
        self._functions_url = functions_url

    async def send(
        self, begun: Mapping[str, Any], key: str, caller: Caller, *, payer: str | None = None
    ) -> Answer:
        """Carry out a `payments.begun`: the answer it holds, or one request to the rail, recorded.

        `key` is the Idempotency-Key of the request that began it. Raises RailUnavailable (503),
        among others, when nothing was sent: the transfer failed and the same key may try again.
        """
        answered, order = Answer.from_row(begun["answer"]), begun["instruction"]
        if answered is not None:
            return answered
        event = await self._submit(order, payer, key, caller)
        log.bind(transfer_id=order["transfer_id"], rail=order["rail"], outcome=event.outcome)
        # Only the reference that the rail just gave lets anybody ask about some attempts later.
        answer = await self._db.answer(
            "payments.record_submission",
            {
                "transfer_id": order["transfer_id"],
                "callback_token_hash": digest(order["callback_token"]),
                "idempotency_key": key,
                "event": event.to_json(),
            },
            caller,
            idempotent=True,
            patience_s=PATIENCE_S,
        )
        return answer.with_headers(order["headers"])

    async def _submit(
        self, order: Mapping[str, Any], payer: str | None, key: str, caller: Caller
    ) -> RailEvent:
        """One request to the rail. Whatever is raised here was raised before anything was sent."""
        try:
            instruction = instruction_from(
                order,
                self._vault,
                payer=payer,
                payee=payee_of(order, self._vault),
                callback_url=callback_url(self._functions_url, order["callback_token"]),
                traceparent=caller.traceparent,
            )
            return await self._rails.get(order["rail"]).submit(instruction)
        except (StalelaError, VaultError, UnknownRail) as refused:
            await self._db.call(
                "payments.release_submission",
                {
                    "transfer_id": order["transfer_id"],
                    "callback_token_hash": digest(order["callback_token"]),
                    "idempotency_key": key,
                    # A fault of the vault or the registry is ours, and no text for a payer.
                    "reason": str(refused) if isinstance(refused, StalelaError) else "Not sent",
                    "retry_after": getattr(refused, "retry_after", None),
                },
                caller,
                idempotent=True,
                patience_s=PATIENCE_S,
            )
            raise


def seal_party(vault: Vault, phone: str) -> str:
    """`phone` sealed under a name that is kept beside it: its transfer has no id yet."""
    name = uuid4().hex
    return f"{name}.{vault.seal(phone.encode(), f'party|{name}')}"


def payee_of(order: Mapping[str, Any], vault: Vault) -> str | None:
    """Who is paid out, opened; None when nobody is. Raises VaultError."""
    if order.get("operation") != Operation.PAY_OUT:
        return None
    sealed, context = order["payee_sealed"], order.get("payee_context")
    if context is None:
        name, _, sealed = sealed.partition(".")
        context = f"party|{name}"
    return vault.open(sealed, context).decode()
