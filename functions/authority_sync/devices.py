"""Devices on their way into the vault, looked after once a day, sealed again for a new key."""

from collections.abc import Mapping
from typing import Any, Final

from functions.authority_sync.work import credentials_context, device_of, outlet_of
from shared import log
from shared.authority.base import Checkup, DeviceRefused, NotAccepted
from shared.authority.registry import Authorities, UnknownAuthority
from shared.clock import utc_now
from shared.db import Answer, Database
from shared.errors import NotFound
from shared.http.caller import Caller
from shared.vault import Vault, VaultError

BATCH: Final = 50


class Devices:
    """Lives as long as the app; opened credentials live as long as one call."""

    def __init__(self, db: Database, vault: Vault, authorities: Authorities) -> None:
        self._db, self._vault, self._authorities = db, vault, authorities

    async def register(self, outlet_id: str, facts: Mapping[str, Any], caller: Caller) -> Answer:
        """Have the authority make or check the device, seal what it gave, store it.

        Raises InvalidParameter, AuthorityRefused, AuthorityUnavailable; nothing is stored then.
        """
        place = await self._db.call("sync.begin_registration", {"outlet_id": outlet_id}, caller)
        try:
            authority = self._authorities.get(place["jurisdiction"])
        except UnknownAuthority:
            raise NotFound(f"The authority of {place['jurisdiction']} is not connected.") from None
        outlet = outlet_of(place["outlet"])
        # Some authorities give a key once: what we would refuse afterwards is refused before.
        wanted = {
            "outlet_id": outlet_id,
            "jurisdiction": place["jurisdiction"],
            "authority_ref": authority.reference(facts, outlet),
        }
        await self._db.call("sync.check_registration", wanted, caller)
        made = await authority.register(facts, outlet, place["environment"])
        context = credentials_context(place["tenant_id"], outlet_id, place["environment"])
        arguments = {
            "tenant_id": place["tenant_id"],
            "environment": place["environment"],
            "outlet_id": outlet_id,
            "jurisdiction": place["jurisdiction"],
            "authority_ref": made.authority_ref,
            "sealed": self._vault.seal(made.credentials, context),
            "key_version": self._vault.current_version,
            "masked": dict(made.masked),
            "state": dict(made.state),
            "expires_at": made.expires_at.isoformat() if made.expires_at else None,
        }
        return await self._db.answer("sync.put_device", arguments, caller)

    async def check_due(self, caller: Caller) -> int:
        """Look after every device whose day is over; how many were looked after."""
        checked = 0
        while rows := await self._db.call("sync.claim_checks", {"max_rows": 1}, caller):
            await self._check(rows[0], caller)
            checked += 1
        return checked

    async def _check(self, row: Mapping[str, Any], caller: Caller) -> None:
        outcome, message, found = "checked", None, Checkup()
        try:
            device = device_of(row, self._vault)
            found = await self._authorities.get(device.jurisdiction).check(device, utc_now())
        except NotAccepted as said:
            outcome = "device_refused" if isinstance(said, DeviceRefused) else "unavailable"
            message = said.message
        except VaultError as broken:
            outcome, message = "device_refused", str(broken)
        # One device nobody foresaw must not keep the others from being looked after.
        except Exception as unforeseen:  # noqa: BLE001
            log.error("authority_check_failed", unforeseen, device_id=row["device_id"])
            outcome, message = "failed", type(unforeseen).__name__
        log.event("authority_device_checked", device_id=row["device_id"], outcome=outcome)
        context = credentials_context(
            row["tenant_id"], row["outlet"]["outlet_id"], row["environment"]
        )
        renewed = found.credentials
        arguments = {
            "device_id": row["device_id"],
            "outcome": outcome,
            "message": message,
            "findings": [finding.to_json() for finding in found.findings],
            "expires_at": found.expires_at.isoformat() if found.expires_at else None,
            "state": None if found.state is None else dict(found.state),
            "sealed": self._vault.seal(renewed, context) if renewed is not None else None,
            "key_version": self._vault.current_version if renewed is not None else None,
        }
        await self._db.call("sync.record_check", arguments, caller)

    async def reseal(self, caller: Caller) -> tuple[int, int]:
        """Move credentials under the current master key: how many, and how many do not open."""
        stuck: set[str] = set()
        resealed = 0
        while rows := await self._old(stuck, caller):
            for row in rows:
                context = credentials_context(
                    row["tenant_id"], row["outlet_id"], row["environment"]
                )
                try:
                    sealed = self._vault.reseal(row["sealed"], context)
                except VaultError as failed:
                    stuck.add(row["device_id"])
                    log.error("authority_reseal_failed", failed, device_id=row["device_id"])
                    continue
                arguments = {
                    "device_id": row["device_id"],
                    "former": row["sealed"],
                    "sealed": sealed,
                    "key_version": self._vault.current_version,
                }
                resealed += await self._db.call("sync.record_reseal", arguments, caller)
        return resealed, len(stuck)

    async def _old(self, stuck: set[str], caller: Caller) -> list[dict[str, Any]]:
        # Those that failed come first again, so the batch reaches past them.
        arguments = {
            "below_version": self._vault.current_version,
            "max_rows": BATCH + len(stuck),
        }
        rows = await self._db.call("sync.claim_reseal", arguments, caller, idempotent=True)
        return [row for row in rows if row["device_id"] not in stuck]
