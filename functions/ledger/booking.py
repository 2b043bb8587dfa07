"""Books what the outbox holds, batch by batch."""

import time
from collections.abc import Callable
from typing import Final

from shared import log
from shared.db import Database
from shared.http.caller import Caller

# A large batch is cheap, but whoever adjusts the same books by hand waits for it; and one with many
# events that cannot be booked is slow, in the end too slow for the database's patience. So batches
# grow while they are done in time, and shrink when they are not.
FEWEST: Final = 250
MOST: Final = 10_000
IN_TIME_S: Final = 0.6


class Booker:
    """One batch is one call: events are taken, booked and done with in its transaction."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.perf_counter) -> None:
        self._database = database
        self._clock = clock
        self._size = MOST
        self.caller: Caller | None = None

    async def step(self) -> int:
        """How many events were taken. Raises StalelaError, and then none was."""
        assert self.caller is not None, "whoever poked is known"
        size, began = self._size, self._clock()
        self._size = max(FEWEST, size // 2)
        taken = int(await self._database.call("ledger.book", {"max_rows": size}, self.caller))
        if self._clock() - began <= IN_TIME_S:
            self._size = min(MOST, size * 2)
        if taken:
            log.event("events_booked", count=taken)
        return taken
