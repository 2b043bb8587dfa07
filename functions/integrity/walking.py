"""Walks chains part by part: SQL verifies what is stored, signatures are verified here.

Links and hashes of some 70,000 entries a second are a set-based query (`./scripts/bench walk`); an
elliptic curve takes a hundred times as long as a hash. So what is new is checked for everything
each day, everything is checked for everything each week, and whoever asks chooses.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from shared import log
from shared.db import Database
from shared.fiscal.seal import Seal, auth_code
from shared.http.caller import background_caller
from shared.signing.encoding import from_base64url
from shared.signing.verification import is_signed

Part = Mapping[str, Any]


class Walker:
    """Lives as long as the app. A walk that is cut off goes on from its last part."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def walk_due(self) -> int:
        """Finish one walk that is due; how many parts it took, 0 when none is."""
        caller, parts = background_caller(), 0
        walk_id = await self._database.call("fiscal.due_walk", {}, caller)
        status = None if walk_id is None else "running"
        while status == "running":
            step = {"walk_id": walk_id}
            part = await self._database.call("fiscal.walk_part", step, caller, idempotent=True)
            # Elliptic curves take a second for a part; whoever else asks is not kept waiting.
            step["forged"] = await asyncio.to_thread(first_forged, part)
            step |= {name: part[name] for name in ("after_entry", "until_entry", "is_last")}
            status = await self._database.call("fiscal.walk_on", step, caller)
            parts += 1
        if status is not None:
            log.event("chain_walked", outcome=status, count=parts)
        return parts


def first_forged(part: Part) -> int | None:
    """The first entry whose signature is not its key's over what the ledger says, if any is."""
    outlet, keys = part["outlet"], part["keys"]
    forged = (
        int(entry["entry_no"])
        for entry in part["entries"]
        if entry["key_id"] not in keys or not _is_sealed(entry, outlet, keys[entry["key_id"]])
    )
    return next(forged, None)


def _is_sealed(entry: Part, outlet: Part, key: Part) -> bool:
    digest = Seal(
        jurisdiction=outlet["jurisdiction"],
        outlet_id=outlet["outlet_id"],
        fiscal_authority_id=outlet["fiscal_authority_id"],
        fiscal_number=entry["fiscal_number"],
        sequence=entry["sequence"],
        canonical_payload_hash=entry["canonical_payload_hash"],
        previous_hash=entry["previous_hash"],
        sealed_at=entry["sealed_at"],
        key_id=entry["key_id"],
    ).digest()
    try:
        code = auth_code(from_base64url(entry["signature"]))
    except ValueError:
        return False
    return (
        digest.hex() == entry["digest"]
        and code == entry["auth_code"]
        and is_signed(digest, entry["signature"], key["alg"], key["spki"])
    )
