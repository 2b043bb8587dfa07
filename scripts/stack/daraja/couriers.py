"""Carries callbacks over HTTP: each is attempted once, whatever the receiver says."""

import asyncio
import time

import aiohttp

from scripts.stack.daraja.books import Delivery
from scripts.stack.daraja.journal import say
from scripts.stack.daraja.world import World

TIMEOUT_S = 10.0


class Couriers:
    """One task per waiting delivery."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clients: dict[str | None, aiohttp.ClientSession] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._first: dict[str, asyncio.Event] = {}

    def collect(self, about: str | None = None) -> None:
        """Sends a courier for each waiting delivery (of one subject or all) that has none yet."""
        for delivery in self._world.books.waiting(about):
            if delivery.id not in self._tasks:
                self._tasks[delivery.id] = asyncio.create_task(self._carry(delivery))

    async def first(self, about: str, timeout_s: float) -> None:
        """Waits for the first attempt; call it before anything could have been sent."""
        arrived = self._first.setdefault(about, asyncio.Event())
        try:
            await asyncio.wait_for(arrived.wait(), timeout_s)
        except TimeoutError:
            say("callback_not_first", about=about)
        finally:
            self._first.pop(about, None)

    async def ask(
        self, url: str, headers: dict[str, str], body: bytes, deadline_s: float
    ) -> bytes | None:
        """The body of a 200 within `deadline_s` wall seconds, None for anything else."""
        source = self._world.settings.callback_source
        try:
            async with (
                asyncio.timeout(deadline_s),
                self._client(source).post(
                    url, data=body, headers=headers, allow_redirects=False
                ) as answer,
            ):
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            say("question_unanswered", error=type(error).__name__)
            return None
        return content if answer.status == 200 else None

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
            await client.close()

    async def _carry(self, delivery: Delivery) -> None:
        try:
            await self._world.clock.sleep_until(delivery.due_v)
            if self._world.books.attempt(delivery):
                await self._post(delivery)
        finally:
            self._tasks.pop(delivery.id, None)

    async def _post(self, delivery: Delivery) -> None:
        started = time.perf_counter()
        result: dict[str, object]
        try:
            async with self._client(delivery.source).post(
                delivery.url, data=delivery.body, headers=delivery.headers, allow_redirects=False
            ) as answer:
                result = {
                    "status": answer.status,
                    "answer": (await answer.text(errors="replace"))[:2000],
                }
        except (aiohttp.ClientError, TimeoutError) as error:
            result = {"error": type(error).__name__}
        latency_ms = round((time.perf_counter() - started) * 1000, 2)
        self._world.books.record(delivery, latency_ms=latency_ms, **result)
        arrived = self._first.get(delivery.about)
        if arrived:
            arrived.set()
        self._world.changes.announce()
        say(f"{delivery.kind}_sent", about=delivery.about, **_brief(result))

    def _client(self, source: str | None) -> aiohttp.ClientSession:
        """One client per source address. A kept connection could be stale and lose the attempt."""
        if source not in self._clients:
            self._clients[source] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=100, force_close=True, local_addr=(source, 0) if source else None
                ),
                timeout=aiohttp.ClientTimeout(connect=TIMEOUT_S, sock_read=TIMEOUT_S),
                trust_env=False,
            )
        return self._clients[source]


def _brief(result: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in result.items() if name != "answer"}
