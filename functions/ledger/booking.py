"""Books what the outbox holds, batch by batch."""

from typing import Final

from shared import log
from shared.db import Database
from shared.http.caller import Caller

# About 50 ms of work: long enough to be cheap, short enough to keep nobody waiting for an account.
BATCH: Final = 1000


class Booker:
    """One batch is one call: events are taken, booked and done with in its transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.caller: Caller | None = None

    async def step(self) -> int:
        """How many events were taken. Raises StalelaError, and then none was."""
        assert self.caller is not None, "whoever poked is known"
        taken = int(await self._database.call("ledger.book", {"max_rows": BATCH}, self.caller))
        if taken:
            log.event("events_booked", count=taken)
        return taken
