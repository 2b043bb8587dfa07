"""From the queue to the merchants' servers and back, many at once.

SQL says what may go now and what becomes of it; here it is signed, sent and timed.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from shared import log
from shared.clock import to_wire
from shared.db import Database
from shared.errors import StalelaError
from shared.http.caller import Caller
from shared.outbound import Outbound, Reply
from shared.vault import Vault, VaultError
from shared.webhooks.signing import signed_headers

# Below the 1,024 files a process may usually open. Sixteen endpoints that begin to hang at once do
# not stop the others: 50 to each at most, and next to none once their breakers are open.
IN_FLIGHT: Final = 800
EVENTS: Final = 500  # taken from the outbox at once
CLAIM: Final = 250  # leased at once; few enough that the first answers are recorded soon
RECORD: Final = 250  # written down at once
GATHER_S: Final = 0.02  # how long an answer waits for others to be written down with
LOOK_S: Final = 0.25  # how often there is a look for more while all that is in the air hangs
RETRY_S: Final = 0.5  # the database is away: what is known is kept until it is back


class Dispatcher:
    """Lives as long as the app."""

    def __init__(self, db: Database, vault: Vault, outbound: Outbound) -> None:
        self._caller = Caller("", "")  # who poked last: what is done is part of that trace
        self._db = db
        self._vault = vault
        self._outbound = outbound
        self._sending: set[asyncio.Task[None]] = set()
        self._outcomes: list[dict[str, Any]] = []
        self._recorder: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._recorded = 0

    @property
    def in_flight(self) -> int:
        """How many requests are on their way."""
        return len(self._sending)

    def wake(self, caller: Caller) -> None:
        """There may be more: a step that only waits for what hangs looks at once."""
        self._caller = caller
        self._moved.set()

    async def step(self) -> int:
        """Send what may go now, until something was written down; 0 when nothing is left."""
        while True:
            self._moved.clear()
            events = await self._db.call("webhooks.fan_out", {"max_rows": EVENTS}, self._caller)
            claimed = await self._claim()
            for delivery in claimed:
                task = asyncio.create_task(self._send(delivery))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
            if not events and not claimed and (self._sending or self._outcomes):
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._moved.wait(), LOOK_S)
            recorded, self._recorded = self._recorded, 0
            if recorded or not (events or claimed or self._sending or self._outcomes):
                return recorded

    async def aclose(self) -> None:
        """Give up what is in the air: its leases run out, and it is sent again."""
        running = [*self._sending, *([self._recorder] if self._recorder else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        with suppress(StalelaError):
            await self._flush()

    async def _claim(self) -> list[Mapping[str, Any]]:
        room = min(CLAIM, IN_FLIGHT - len(self._sending))
        if room <= 0:
            return []
        claimed: list[Mapping[str, Any]] = await self._db.call(
            "webhooks.claim", {"max_rows": room}, self._caller
        )
        return claimed

    async def _send(self, delivery: Mapping[str, Any]) -> None:
        reply = await self._attempt(delivery)
        self._outcomes.append(
            {
                "delivery_id": delivery["delivery_id"],
                "attempt": delivery["attempt"],
                "started_at": to_wire(reply.started_at),
                "duration_ms": reply.duration_ms,
                "url": delivery["url"],
                "status_code": reply.status,
                "error": reply.error,
                "response_excerpt": reply.excerpt,
                "retry_after_s": reply.retry_after_s,
            }
        )
        if self._recorder is None or self._recorder.done():
            self._recorder = asyncio.create_task(self._record())

    async def _attempt(self, delivery: Mapping[str, Any]) -> Reply:
        endpoint_id, event_id = delivery["endpoint_id"], delivery["event_id"]
        try:
            headers = signed_headers(
                self._vault, delivery["secrets_sealed"], endpoint_id, event_id, delivery["payload"]
            )
        except VaultError as failed:
            # Ours to mend; the merchant's log says no more than that we could not.
            log.error("webhook_not_signed", failed, subject_id=endpoint_id, event_id=event_id)
            return Reply.unsent("could not be signed")
        return await self._outbound.post(delivery["url"], delivery["payload"].encode(), headers)

    async def _record(self) -> None:
        await asyncio.sleep(GATHER_S)
        while self._outcomes:
            try:
                await self._flush()
            except StalelaError as failed:
                log.warning("webhook_outcomes_kept", code=failed.code, rows=len(self._outcomes))
                await asyncio.sleep(RETRY_S)

    async def _flush(self) -> None:
        while self._outcomes:
            batch = self._outcomes[:RECORD]
            # A second record of the same attempt finds nothing of its own any more.
            await self._db.call(
                "webhooks.record_attempts", {"outcomes": batch}, self._caller, idempotent=True
            )
            del self._outcomes[: len(batch)]
            self._recorded += len(batch)
            self._moved.set()
