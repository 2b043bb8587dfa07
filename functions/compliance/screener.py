"""The lists in memory, and everything that is compared with them."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Final

from functions.compliance.matching import Entry, Index, Match, Party, Thresholds, canonical
from functions.compliance.models import RegisterParty, Screen, ScreenedParty
from shared import log
from shared.db import Answer, Database
from shared.errors import DependencyUnavailable
from shared.http.caller import Caller
from shared.masking import mask_name, mask_phone
from shared.parties import hashes_of, open_profile, seal_profile
from shared.phones import parse_payer_phone
from shared.vault import Vault, VaultError

CHECK_EVERY_S: Final = 60.0
PAGE: Final = 5000
BATCH: Final = 50


@dataclass(frozen=True, slots=True)
class _Loaded:
    index: Index
    thresholds: Thresholds
    is_usable: bool
    is_required: bool


class Screener:
    """Lives as long as the app. `now` is a monotonic clock in seconds.

    `caller` is who poked last: the screenings that follow are part of that trace.
    """

    def __init__(
        self, db: Database, vault: Vault, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.caller = Caller("", "")
        self._db = db
        self._vault = vault
        self._now = now
        self._loaded: _Loaded | None = None
        self._checked_at = float("-inf")
        self._loading = asyncio.Lock()

    async def require_ready(self, caller: Caller) -> None:
        """For /readyz. DependencyUnavailable while some tenant needs lists and there are none."""
        loaded = await self._current(caller)
        if loaded.is_required and not loaded.index.entries:
            raise DependencyUnavailable("no sanctions list is loaded", retry_after=60)

    async def screen(self, body: Screen, caller: Caller) -> Answer:
        """Compare the parties of a request; one read, one write."""
        loaded = await self._usable(caller)
        parties = [_party(one) for one in body.parties]
        prints = [self._fingerprint(party) for party in parties]
        context = await self._db.call(
            "compliance.screening_context",
            {
                "tenant_id": body.tenant_id,
                "environment": body.environment,
                "fingerprints": prints,
            },
            caller,
        )
        results = [
            _result(loaded, loaded.index.search(party, loaded.thresholds, context["exempt"][mark]))
            | {
                "tenant_id": body.tenant_id,
                "environment": body.environment,
                "transfer_id": body.transfer_id,
                "role": asked.role,
                "fingerprint": mark,
                "screened_by": context["actor"],
            }
            for asked, party, mark in zip(body.parties, parties, prints, strict=True)
        ]
        for result in results:
            log.event("party_screened", outcome=result["decision"], version=loaded.index.version)
        return await self._db.answer(
            "compliance.record_screenings",
            {"results": results, "headers": context["headers"]},
            caller,
        )

    async def register(self, body: RegisterParty, caller: Caller) -> Answer:
        """Store the party sealed, then compare it; without lists it stays pending, and 50301."""
        phone = parse_payer_phone(body.phone, pointer="/phone")
        party = _party(body)
        stored = await self._db.call(
            "compliance.put_party",
            {
                "reference": body.reference,
                "profile_sealed": seal_profile(self._vault, **asdict(party)),
                "name_masked": mask_name(body.name),
                "phone_masked": mask_phone(phone),
                "party_hashes": hashes_of(self._vault, phone),
                "fingerprint": self._fingerprint(party),
            },
            caller,
        )
        return await self._record(
            await self._usable(caller), stored, party, caller, show_matches=False
        )

    async def screen_again(self, work: Mapping[str, Any], caller: Caller) -> Answer:
        """Compare a stored party with everything, for an operator who sees what matched."""
        loaded = await self._usable(caller)
        return await self._record(loaded, work, self._opened(work), caller, show_matches=True)

    async def screen_due(self) -> int:
        """Compare the next parties that wait: new ones, and all others after an import."""
        caller = self.caller
        self.expect_change()  # it may be why we were woken
        loaded = await self._current(caller)
        if not loaded.is_usable:
            return 0
        rows = await self._db.call(
            "compliance.claim_parties",
            {"list_version": loaded.index.version, "max_rows": BATCH},
            caller,
        )
        return await self._compare_all(loaded, rows, caller)

    async def _compare_all(
        self, loaded: _Loaded, rows: list[dict[str, Any]], caller: Caller
    ) -> int:
        still_clear, done = [], 0
        for row in rows:
            try:
                party = self._opened(row)
            except VaultError as failed:
                log.error("party_not_opened", subject_id=row["party_id"], reason=str(failed))
                continue  # its lease runs out and it is tried again; nobody is cleared by it
            since = row["clear_up_to"]
            if since is not None and not loaded.index.younger_than(since).search(
                party, loaded.thresholds, row["exempt"]
            ):
                still_clear.append(row["party_id"])
            else:
                await self._record(loaded, row, party, caller, show_matches=False)
            done += 1
            await asyncio.sleep(0)  # others wait for this loop too
        if still_clear:
            await self._db.call(
                "compliance.refresh_clear",
                {"party_ids": still_clear, "list_version": loaded.index.version},
                caller,
            )
        return done

    async def _record(
        self,
        loaded: _Loaded,
        work: Mapping[str, Any],
        party: Party,
        caller: Caller,
        *,
        show_matches: bool,
    ) -> Answer:
        matches = loaded.index.search(party, loaded.thresholds, work["exempt"])
        result = _result(loaded, matches) | {
            "party_id": work["party_id"],
            "role": "party",
            "fingerprint": self._fingerprint(party),
            "name_masked": mask_name(party.name),
            "screened_by": work.get("actor", "system"),
        }
        log.event("party_screened", outcome=result["decision"], version=loaded.index.version)
        return await self._db.answer(
            "compliance.record_party",
            {"result": result, "show_matches": show_matches, "headers": work.get("headers") or {}},
            caller,
        )

    def expect_change(self) -> None:
        """Look at the lists again before the next use."""
        self._checked_at = float("-inf")

    def hashes_of(self, phone: str) -> list[str]:
        """What transfers carry in place of this E.164 number."""
        return hashes_of(self._vault, phone)

    def _fingerprint(self, party: Party) -> str:
        told = [canonical(party.name), party.born, party.country, party.document]
        return self._vault.blind_index(json.dumps(told), "party")

    def _opened(self, row: Mapping[str, Any]) -> Party:
        """Raises VaultError."""
        if row["is_customer"]:
            # As payment_intents seals the customers of its intents.
            name, _, sealed = row["profile_sealed"].partition(".")
            return Party(json.loads(self._vault.open(sealed, f"customer|{name}"))["name"])
        profile = open_profile(self._vault, row["profile_sealed"])
        return Party(
            profile["name"] or "", profile["born"], profile["country"], profile["document"]
        )

    async def _usable(self, caller: Caller) -> _Loaded:
        loaded = await self._current(caller)
        if not loaded.is_usable:
            # No decision can be made, so nobody is let through.
            raise DependencyUnavailable(
                "the sanctions lists are missing or more than three days old: an operator"
                " imports them with POST /compliance/lists/{source}",
                retry_after=300,
            )
        return loaded

    async def _current(self, caller: Caller) -> _Loaded:
        """The lists in force, looked at again every minute; old ones when the database is away."""
        async with self._loading:
            if self._loaded is not None and self._now() < self._checked_at + CHECK_EVERY_S:
                return self._loaded
            try:
                self._loaded = await self._load(caller)
            except DependencyUnavailable:
                if self._loaded is None:
                    raise
                log.warning("sanctions_lists_not_checked")
            self._checked_at = self._now()
            return self._loaded

    async def _load(self, caller: Caller) -> _Loaded:
        while True:
            state = await self._state(caller)
            index = self._loaded.index if self._loaded else None
            if index is None or index.version != state["version"]:
                index = Index(await self._entries(caller), state["version"])
                if (await self._state(caller))["version"] != index.version:
                    continue  # an import came between two pages
                log.event("sanctions_index_built", version=index.version, count=len(index.entries))
            return _Loaded(
                index,
                Thresholds(state["hold_from"], state["deny_from"]),
                state["usable"],
                state["required"],
            )

    async def _state(self, caller: Caller) -> dict[str, Any]:
        return dict(await self._db.call("compliance.index_state", {}, caller, idempotent=True))

    async def _entries(self, caller: Caller) -> list[Entry]:
        entries: list[Entry] = []
        after = ("", "")
        while True:
            rows = await self._db.call(
                "compliance.read_index",
                {"after_source": after[0], "after_ref": after[1], "page_size": PAGE},
                caller,
                idempotent=True,
            )
            entries += map(Entry.from_row, rows)
            if len(rows) < PAGE:
                return entries
            after = (rows[-1]["source"], rows[-1]["ref"])


def _party(told: ScreenedParty | RegisterParty) -> Party:
    born: date | None = told.date_of_birth
    return Party(told.name, born.isoformat() if born else None, told.country, told.document)


def _result(loaded: _Loaded, matches: list[Match]) -> dict[str, Any]:
    score = matches[0].score if matches else 0
    return {
        "decision": loaded.thresholds.decide(score),
        "score": score,
        "matches": [match.to_json() for match in matches],
        "list_version": loaded.index.version,
    }
