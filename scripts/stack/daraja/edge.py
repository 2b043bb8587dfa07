"""The edge every Daraja request passes: logged, perhaps refused, answered, perhaps spoiled."""

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scripts.stack.daraja.faults import (
    Down,
    Endpoint,
    Garbage,
    LostSync,
    Refused,
    Restart,
    Selection,
    Slow,
)
from scripts.stack.daraja.journal import say
from scripts.stack.daraja.refusals import Refusal
from scripts.stack.daraja.wire import garble
from scripts.stack.daraja.world import World

TRANSPORT = "daraja.transport"
BAD_GATEWAY = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
UNAVAILABLE = "<html><body><h1>503 Service Unavailable</h1>No server is available.</body></html>"


class EdgeProtocol(HttpToolsProtocol):
    """Lets a handler reach its own connection, so that it can be cut."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope = cast(MutableMapping[str, Any], self.scope)
        scope[TRANSPORT] = self.transport


class Cut(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        transport: asyncio.Transport = scope[TRANSPORT]
        with contextlib.suppress(OSError):
            # Linger 0 turns the close into a reset.
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger
            )
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


@dataclass
class Exchange:
    """One request on its way: what was found in it, and the faults it was given."""

    world: World
    request: Request
    endpoint: Endpoint
    id: int
    body: bytes = b""
    selection: Selection = field(default_factory=Selection)
    seen: dict[str, Any] = field(default_factory=dict)

    def pass_edge(self, phone: str | None) -> Selection:
        """Raises Refusal or returns the faults of the edge that need the endpoint's help."""
        taken = self.world.armoury.take(phone, self.endpoint, "edge")
        self.selection = Selection(taken.faults)
        down, refused = taken.get(Down), taken.get(Refused)
        if down and down.spike_arrest:
            raise Refusal("500.003.02")
        if down:
            raise Outage(down.status)
        if refused:
            raise Refusal(refused.code, refused.message, refused.status)
        return taken

    def accept(self, phone: str | None) -> Selection:
        """The faults of the work itself, once the request was found good."""
        taken = self.world.armoury.take(phone, self.endpoint, "work")
        self.selection = Selection(self.selection.faults + taken.faults)
        return taken


class Outage(Exception):
    """The systems behind the edge are away."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"down {status}")


Work = Callable[[Exchange], Awaitable[dict[str, Any]]]


class Edge:
    """Runs the work of an endpoint under the faults of the request."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._recent: deque[float] = deque()

    async def answer(self, request: Request, endpoint: Endpoint, work: Work) -> Response:
        """Runs `work` between the checks before it and the mischief after it."""
        started = time.perf_counter()
        number = self._world.journal.open(endpoint, request.method, request.url.path)
        exchange = Exchange(self._world, request, endpoint, number, body=await request.body())
        response, result = await self._perform(exchange, work)
        response = await self._spoil(exchange, response)
        latency_ms = round((time.perf_counter() - started) * 1000, 2)
        self._enter(exchange, response, result, latency_ms)
        return response

    async def _perform(self, exchange: Exchange, work: Work) -> tuple[Response, str]:
        try:
            self._arrest_spikes()
            content = await work(exchange)
        except Refusal as refusal:
            rng = self._world.rng("refusal", exchange.id)
            body = refusal.body(rng, varied=self._world.settings.shape_noise)
            return _json(body, refusal.status), refusal.code
        except Outage as outage:
            return HTMLResponse(UNAVAILABLE, outage.status), f"down {outage.status}"
        return _json(content, 200), "accepted"

    def _arrest_spikes(self) -> None:
        """More requests within one wall second than the setting allows are refused."""
        limit, now = self._world.settings.spike_arrest_per_s, time.monotonic()
        if limit is None:
            return
        while self._recent and self._recent[0] <= now - 1:
            self._recent.popleft()
        if len(self._recent) >= limit:
            raise Refusal("500.003.02")
        self._recent.append(now)

    async def _spoil(self, exchange: Exchange, response: Response) -> Response:
        slow = exchange.selection.get(Slow)
        if slow:
            await (asyncio.sleep if slow.wall else self._world.clock.sleep)(slow.seconds)
        restart = exchange.selection.get(Restart)
        if restart and restart.moment == "before_answer":
            self._world.restart()
            return Cut()
        if restart:
            self._world.restart()
        lost, garbage = exchange.selection.get(LostSync), exchange.selection.get(Garbage)
        if lost:
            return _lost(lost.how)
        if garbage and garbage.at == exchange.endpoint:
            body = garble(garbage.kind, bytes(response.body))
            return Response(body, 200, media_type=_media_type(garbage.kind))
        return response

    def _enter(
        self, exchange: Exchange, response: Response, result: str, latency_ms: float
    ) -> None:
        status = None if isinstance(response, Cut) else response.status_code
        self._world.journal.note(
            exchange.id,
            status=status,
            result=result,
            latency_ms=latency_ms,
            faults=json.dumps(exchange.selection.names),
            **exchange.seen,
        )
        say(f"{exchange.endpoint}_answered", status=status, result=result)
        self._world.changes.announce()


def _json(content: dict[str, Any], status: int) -> Response:
    body = json.dumps(content, separators=(",", ":"))
    return Response(body, status, media_type="application/json;charset=UTF-8")


def _lost(how: str) -> Response:
    if how == "reset":
        return Cut()
    return HTMLResponse(BAD_GATEWAY, 502) if how == "502" else Response(b"", 200)


def _media_type(kind: str) -> str:
    return "text/html" if kind == "html" else "application/json;charset=UTF-8"
