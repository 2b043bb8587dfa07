"""How often documents are looked at: added up here, written every other second, never by whom."""

import asyncio
from collections import Counter
from typing import Final, Literal

from shared import log
from shared.db import Database
from shared.errors import StalelaError
from shared.http.caller import background_caller

Channel = Literal["page", "api", "qr", "batch"]

PAUSE_S: Final = 2.0
MAX_KEPT: Final = 10_000  # documents whose views wait for a database that is away


class Views:
    """One per app. A crash loses two seconds of counts, which nothing depends on."""

    def __init__(self, db: Database, *, pause_s: float = PAUSE_S) -> None:
        self._db, self._pause_s = db, pause_s
        self._counts: Counter[tuple[str, Channel]] = Counter()
        self._task: asyncio.Task[None] | None = None

    def note(self, fiscal_number: str, channel: Channel) -> None:
        """One more view. Costs the answer nothing: it is written later."""
        self._counts[fiscal_number, channel] += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_later())

    async def aclose(self) -> None:
        """Write what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        await self._write()

    async def _write_later(self) -> None:
        while self._counts:
            await asyncio.sleep(self._pause_s)
            await self._write()

    async def _write(self) -> None:
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        views = [
            {"fiscal_number": number, "channel": channel, "views": count}
            for (number, channel), count in counts.items()
        ]
        try:
            await self._db.call("fiscal.count_views", {"views": views}, background_caller())
        except StalelaError as failed:
            log.error("views_not_counted", failed, documents=len(counts))
            if len(counts) < MAX_KEPT:
                self._counts.update(counts)
