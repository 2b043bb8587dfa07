"""Runs a consumer's work when somebody pokes it: once per process, until nothing is left.

    drain = app.state.drain = Drain(step)     # step() does one batch and says how much it did
    @router.post("/")
    async def drain_events(caller: InternalCaller, request: Request) -> Drained:
        return Drained(done=await request.app.state.drain.poke())

The database pokes a function at most once in 200 ms and lets the rest go. So whoever is done stays
for a quarter of a second and looks once more: what was committed meanwhile is found without a poke
of its own. Under load the consumer feeds itself.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from shared import log

Step = Callable[[], Awaitable[int]]

LINGER_S: Final = 0.25  # longer than the pause between two pokes, see payments.poke_destinations
# How long a poke waits to see the work done. pg_net waits for the slowest of a batch, so a long
# drain goes on behind the answer.
PATIENCE_S: Final = 1.0


class Drain:
    """One per app and kind of work. Steps never overlap; a failing one ends the round.

    What is left over when a round ends is not lost: the next poke finds it, and cron pokes
    whoever has work that is due.
    """

    def __init__(
        self, step: Step, *, linger_s: float = LINGER_S, patience_s: float = PATIENCE_S
    ) -> None:
        self._step = step
        self._linger_s = linger_s
        self._patience_s = patience_s
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._pokes = 0
        self._done = 0
        self._waiting: list[asyncio.Future[None]] = []

    async def poke(self) -> int:
        """How much was done until nothing was left, or until patience ended. Raises what step does.

        A poke that comes while a step runs is answered by a later step: the running one may have
        looked already.
        """
        before = self._done
        self._pokes += 1
        self._wake.set()
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(answered)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await asyncio.wait({answered}, timeout=self._patience_s)
        if answered.done():
            answered.result()
        else:
            self._waiting.remove(answered)
        return self._done - before

    async def aclose(self) -> None:
        """Stop. A step that was cut off has either committed or not; neither loses anything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self) -> None:
        try:
            while await self._until_nothing_is_left():
                pass
        # Whatever a step raises ends this round, and those who wait for it are told.
        except Exception as failed:  # noqa: BLE001
            log.error("drain_failed", failed)
            self._answer(failed)

    async def _until_nothing_is_left(self) -> bool:
        """Whether somebody poked, or there was work after all, while it lingered."""
        while True:
            pokes = self._pokes
            self._wake.clear()
            done = await self._step()
            self._done += done
            if not done and pokes == self._pokes:
                break
        self._answer(None)
        try:
            async with asyncio.timeout(self._linger_s):
                await self._wake.wait()
        except TimeoutError:
            last = await self._step()
            self._done += last
            return last > 0 or pokes != self._pokes
        return True

    def _answer(self, failed: Exception | None) -> None:
        waiting, self._waiting = self._waiting, []
        for answered in waiting:
            if failed is None:
                answered.set_result(None)
            else:
                answered.set_exception(failed)
