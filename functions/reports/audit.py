"""The audit archive: a stretch of a chain with all that proves it, sent while it is read."""

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Annotated, Any, Final
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from fastapi import Query, Request
from fastapi.responses import Response

from functions.reports import models
from functions.reports.pages import PAGE, in_turn, streamed
from shared.canonical import canonical_bytes
from shared.db import Database
from shared.fiscal import audit
from shared.http.caller import ApiCaller, Caller
from shared.http.problem import problem_responses
from shared.http.routes import Router

router = Router("audit")

_ZIP: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The archive.",
        "content": {
            "application/zip": {
                "schema": {"type": "string", "format": "binary"},
                "example": "PK",
            }
        },
    }
}


@router.get(
    "/audit-export",
    response_class=Response,
    responses=_ZIP | problem_responses(400, 401, 403, 404, 409, 422, 429, 500, 503),
)
async def export_audit(
    asked: Annotated[models.AskedAudit, Query()], caller: ApiCaller, request: Request
) -> Response:
    """Download a part of an outlet's ledger as one archive that proves itself offline.

    Every entry with its document and signature, the Z reports, the public keys, and a manifest.
    31 days an archive: the file's name says which of how many. Check it with
    `scripts/verify-audit`.
    """
    db: Database = request.app.state.database
    found = json.loads(
        (await db.answer("fiscal.export_range", asked.arguments(), caller, idempotent=True)).body
    )
    name = (
        f"audit-{found['outlet_code']}-{found['from']}-{found['to']}"
        f"-{found['chunk_index']}of{found['chunk_count']}.zip"
    )
    return await streamed(_archive(db, found, caller), name, "application/zip")


async def _archive(db: Database, found: dict[str, Any], caller: Caller) -> AsyncIterator[bytes]:
    archive = _Archive(found)
    first = found["first_entry"]
    while first <= found["last_entry"]:
        last = min(first + PAGE - 1, found["last_entry"])
        wanted = {"outlet_id": found["outlet_id"], "first_entry": first, "last_entry": last}
        page = await in_turn(db, "fiscal.export_entries", wanted, caller)
        # Packing is processor time, which the other requests of this process must not wait for.
        yield await asyncio.to_thread(archive.add, page)
        first = last + 1
    yield await asyncio.to_thread(archive.close)


class _Archive:
    """A zip that is taken away while it grows. Equal ranges give equal bytes."""

    def __init__(self, found: dict[str, Any]) -> None:
        names = ("environment", "jurisdiction", "outlet_id", "fiscal_authority_id")
        self._contents = audit.Contents(audit.Place(**{name: found[name] for name in names}))
        self._keys = canonical_bytes({"keys": found["keys"]})
        self._reports: dict[str, bytes] = {}
        self._files: dict[str, tuple[int, str]] = {}
        self._sink = _Sink()
        self._zip = ZipFile(self._sink, "w", ZIP_DEFLATED)
        self._entries = self._zip.open(_named(audit.ENTRIES), "w", force_zip64=True)
        self._size, self._digest = 0, sha256()

    def add(self, page: bytes) -> bytes:
        """Some lines of entries; what has grown since."""
        for line in page.splitlines():
            entry = audit.read_entry(line)
            self._contents.add(entry)
            if entry.record_type == "report_z" and entry.payload is not None:
                # A month of days is few; the entries are many and pass by.
                self._reports[entry.fiscal_number] = canonical_bytes(entry.payload)
        self._entries.write(page)
        self._size += len(page)
        self._digest.update(page)
        return self._sink.take()

    def close(self) -> bytes:
        """All other files, and the end."""
        self._entries.close()
        self._files[audit.ENTRIES] = (self._size, self._digest.hexdigest())
        self._put(audit.KEYS, self._keys)
        for number, body in self._reports.items():
            self._put(f"{audit.REPORTS}{number}.json", body)
        self._put(audit.MANIFEST, canonical_bytes(self._contents.manifest(self._files)))
        self._zip.close()
        return self._sink.take()

    def _put(self, name: str, body: bytes) -> None:
        self._zip.writestr(_named(name), body)
        self._files[name] = (len(body), sha256(body).hexdigest())


def _named(name: str) -> ZipInfo:
    # The oldest time a zip knows, so that equal contents are equal bytes.
    info = ZipInfo(name)
    info.compress_type = ZIP_DEFLATED
    return info


class _Sink:
    """Where a zip is written that nobody can seek in."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        """Keep a part until it is taken."""
        self._parts.append(bytes(part))
        return len(part)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        """What came since the last time."""
        taken, self._parts = b"".join(self._parts), []
        return taken
