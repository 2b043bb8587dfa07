"""From the outbox to the log: in order within a stream, side by side across streams."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from functions.relay.port import Log, LogUnavailable, Record, RecordRefused
from shared import log
from shared.db import Database
from shared.http.caller import Caller

BATCH: Final = 200
IN_FLIGHT: Final = 64  # publications that wait for their acknowledgement at once
# What streams are of, by the prefix of their ids; others go by the prefix itself.
AGGREGATES: Final = {"pi": "payment_intent", "tr": "transfer", "inv": "invoice"}

Delivery = Mapping[str, Any]


class Publisher:
    """Lives as long as the app; knows the log by its port alone."""

    def __init__(self, database: Database, to: Log) -> None:
        self._database, self._log = database, to
        self._room = asyncio.Semaphore(IN_FLIGHT)

    async def publish_batch(self, caller: Caller) -> int:
        """Publish what is waiting; how many events were worked on. Raises LogUnavailable.

        The log is reached before anything is leased, so an outage costs no event an attempt.
        """
        await self._log.open()
        leased = await self._database.call("messages.lease_relay", {"max_rows": BATCH}, caller)
        streams: dict[str, list[Delivery]] = {}
        for delivery in leased:
            streams.setdefault(delivery["ordering_key"], []).append(delivery)
        published = await asyncio.gather(
            *(self._publish_stream(each, caller) for each in streams.values())
        )
        done = [outbox_id for ids in published for outbox_id in ids]
        if done:
            await self._database.call(
                "messages.acknowledge_relay", {"outbox_ids": done}, caller, idempotent=True
            )
            log.event("events_relayed", count=len(done), rows=len(leased))
        return len(leased)

    async def _publish_stream(self, deliveries: Sequence[Delivery], caller: Caller) -> list[int]:
        """Publish one stream in its order; the ids that the log has. It stops at a failure."""
        done: list[int] = []
        for delivery in deliveries:
            try:
                async with self._room:
                    await self._log.append(_record(delivery))
            except (LogUnavailable, RecordRefused) as failed:
                # Given back with what follows it in its stream, which must not overtake it.
                await self._database.call(
                    "messages.return_relay",
                    {"outbox_id": delivery["outbox_id"], "reason": str(failed)},
                    caller,
                    idempotent=True,
                )
                log.warning(
                    "event_not_relayed",
                    event_id=delivery["event_id"],
                    reason=type(failed).__name__,
                )
                break
            done.append(delivery["outbox_id"])
        return done


def _record(delivery: Delivery) -> Record:
    prefix = delivery["ordering_key"].partition("_")[0]
    headers = {
        "Stalela-Tenant-Id": delivery["tenant_id"],
        "Stalela-Event-Type": delivery["event_type"],
    }
    if delivery["traceparent"]:
        headers["traceparent"] = delivery["traceparent"]
    return Record(
        event_id=delivery["event_id"],
        environment=delivery["environment"],
        aggregate=AGGREGATES.get(prefix, prefix),
        stream=delivery["ordering_key"],
        body=delivery["body"].encode(),
        headers=headers,
    )
