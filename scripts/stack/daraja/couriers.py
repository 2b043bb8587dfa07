"""Carries callbacks over HTTP: each is attempted once, whatever the receiver says."""

import asyncio
import time

import httpx

from scripts.stack.daraja.books import Delivery
from scripts.stack.daraja.journal import say
from scripts.stack.daraja.world import World

TIMEOUT_S = 10.0


class Couriers:
    """One task per waiting delivery."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clients: dict[str | None, httpx.AsyncClient] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._first: dict[str, asyncio.Event] = {}

    def collect(self, checkout_request_id: str | None = None) -> None:
        """Sends a courier for each waiting delivery (of one prompt or all) that has none yet."""
        for delivery in self._world.books.waiting(checkout_request_id):
            if delivery.id not in self._tasks:
                self._tasks[delivery.id] = asyncio.create_task(self._carry(delivery))

    async def first(self, checkout_request_id: str, timeout_s: float) -> None:
        """Waits for the first attempt; call it before anything could have been sent."""
        arrived = self._first.setdefault(checkout_request_id, asyncio.Event())
        try:
            await asyncio.wait_for(arrived.wait(), timeout_s)
        except TimeoutError:
            say("callback_not_first", checkout=checkout_request_id)
        finally:
            self._first.pop(checkout_request_id, None)

    async def forget(self) -> None:
        """Calls every courier back; what was not delivered stays undelivered."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def stop(self) -> None:
        """For good."""
        await self.forget()
        for client in self._clients.values():
            await client.aclose()

    async def _carry(self, delivery: Delivery) -> None:
        try:
            await self._world.clock.sleep_until(delivery.due_v)
            if self._world.books.attempt(delivery):
                await self._post(delivery)
        finally:
            self._tasks.pop(delivery.id, None)

    async def _post(self, delivery: Delivery) -> None:
        started = time.perf_counter()
        try:
            answer = await self._client(delivery.source).post(
                delivery.url, content=delivery.body, headers=delivery.headers
            )
            result = {"status": answer.status_code, "answer": answer.text[:2000]}
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            result = {"error": type(error).__name__}
        latency_ms = round((time.perf_counter() - started) * 1000, 2)
        self._world.books.record(delivery, latency_ms=latency_ms, **result)
        arrived = self._first.get(delivery.checkout_request_id)
        if arrived:
            arrived.set()
        self._world.changes.announce()
        say(f"{delivery.kind}_sent", checkout=delivery.checkout_request_id, **_brief(result))

    def _client(self, source: str | None) -> httpx.AsyncClient:
        """One client per source address. A kept connection could be stale and lose the attempt."""
        if source not in self._clients:
            transport = httpx.AsyncHTTPTransport(
                local_address=source,
                limits=httpx.Limits(max_keepalive_connections=0, max_connections=100),
                trust_env=False,
            )
            self._clients[source] = httpx.AsyncClient(transport=transport, timeout=TIMEOUT_S)
        return self._clients[source]


def _brief(result: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in result.items() if name != "answer"}
