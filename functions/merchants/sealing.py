"""Credentials on their way into the vault and, for a test or a new master key, out of it."""

import json
from collections.abc import Mapping
from typing import Any, Final

from functions.merchants.models import Credentials, Resealed
from shared import log
from shared.db import Answer, Database
from shared.errors import CredentialsRefused, NotFound, RailUnavailable
from shared.http.caller import Caller
from shared.rails.base import ChecksCredentials
from shared.rails.instructions import credentials_context
from shared.rails.registry import Rails, UnknownRail
from shared.vault import Vault, VaultError

BATCH: Final = 50

_Place = tuple[str, str, str]  # tenant, environment, rail: what a seal is bound to


class SealedCredentials:
    """Lives as long as the app; opened values live as long as one call."""

    def __init__(self, db: Database, vault: Vault, rails: Rails) -> None:
        self._db = db
        self._vault = vault
        self._rails = rails

    async def put(self, rail: str, body: Credentials, caller: Caller, *, is_tested: bool) -> Answer:
        """Check, try, seal, store. Raises InvalidRequest naming the fields, CredentialsRefused."""
        assert caller.user is not None, "the route takes people only"
        assert caller.environment is not None, "people work in one environment"
        checker = self._checker(rail)
        document = json.dumps(body.root).encode()
        masked = checker.mask_credentials(document)
        if is_tested:
            # Whoever may not store credentials shall not use us to find out which ones work.
            await self._db.answer("rails.list_credentials", {}, caller, idempotent=True)
            await _try_first(checker, rail, document, caller.environment)
        context = credentials_context(caller.user.tenant_id, rail, caller.environment)
        arguments = {
            "tenant_id": caller.user.tenant_id,
            "environment": caller.environment,
            "rail": rail,
            "sealed": self._vault.seal(document, context),
            "key_version": self._vault.current_version,
            "masked": masked,
            "tested": is_tested,
        }
        return await self._db.answer("rails.put_credentials", arguments, caller)

    async def test(self, rail: str, caller: Caller) -> Answer:
        """Try what is stored. Raises CredentialsRefused, RailUnavailable; VaultError is ours."""
        checker = self._checker(rail)
        stored = await self._db.call("rails.open_credentials", {"rail": rail}, caller)
        document = self._vault.open(stored["sealed"], _context(stored))
        await _try(checker, rail, document, stored["environment"])
        return await self._db.answer("rails.record_credentials_test", {"rail": rail}, caller)

    async def reseal(self, caller: Caller) -> Resealed:
        """Move everything under the current master key, batch by batch, until none is left.

        What does not open stays as it is and is logged; it never stands in the way of the rest.
        """
        stuck: set[_Place] = set()
        resealed = 0
        while rows := await self._claim(stuck, caller):
            for row in rows:
                try:
                    resealed += await self._reseal_one(row, caller)
                except VaultError as failed:
                    stuck.add(_place(row))
                    _report_stuck(row, failed)
        log.event("credentials_resealed", count=resealed, failed=len(stuck))
        return Resealed(resealed=resealed, failed=len(stuck))

    async def _claim(self, stuck: set[_Place], caller: Caller) -> list[dict[str, Any]]:
        arguments = {
            "below_version": self._vault.current_version,
            # Those that failed come first again, so the batch reaches past them.
            "max_rows": BATCH + len(stuck),
        }
        rows = await self._db.call("rails.claim_reseal", arguments, caller, idempotent=True)
        return [row for row in rows if _place(row) not in stuck]

    async def _reseal_one(self, row: Mapping[str, Any], caller: Caller) -> bool:
        """Whether it was stored; replaced or deleted meanwhile, it was not. Raises VaultError."""
        arguments = {name: row[name] for name in ("tenant_id", "environment", "rail", "revision")}
        arguments |= {
            "sealed": self._vault.reseal(row["sealed"], _context(row)),
            "key_version": self._vault.current_version,
        }
        stored: bool = await self._db.call(
            "rails.record_reseal", arguments, caller, idempotent=True
        )
        return stored

    def _checker(self, rail: str) -> ChecksCredentials:
        try:
            checker = self._rails.checker(rail)
        except UnknownRail:
            raise NotFound(f"There is no rail {rail}.") from None
        if checker is None:
            raise NotFound(f"The rail {rail} takes no credentials.")
        return checker


async def _try(checker: ChecksCredentials, rail: str, document: bytes, environment: str) -> None:
    try:
        await checker.check_credentials(document, environment)
    except CredentialsRefused as refused:
        log.event(
            "credentials_refused",
            rail=rail,
            environment=environment,
            rail_code=refused.extras.get("rail_code"),
        )
        raise
    log.event("credentials_accepted", rail=rail, environment=environment)


async def _try_first(
    checker: ChecksCredentials, rail: str, document: bytes, environment: str
) -> None:
    try:
        await _try(checker, rail, document, environment)
    except RailUnavailable as down:
        raise RailUnavailable(
            f"{down.message}, so nothing was stored. ?test=false stores them untried.",
            retry_after=down.retry_after,
        ) from down


def _report_stuck(row: Mapping[str, Any], failed: VaultError) -> None:
    log.error(
        "credentials_reseal_failed",
        tenant_id=row["tenant_id"],
        environment=row["environment"],
        rail=row["rail"],
        reason=str(failed),
    )


def _place(row: Mapping[str, Any]) -> _Place:
    return row["tenant_id"], row["environment"], row["rail"]


def _context(row: Mapping[str, Any]) -> str:
    return credentials_context(row["tenant_id"], row["rail"], row["environment"])
