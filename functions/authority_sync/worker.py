"""Takes documents that are due to their authorities, many at once and each in one lease."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from functions.authority_sync.work import acceptance_json, device_of, document_of
from shared import log
from shared.authority.base import (
    Acceptance,
    Authority,
    Blocked,
    Device,
    DeviceRefused,
    HasFiscalDays,
    Journal,
    NotAccepted,
    NotNow,
    Rejected,
    Undecided,
    Unknown,
    Unreachable,
)
from shared.authority.registry import Authorities
from shared.db import Database
from shared.errors import StalelaError
from shared.http.caller import Caller
from shared.vault import Vault, VaultError

SLOTS: Final = 50  # submissions under way in one process; a batch is what is free of them
LOOK_S: Final = 1.0  # how long slow submissions keep us from looking for other work
GATHER_S: Final = 0.02  # and how long we wait for more slots to be free, to claim them at once
BEGIN_NOTHING: Final = "READ_ONLY"

_OUTCOMES: Final[Mapping[type[NotAccepted], str]] = {
    Rejected: "rejected",
    Blocked: "blocked",
    Undecided: "undecided",
    Unreachable: "unreachable",
    DeviceRefused: "device_refused",
    NotNow: "not_now",
    Unknown: "unknown",
}

Item = dict[str, Any]


class Worker:
    """Lives as long as the app; what it knows of a submission is in the database."""

    def __init__(self, db: Database, vault: Vault, authorities: Authorities) -> None:
        self._db, self._vault, self._authorities = db, vault, authorities

    async def drain(self, caller: Caller) -> int:
        """Submit until nothing is due; how many attempts were made.

        Slots are filled as they become free: one slow authority holds its own documents alone.
        """
        running: set[asyncio.Task[None]] = set()
        made = 0
        try:
            while True:
                free = SLOTS - len(running)
                items = (
                    await self._db.call("sync.claim", {"max_rows": free}, caller) if free else []
                )
                running |= {asyncio.create_task(self._attempt(item, caller)) for item in items}
                made += len(items)
                if not running:
                    return made
                running = await _some_done(running)
        finally:
            # Whoever is cut off leaves a lease and a note behind, and is resumed when it ends.
            for task in running:
                task.cancel()

    async def _attempt(self, item: Item, caller: Caller) -> None:
        """One attempt, recorded. Whatever cannot be recorded is resumed when its lease ends."""
        journal = Journal(item["progress"], partial(self._note, item, caller))
        accepted: Acceptance | None = None
        refused: NotAccepted | None = None
        try:
            device = device_of(item["device"], self._vault)
            accepted = await self._tell(item, device, journal)
        except NotAccepted as said:
            refused = said
        except VaultError as broken:
            refused = DeviceRefused("CREDENTIALS_SEALED", str(broken))
        except StalelaError as away:
            # Our own database: nothing can be recorded now.
            log.warning("authority_attempt_lost", sync_id=item["sync_id"], reason=str(away))
            return
        # One document nobody foresaw must not hold up the others; what it had begun was noted.
        except Exception as unforeseen:  # noqa: BLE001
            log.error("authority_attempt_failed", unforeseen, sync_id=item["sync_id"])
            refused = Unknown("INTERNAL_ERROR", type(unforeseen).__name__)
        await self._record(item, journal, accepted, refused, caller)

    async def _tell(self, item: Item, device: Device, journal: Journal) -> Acceptance:
        authority = self._authorities.get(device.jurisdiction)
        if item["kind"] == "day_close":
            assert isinstance(authority, HasFiscalDays), "SQL queues days where there are days"
            return await authority.close_day(device, journal)
        document = document_of(item, device)
        if journal.progress:
            found = await authority.resume(document, device, journal)
            if found is not None:
                return found
            await journal.note({})
        return await self._begin(item, authority, document, device, journal)

    async def _begin(
        self, item: Item, authority: Authority, document: Any, device: Device, journal: Journal
    ) -> Acceptance:
        if not item["may_begin"]:
            raise NotNow(BEGIN_NOTHING, "the authority is switched to read only", 300)
        return await authority.submit(document, device, journal)

    async def _note(
        self,
        item: Item,
        caller: Caller,
        progress: Mapping[str, Any],
        device_state: Mapping[str, Any] | None,
    ) -> None:
        await self._db.call(
            "sync.note_progress",
            {
                "sync_id": item["sync_id"],
                "attempt": item["attempt"],
                "progress": dict(progress),
                "device_id": item["device"]["device_id"],
                "device_state": None if device_state is None else dict(device_state),
            },
            caller,
            idempotent=True,
        )

    async def _record(
        self,
        item: Item,
        journal: Journal,
        accepted: Acceptance | None,
        refused: NotAccepted | None,
        caller: Caller,
    ) -> None:
        outcome = "accepted" if refused is None else _OUTCOMES[type(refused)]
        try:
            status = await self._db.call(
                "sync.record_attempt",
                {
                    "sync_id": item["sync_id"],
                    "attempt": item["attempt"],
                    "device_id": item["device"]["device_id"],
                    "outcome": outcome,
                    "code": refused.code if refused else None,
                    "message": refused.message if refused else None,
                    "retry_after_s": refused.retry_after_s if refused else None,
                    "exchanges": [exchange.to_json() for exchange in journal.exchanges],
                    "acceptance": acceptance_json(accepted) if accepted else None,
                },
                caller,
            )
        except StalelaError as away:
            # The authority may have the document: the lease ends, and the note is resumed.
            log.error("authority_attempt_not_recorded", away, sync_id=item["sync_id"])
            return
        log.event(
            "authority_attempted",
            sync_id=item["sync_id"],
            jurisdiction=item["device"]["jurisdiction"],
            outcome=outcome,
            code=refused.code if refused else None,
            status=status,
        )


async def _some_done(running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Those that still run, after a moment in which some had the chance to end."""
    first, rest = await asyncio.wait(running, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
    more, rest = await asyncio.wait(rest, timeout=GATHER_S) if rest else (set(), rest)
    for task in first | more:
        task.result()
    return rest
