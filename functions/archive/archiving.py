"""From a range of a chain to objects that are kept: written, read back, named by a manifest."""

import asyncio
import io
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from gzip import GzipFile
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import IO, Any, Final

from shared import log
from shared.canonical import canonical_bytes
from shared.clock import to_wire
from shared.db import Database
from shared.errors import DependencyUnavailable, InternalError
from shared.http.caller import Caller
from shared.objects import NotTheSame, Objects, Refused, StoreUnavailable

BATCH: Final = 10  # ranges looked for at once
PAGE: Final = 100  # entries of one answer: at 500 lines a document, some ten megabytes
IN_MEMORY: Final = 4 * 1024 * 1024  # a part that grows beyond goes to the disk
DAYS_OF_A_YEAR: Final = 365.25
MEDIA_TYPES: Final = {"json": "application/json", "jsonl.gz": "application/gzip"}

Work = dict[str, Any]
Keep = Callable[[Work, Caller], Awaitable[None]]


class Archive:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database, self._objects = database, objects

    async def keep_days(self, caller: Caller) -> int:
        """Archive the days that are over, of every outlet; how much was kept."""
        midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        return await self._keep(None, midnight, caller)

    async def keep_outlet(self, outlet_id: str, caller: Caller) -> int:
        """Archive all of one outlet that has its signatures by now; how much was kept."""
        return await self._keep(outlet_id, datetime.now(UTC), caller)

    async def _keep(self, outlet_id: str | None, until: datetime, caller: Caller) -> int:
        """The manifests whose signatures have come, and the ranges that have no manifest yet.

        An outlet that fails at one of the two is left alone with it until the next round, and
        stops neither the other nor anybody else; at the end it is an error all the same.
        """
        wanted = {"outlet_id": outlet_id, "max_rows": BATCH}
        manifests, stuck = await self._each(
            "fiscal.archive_open", wanted, self._keep_manifest, caller
        )
        wanted |= {"until": to_wire(until)}
        ranges, failed = await self._each("fiscal.archive_due", wanted, self._keep_range, caller)
        if stuck or failed:
            raise InternalError(f"{len({*stuck, *failed})} outlets could not be archived")
        return manifests + ranges

    async def _each(
        self, routine: str, wanted: Work, keep: Keep, caller: Caller
    ) -> tuple[int, list[str]]:
        """Work on what a SQL routine finds until nothing is left; how much was kept, who failed."""
        kept, failed = 0, list[str]()
        while works := await self._database.call(routine, wanted | {"skipped": failed}, caller):
            for work in works:
                if work["outlet_id"] in failed:
                    continue
                try:
                    await keep(work, caller)
                except InternalError as broken:
                    log.error("archive_failed", broken, subject_id=work["outlet_id"])
                    failed.append(work["outlet_id"])
                else:
                    kept += 1
        return kept, failed

    async def _keep_manifest(self, work: Work, caller: Caller) -> None:
        body = work["body"].encode()
        digest = sha256(body).hexdigest()
        name = f"{_range_name(work)}.manifest"
        copy = {
            "fiscal_number": work["fiscal_number"],
            "object_key": await self._write(name, io.BytesIO(body), digest, "json", caller),
            "sha256": digest,
            "bytes": len(body),
        }
        await self._database.call("fiscal.record_copy", copy, caller, idempotent=True)

    async def _keep_range(self, work: Work, caller: Caller) -> None:
        await self._check_retention(work["retention_years"], caller)
        year, month, day = work["day"].split("-")
        prefix = (
            f"fiscal/{work['jurisdiction']}/{work['merchant_id']}/{work['outlet_id']}"
            f"/{year}/{month}/{day}/"
        )
        first, last = work["first_entry"], work["last_entry"]
        name = _range_name(work | {"prefix": prefix})
        with ExitStack() as open_parts:
            parts = await self._read(work, open_parts, caller)
            if parts["ledger"].rows != last - first + 1:
                raise InternalError(f"entries {first} to {last} are not all there")
            written = []
            for kind, part in sorted(parts.items()):
                digest = part.close()
                key = await self._write(f"{name}.{kind}", part.file, digest, "jsonl.gz", caller)
                written.append(
                    {"kind": kind, "key": key, "rows": part.rows, "bytes": part.size}
                    | {"sha256": digest}
                )
        manifest = {
            name: work[name]
            for name in (
                "jurisdiction", "merchant_id", "outlet_id", "outlet_code", "fiscal_authority_id",
                "environment", "day", "first_entry", "last_entry",
            )
        }  # fmt: skip
        manifest |= {"v": 1, "record_type": "archive", "objects": written}
        number = await self._database.call(
            "fiscal.record_manifest",
            {
                "outlet_id": work["outlet_id"],
                "first_entry": first,
                "last_entry": last,
                "day": work["day"],
                "prefix": prefix,
                "body": canonical_bytes(manifest).decode(),
            },
            caller,
        )
        log.event("range_archived", subject_id=number, rows=last - first + 1)

    async def _read(self, work: Work, open_parts: ExitStack, caller: Caller) -> dict[str, "Part"]:
        """Everything of a range, a part per kind; kinds without a line have none."""
        parts: dict[str, Part] = {}

        def add(page: Mapping[str, Iterable[str] | None]) -> None:
            for kind, lines in page.items():
                for line in lines or ():
                    if kind not in parts:
                        parts[kind] = open_parts.enter_context(Part())
                    parts[kind].add(line)

        outlet = {"outlet_id": work["outlet_id"]}
        for first in range(work["first_entry"], work["last_entry"] + 1, PAGE):
            last = min(first + PAGE - 1, work["last_entry"])
            entries = outlet | {"first_entry": first, "last_entry": last}
            page = await self._database.call("fiscal.archive_page", entries, caller)
            await asyncio.to_thread(add, page)
        add({"keys": await self._database.call("fiscal.archive_keys", outlet, caller)})
        return parts

    async def _check_retention(self, years: int, caller: Caller) -> None:
        wanted = math.ceil(years * DAYS_OF_A_YEAR)
        async with _answered():
            days = await asyncio.to_thread(self._objects.retention_days)
        if days < wanted:
            reason = f"the bucket keeps objects for {days} days, and the law wants {wanted}"
            await self._tell("archive_unprotected", "archive", reason, caller)
            raise InternalError(reason)

    async def _write(
        self, name: str, body: IO[bytes], digest: str, ending: str, caller: Caller
    ) -> str:
        """Keep an object whose SHA-256 is known; its key, which is {name}.{digest}.{ending}.

        A key says what is under it, so writing twice is harmless. What the storage spoils stays
        there as long as all else does: the next round goes on to …{digest}.2.{ending}, then 3.
        """
        key, copies = f"{name}.{digest[:16]}.{ending}", 1
        while True:
            try:
                async with _answered():
                    await asyncio.to_thread(
                        self._objects.keep, key, body, digest, MEDIA_TYPES[ending]
                    )
                return key
            except NotTheSame as other:
                await self._tell("archive_damaged", key, "it was read back differently", caller)
                if other.just_written:
                    raise InternalError(f"{key} is not what was sent") from None
            copies += 1
            key = f"{name}.{digest[:16]}.{copies}.{ending}"

    async def _tell(self, kind: str, subject: str, reason: str, caller: Caller) -> None:
        trouble = {"kind": kind, "subject": subject, "reason": reason}
        await self._database.call("fiscal.tell_archive_trouble", trouble, caller)


class Part:
    """The JSON lines of one kind, compressed while they come. The same lines are the same bytes."""

    def __init__(self) -> None:
        self.rows = self.size = 0
        self.file: IO[bytes] = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  closed by __exit__
        self._lines = GzipFile(filename="", mode="wb", fileobj=self.file, mtime=0)

    def add(self, line: str) -> None:
        """One more line."""
        self._lines.write(line.encode() + b"\n")
        self.rows += 1

    def close(self) -> str:
        """The SHA-256 of the whole, which can be read from its beginning now."""
        self._lines.close()
        self.size = self.file.tell()
        self.file.seek(0)
        digest = sha256()
        while piece := self.file.read(IN_MEMORY):
            digest.update(piece)
        self.file.seek(0)
        return digest.hexdigest()

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _range_name(work: Work) -> str:
    return f"{work['prefix']}{work['first_entry']:08d}-{work['last_entry']:08d}"


@asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Object storage that does not answer makes this function unavailable for the moment.

    A no is about one object, and that outlet's trouble alone.
    """
    try:
        yield
    except Refused as refused:
        raise InternalError(f"the object storage refused: {refused}") from refused
    except StoreUnavailable as away:
        log.warning("archive_unavailable", reason=str(away))
        raise DependencyUnavailable("the object storage does not answer", retry_after=60) from away
