"""What happens around every request, as one ASGI middleware.

In order: the function's own URL prefix is taken off the path; HEAD becomes the GET whose head it
is; request id and trace are read or made; CORS preflight is answered; the address's limit and the
body's size are checked; the route runs; whatever escaped becomes a 500; headers, metrics and the
access log line are added.
"""

import re
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared import log
from shared.config import Settings
from shared.errors import BodyTooLarge, InternalError, RateLimited, StalelaError
from shared.http import health, timing
from shared.http.limits import Limits, client_address
from shared.http.metrics import Metrics
from shared.http.problem import problem_response
from shared.http.tracing import continue_trace
from shared.ids import new_id

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_.-]{8,64}", re.ASCII)

_ALLOW_HEADERS: Final = (
    b"authorization, x-client-info, apikey, content-type, x-retry-count, traceparent, tracestate, "
    b"baggage, idempotency-key, x-client-secret, x-request-id, x-stalela-environment"
)
_EXPOSE_HEADERS: Final = (
    b"x-request-id, idempotent-replayed, ratelimit-limit, ratelimit-remaining, ratelimit-reset, "
    b"retry-after, server-timing, x-stalela-processing-ms"
)
_CORS: Final = (
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-headers", _ALLOW_HEADERS),
)
_PREFLIGHT: Final = (
    (b"access-control-allow-methods", b"GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    (b"access-control-max-age", b"86400"),
)


class Frame:
    """The middleware. One per app; everything of one request lives in `_Exchange`."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        metrics: Metrics,
        limits: Limits,
        max_body_bytes: int,
        large_bodies: Mapping[str, int],
    ) -> None:
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.max_body_bytes = max_body_bytes
        self.large_bodies = large_bodies
        self.limits = limits
        self.docs_url = docs_url(settings)
        self.prefix = f"/functions/v1/{settings.function_name.replace('_', '-')}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        self._localise(scope)
        if scope["method"] == "HEAD":
            # A copy: the server keeps its own, and sends no body for it.
            scope = {**scope, "method": "GET"}
        await _Exchange(self, scope, send).run(receive)

    def body_limit(self, path: str) -> int:
        """How long a body may be there, in bytes."""
        larger = (size for prefix, size in self.large_bodies.items() if path.startswith(prefix))
        return next(larger, self.max_body_bytes)

    def _localise(self, scope: Scope) -> None:
        # A gateway or a reverse proxy may leave the public URL on the path; the routes are short.
        path = scope["path"]
        if path.startswith(self.prefix) and path[len(self.prefix) :][:1] in ("", "/"):
            scope["path"] = path[len(self.prefix) :] or "/"
            scope["root_path"] = ""


class _Exchange:
    """One request and its answer."""

    def __init__(self, frame: Frame, scope: Scope, send: Send) -> None:
        self.frame = frame
        self.scope = scope
        self.send_on = send
        self.started = perf_counter()
        self.account = timing.start()
        self.status = 0
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(b"x-request-id", "")
        self.request_id = given if _REQUEST_ID.fullmatch(given) else new_id("req")
        self.trace = continue_trace(headers.get(b"traceparent"))
        self.content_length = headers.get(b"content-length")
        peer = scope.get("client")
        self.address = client_address(
            peer[0] if peer else "",
            _joined(scope, b"x-forwarded-for"),
            frame.settings.trusted_proxies,
        )
        state = scope.setdefault("state", {})
        state["request_id"] = self.request_id
        state["traceparent"] = self.trace.traceparent
        state["client_address"] = self.address

    async def run(self, receive: Receive) -> None:
        self.frame.metrics.activate()
        function = self.frame.settings.function_name
        with log.context(
            function=function, request_id=self.request_id, trace_id=self.trace.trace_id
        ):
            try:
                await self._answer(receive)
            finally:
                self._record()

    async def _answer(self, receive: Receive) -> None:
        if self.scope["method"] == "OPTIONS":
            await self._preflight()
            return
        if refused := self._refusal():
            await self._refuse(refused)
            return
        try:
            await self.frame.app(self.scope, self._bounded(receive), self.send)
        except Exception as escaped:  # the one place: every other error has a class
            log.error("request_failed", escaped, route=self._route())
            if self.status:
                # The head is on the wire; only breaking off tells the caller it is incomplete.
                raise
            await self._refuse(InternalError())

    def _refusal(self) -> StalelaError | None:
        length = self.content_length
        limit = self.frame.body_limit(self.scope["path"])
        if length is not None and length.isdigit() and int(length) > limit:
            return _too_large(limit)
        if self.scope["path"] in health.PATHS:
            return None
        empty = self.frame.limits.take(self.address)
        if empty is None:
            return None
        return RateLimited(
            "too many requests from this address",
            retry_after=empty.retry_after,
            extras={
                "headers": {
                    "RateLimit-Limit": str(empty.limit),
                    "RateLimit-Remaining": "0",
                    "RateLimit-Reset": str(empty.retry_after),
                }
            },
        )

    def _bounded(self, receive: Receive) -> Receive:
        """`receive`, which gives up on a chunked body that grows too long."""
        if self.content_length is not None:
            return receive  # checked already, and the server holds the caller to it
        limit, seen = self.frame.body_limit(self.scope["path"]), 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # FastAPI lets an HTTPException through while it reads a body, and nothing else.
                raise HTTPException(413, _too_large(limit).message)
            return message

        return bounded

    async def _preflight(self) -> None:
        start: Message = {"type": "http.response.start", "status": 204, "headers": [*_PREFLIGHT]}
        await self.send(start)
        await self.send({"type": "http.response.body", "body": b""})

    async def _refuse(self, error: StalelaError) -> None:
        response = problem_response(error, docs_url=self.frame.docs_url, request_id=self.request_id)
        await response(self.scope, _nothing, self.send)

    async def send(self, message: Message) -> None:
        """Pass `message` on; the head gets the headers every answer carries."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            seconds = perf_counter() - self.started
            message["headers"] = [
                *message["headers"],
                *_CORS,
                (b"access-control-expose-headers", _EXPOSE_HEADERS),
                (b"x-request-id", self.request_id.encode()),
                (b"server-timing", timing.server_timing(self.account, seconds).encode()),
                (b"x-stalela-processing-ms", f"{seconds * 1000:.2f}".encode()),
            ]
        await self.send_on(message)

    def _record(self) -> None:
        seconds = perf_counter() - self.started
        route = self._route()
        self.frame.metrics.request_answered(route, self.status, seconds)
        write: Callable[..., None] = log.debug if route in health.PATHS else log.event
        write(
            "request_answered",
            method=self.scope["method"],
            route=route,
            status=self.status,
            duration_ms=round(seconds * 1000, 2),
        )

    def _route(self) -> str:
        """The template of the route that matched: a path could hold a token."""
        matched = self.scope.get("route")
        return getattr(matched, "path", None) or "unmatched"


def docs_url(settings: Settings) -> str:
    """The page that explains every code; a problem's `type` is an anchor on it."""
    return f"{settings.functions_url.rstrip('/')}/docs"


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is longer than {limit} bytes")


def _joined(scope: Scope, wanted: bytes) -> str:
    # A header sent twice is one list (RFC 9110 §5.3); the last line is our proxy's.
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == wanted)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
