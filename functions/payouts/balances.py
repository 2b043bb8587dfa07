"""What a tenant holds at a rail: one question, whose answer comes to momo_callback."""

from secrets import token_hex
from typing import Final

from shared.clock import utc_now
from shared.db import Answer, Database
from shared.errors import CredentialsRefused, InvalidParameter
from shared.http.caller import Caller, digest
from shared.ids import new_id
from shared.money import Money
from shared.rails.base import RAIL_UNAVAILABLE, Instruction, Outcome, RailUnavailable
from shared.rails.instructions import callback_url, credentials_context
from shared.rails.registry import MODULES, Rails
from shared.vault import Vault

RETRY_AFTER_S: Final = 30


class Balances:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, db: Database, vault: Vault, rails: Rails, functions_url: str) -> None:
        self._db = db
        self._vault = vault
        self._rails = rails
        self._functions_url = functions_url

    async def ask(self, rail: str, caller: Caller) -> Answer:
        """Ask. InvalidParameter for a rail that does not tell, CredentialsRefused as it says."""
        asks = self._rails.balances(rail) if rail in MODULES else None
        if asks is None:
            raise InvalidParameter(
                "rail: does not tell balances",
                errors=[{"pointer": "/rail", "detail": "does not tell balances"}],
            )
        token = token_hex(32)
        order = await self._db.call(
            "rails.request_balance", {"rail": rail, "token_hash": digest(token)}, caller
        )
        context = credentials_context(order["tenant_id"], rail, order["environment"])
        event = await asks.request_balance(
            Instruction(
                transfer_id=new_id("bal"),
                tenant_id=order["tenant_id"],
                environment=order["environment"],
                amount=Money(0, order["currency"]),
                credentials=self._vault.open(order["credentials_sealed"], context),
                callback_url=callback_url(self._functions_url, token),
                submitted_at=utc_now(),
                traceparent=caller.traceparent,
            )
        )
        if event.outcome is not Outcome.PENDING:
            said = event.message or "the rail did not take the question"
            if event.reason == RAIL_UNAVAILABLE:
                raise RailUnavailable(said, retry_after_s=RETRY_AFTER_S)
            raise CredentialsRefused(said)
        asked = await self._db.answer("rails.get_balance", {"rail": rail}, caller)
        return Answer(202, asked.body, asked.headers)
