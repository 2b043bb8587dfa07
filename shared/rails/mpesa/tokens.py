"""Access tokens of Daraja apps: one holder per credential set, one refresh for all who wait."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

RENEW_EARLY_S = 60.0


@dataclass(frozen=True, slots=True)
class Token:
    """An access token and the seconds it lives from its issue."""

    value: str = field(repr=False)
    lifetime_s: float


class Tokens:
    """Tokens by credential set. `now` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._held: dict[str, tuple[str, float]] = {}  # token and when to renew it
        self._flights: dict[str, asyncio.Task[str]] = {}

    async def get(
        self, key: str, fetch: Callable[[], Awaitable[Token]], stale: str | None = None
    ) -> str:
        """Give the token of `key`, fetched when it is due or is the `stale` one Daraja refused.

        All who wait share one fetch and its error; one of them going away does not cancel it.
        """
        held, renew_at = self._held.get(key, ("", 0.0))
        if held and held != stale and self._now() < renew_at:
            return held
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.create_task(self._refresh(key, fetch))
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._land(key, done))
        return await asyncio.shield(flight)

    async def _refresh(self, key: str, fetch: Callable[[], Awaitable[Token]]) -> str:
        token = await fetch()
        now = self._now()
        self._held = {k: kept for k, kept in self._held.items() if now < kept[1]}
        self._held[key] = (token.value, now + _renew_in_s(token.lifetime_s))
        return token.value

    def _land(self, key: str, flight: asyncio.Task[str]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # read here, because all who waited may have gone


def _renew_in_s(lifetime_s: float) -> float:
    # A token too short-lived to renew a minute early is renewed at half its life.
    return max(lifetime_s - RENEW_EARLY_S, lifetime_s / 2)
