"""Server-sent events of intents: one Data API call per tick serves all open streams."""

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any, Final

from fastapi import Request
from fastapi.responses import StreamingResponse

from shared import log
from shared.db import Database
from shared.errors import StalelaError
from shared.http.caller import Caller

# The functions of one house share no memory, and the Data API pushes nothing: an instance with open
# streams asks once per tick for all of them together.
TICK_S: Final = 0.25
HEARTBEAT_S: Final = 15.0
_TERMINAL: Final = frozenset({"succeeded", "canceled", "expired"})


class Streams:
    """The open streams of this instance. The reader task lives while there is one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._positions: dict[str, int] = {}
        self._reader: asyncio.Task[None] | None = None

    async def open(
        self, payment_intent_id: str, token: str | None, after: int, caller: Caller
    ) -> str:
        """Give the id of a new stream. Raises the refusal of SQL: spent token, not your intent."""
        opened = await self._db.call(
            "payments.open_stream",
            {
                "payment_intent_id": payment_intent_id,
                "token_hash": sha256(token.encode()).hexdigest() if token else None,
            },
            caller,
        )
        stream_id: str = opened["stream_id"]
        self._queues[stream_id] = asyncio.Queue()
        self._positions[stream_id] = after
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read(caller))
        return stream_id

    async def events(self, stream_id: str) -> AsyncIterator[str]:
        """Give the frames of one stream until the intent is terminal or the client leaves."""
        queue = self._queues[stream_id]
        try:
            yield "retry: 2000\n\n"
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                yield _frame(event)
                if event["resource"]["status"] in _TERMINAL:
                    return
        finally:
            self._queues.pop(stream_id, None)
            self._positions.pop(stream_id, None)

    async def _read(self, caller: Caller) -> None:
        while self._queues:
            try:
                found = await self._db.call(
                    "payments.read_streams",
                    {"cursors": {stream: str(at) for stream, at in self._positions.items()}},
                    Caller(caller.request_id, caller.traceparent),
                )
            except StalelaError as failed:
                # Nothing is lost: the positions stay where they are and the next tick asks again.
                log.warning("stream_read_failed", code=failed.code)
                found = []
            for event in found:
                self._deliver(event)
            await asyncio.sleep(TICK_S)

    def _deliver(self, event: dict[str, Any]) -> None:
        queue = self._queues.get(event["stream_id"])
        if queue is not None:
            event["resource"] = json.loads(event["resource"])
            self._positions[event["stream_id"]] = event["position"]
            queue.put_nowait(event)


def wants_stream(request: Request) -> bool:
    """Whether the caller asked for server-sent events."""
    return "text/event-stream" in request.headers.get("accept", "")


async def stream_response(
    request: Request, payment_intent_id: str, caller: Caller, token: str | None, after: int
) -> StreamingResponse:
    """Answer with the stream; `Last-Event-ID` resumes after the last frame the client saw."""
    last_seen = request.headers.get("last-event-id", "")
    position = int(last_seen) if last_seen.isdecimal() else after
    streams: Streams = request.app.state.streams
    stream_id = await streams.open(payment_intent_id, token, position, caller)
    return StreamingResponse(
        streams.events(stream_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _frame(event: dict[str, Any]) -> str:
    body = json.dumps(event["resource"], separators=(",", ":"))
    return f"id: {event['position']}\nevent: {event['type']}\ndata: {body}\n\n"
