"""Server-sent events of intents: one Data API call per tick serves all open streams."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from shared import log
from shared.db import Database
from shared.errors import StalelaError
from shared.http.caller import Caller

# The functions of one house share no memory, and the Data API pushes nothing: an instance with open
# streams asks once per tick for all of them together.
TICK_S: Final = 0.25
HEARTBEAT_S: Final = 15.0
_TERMINAL: Final = frozenset({"succeeded", "canceled", "expired"})
_POSITION: Final = re.compile(r"[0-9]{1,18}", re.ASCII)  # a bigint, whatever the digits
LAST_EVENT_ID: Final[dict[str, Any]] = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "Resumes a stream after the last event the client saw; browsers send it.",
    "schema": {"type": "string", "examples": ["1047"]},
}


@dataclass(slots=True)
class _Stream:
    """One open stream. `ends_at` is on the loop's clock; `final_position` as SQL said at start."""

    position: int
    ends_at: float
    final_position: int | None
    frames: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)

    @property
    def is_over(self) -> bool:
        """Whether the client has seen everything there will be."""
        return self.final_position is not None and self.position >= self.final_position


class Streams:
    """The open streams of this instance. The reader task lives while there is one."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._open: dict[str, _Stream] = {}
        self._reader: asyncio.Task[None] | None = None

    async def open(
        self, payment_intent_id: str, token: str | None, after: int, caller: Caller
    ) -> str | None:
        """Give the id of a new stream, None when nothing comes after `after` any more.

        Raises the refusal of SQL: spent token, not your intent.
        """
        opened = await self._db.call(
            "payments.open_stream",
            {
                "payment_intent_id": payment_intent_id,
                "token_hash": sha256(token.encode()).hexdigest() if token else None,
            },
            caller,
        )
        ends_at = asyncio.get_running_loop().time() + float(opened["lasts_s"])
        stream = _Stream(after, ends_at, opened["final_position"])
        if stream.is_over:
            return None
        stream_id: str = opened["stream_id"]
        self._open[stream_id] = stream
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read(caller))
        return stream_id

    async def events(self, stream_id: str) -> AsyncIterator[str]:
        """Give the frames of one stream until the intent is over, its time is or the client leaves.

        Whoever is cut off by time asks again with `Last-Event-ID` and misses nothing.
        """
        stream = self._open[stream_id]
        try:
            yield "retry: 2000\n\n"
            while (left_s := stream.ends_at - asyncio.get_running_loop().time()) > 0:
                try:
                    event = await asyncio.wait_for(stream.frames.get(), min(HEARTBEAT_S, left_s))
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                yield _frame(event)
                # The resource is newer than the event: what led there still waits in the queue.
                if event["resource"]["status"] in _TERMINAL and stream.frames.empty():
                    return
        finally:
            self._open.pop(stream_id, None)

    async def _read(self, caller: Caller) -> None:
        while self._open:
            try:
                found = await self._db.call(
                    "payments.read_streams",
                    {
                        "cursors": {
                            name: str(stream.position) for name, stream in self._open.items()
                        }
                    },
                    Caller(caller.request_id, caller.traceparent),
                )
            except StalelaError as failed:
                # Nothing is lost: the positions stay where they are and the next tick asks again.
                log.warning("stream_read_failed", code=failed.code)
                found = []
            for event in found:
                self._deliver(event)
            self._forget_expired()
            await asyncio.sleep(TICK_S)

    def _deliver(self, event: dict[str, Any]) -> None:
        stream = self._open.get(event["stream_id"])
        if stream is not None:
            event["resource"] = json.loads(event["resource"])
            stream.position = event["position"]
            stream.frames.put_nowait(event)

    def _forget_expired(self) -> None:
        # Usually a stream has left by itself; one whose client went before its first frame has not.
        now = asyncio.get_running_loop().time()
        for name in [name for name, stream in self._open.items() if stream.ends_at <= now]:
            del self._open[name]


def wants_stream(request: Request) -> bool:
    """Whether the caller asked for server-sent events."""
    return "text/event-stream" in request.headers.get("accept", "")


async def stream_response(
    request: Request, payment_intent_id: str, caller: Caller, token: str | None, after: int
) -> Response:
    """Answer with the stream; `Last-Event-ID` resumes after the last frame the client saw.

    204 tells a browser not to ask again: the intent is over and the client has seen it all.
    """
    last_seen = request.headers.get("last-event-id", "")
    position = int(last_seen) if _POSITION.fullmatch(last_seen) else after
    streams: Streams = request.app.state.streams
    stream_id = await streams.open(payment_intent_id, token, position, caller)
    if stream_id is None:
        return Response(status_code=204)
    return StreamingResponse(
        streams.events(stream_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _frame(event: dict[str, Any]) -> str:
    body = json.dumps(event["resource"], separators=(",", ":"))
    return f"id: {event['position']}\nevent: {event['type']}\ndata: {body}\n\n"
