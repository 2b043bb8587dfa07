"""Has a rail report payments that nobody was prompted for."""

from secrets import token_hex

from shared.db import Answer, Database
from shared.errors import InvalidParameter
from shared.http.caller import Caller, digest
from shared.rails.base import DepositUrls
from shared.rails.instructions import credentials_context
from shared.rails.registry import MODULES, Rails
from shared.vault import Vault


class Deposits:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, db: Database, vault: Vault, rails: Rails, functions_url: str) -> None:
        self._db = db
        self._vault = vault
        self._rails = rails
        self._functions_url = functions_url

    async def open(self, rail: str, caller: Caller) -> Answer:
        """Register a new address; older ones keep working. InvalidParameter: no such rail.

        CredentialsRefused, RailUnavailable: as the rail says; the new address is then unused.
        """
        takes = self._rails.deposits(rail) if rail in MODULES else None
        if takes is None:
            raise InvalidParameter(
                "rail: takes no deposits",
                errors=[{"pointer": "/rail", "detail": "takes no deposits"}],
            )
        token = token_hex(32)
        order = await self._db.call(
            "rails.open_deposits", {"rail": rail, "token_hash": digest(token)}, caller
        )
        context = credentials_context(order["tenant_id"], rail, order["environment"])
        address = f"{self._functions_url}/momo-callback/c2b/{token}"
        await takes.register_deposits(
            self._vault.open(order["credentials_sealed"], context),
            order["environment"],
            DepositUrls(f"{address}/validation", f"{address}/confirmation"),
        )
        return await self._db.answer(
            "rails.record_deposits_registered", {"token_hash": digest(token)}, caller
        )
