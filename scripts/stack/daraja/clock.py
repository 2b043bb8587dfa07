"""The simulator's clock: payers and deadlines run on it, and a test may make it run faster.

Virtual time is seconds since the epoch and drifts from the wall once the speed has not been 1.
Everything on the wire (ids, `TransactionDate`, token lifetimes) stays on the wall clock.
"""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

EAT = timezone(timedelta(hours=3), "EAT")  # no daylight saving in Kenya


def wall() -> datetime:
    """Now, aware, UTC."""
    return datetime.now(UTC)


class Clock:
    """Virtual seconds that pass `speed` times as fast as the wall's."""

    def __init__(self, virtual: float | None = None, at_wall: float | None = None) -> None:
        self._base_wall = time.time() if at_wall is None else at_wall
        self._base_virtual = self._base_wall if virtual is None else virtual
        self._changed = asyncio.Event()
        self.speed = 1.0

    def now(self) -> float:
        return self._base_virtual + (time.time() - self._base_wall) * self.speed

    def bases(self) -> tuple[float, float]:
        """(virtual, wall) of this instant, to be kept so that a restarted clock goes on."""
        return self.now(), time.time()

    def set_speed(self, speed: float) -> None:
        """Takes effect for everyone who is already waiting."""
        self._base_virtual, self._base_wall = self.now(), time.time()
        self.speed = speed
        self._changed.set()
        self._changed = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await self.sleep_until(self.now() + seconds)

    async def sleep_until(self, due: float, wake: asyncio.Event | None = None) -> None:
        """Returns at virtual time `due`, or as soon as `wake` is set."""
        while (left := due - self.now()) > 0 and not (wake and wake.is_set()):
            await self._pause(left / self.speed, wake)

    async def _pause(self, seconds: float, wake: asyncio.Event | None) -> None:
        waits = [asyncio.ensure_future(e.wait()) for e in (self._changed, wake) if e]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
                with suppress(asyncio.CancelledError):
                    await each
