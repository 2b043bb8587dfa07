"""The simulator as one ASGI application: Resend's paths, the control API and the mailbox."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from scripts.stack.resend.couriers import Couriers
from scripts.stack.resend.page import Mailbox
from scripts.stack.resend.wire import Refusal
from scripts.stack.resend.world import Settings, World

PROXY_PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"


def create(world: World) -> Starlette:
    """Serves `world`."""
    couriers = Couriers(world)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await couriers.stop()
        world.store.close()

    wire, control = Wire(world, couriers), Control(world, couriers)
    routes: list[BaseRoute] = [
        Route("/emails", wire.send, methods=["POST"]),
        Route("/emails/{email_id}", wire.read),
        *control.routes(),
        *Mailbox(world).routes(),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


class Wire:
    """POST /emails and GET /emails/{id}."""

    def __init__(self, world: World, couriers: Couriers) -> None:
        self.world, self.couriers = world, couriers

    async def send(self, request: Request) -> Response:
        body, key = await request.body(), request.headers.get("idempotency-key")
        headers: dict[str, str] = {}
        before = self.world.store.accepted_since(0)
        try:
            self._authenticate(request)
            headers = self.world.rate_headers()
            if self.world.strikes("down"):
                raise Refusal("application_error", "An unexpected error occurred.")
            if self.world.strikes("html"):
                return HTMLResponse(PROXY_PAGE, 502)
            loses = self.world.strikes("lost_answer")
            hangs_up = not loses and self.world.strikes("hang_up")
            email_id = await self.world.send(body, key)
        except Refusal as refusal:
            self.world.store.asked(key, body, refusal.code, refusal.name)
            if refusal.code == 429:
                headers |= {"retry-after": "1"}
            return JSONResponse(refusal.body(), refusal.code, headers)
        if self.world.store.accepted_since(0) > before:
            self.couriers.follow(email_id)
        if hangs_up:
            self.world.store.asked(key, body, 0, "hang_up")
            return _Silence()
        if loses:
            self.world.store.asked(key, body, 500, "internal_server_error")
            lost = Refusal("internal_server_error", "An unexpected error occurred.")
            return JSONResponse(lost.body(), 500, headers)
        self.world.store.asked(key, body, 200, None)
        return JSONResponse({"id": email_id}, headers=headers)

    async def read(self, request: Request) -> Response:
        try:
            self._authenticate(request)
            found = self.world.store.email(request.path_params["email_id"])
            if found is None:
                raise Refusal("not_found", "Email not found")
        except Refusal as refusal:
            return JSONResponse(refusal.body(), refusal.code)
        return JSONResponse(found)

    def _authenticate(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not key:
            raise Refusal("missing_api_key", "Missing API Key")
        if key != self.world.api_key:
            raise Refusal("invalid_api_key", "API key is invalid")


class _Silence(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"id', "more_body": True})
        raise asyncio.CancelledError


class Control:
    """What a test may ask and change."""

    def __init__(self, world: World, couriers: Couriers) -> None:
        self.world, self.couriers = world, couriers

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/control/health", self.health),
            Route("/control/emails", self.emails),
            Route("/control/requests", self.requests),
            Route("/control/webhooks", self.webhooks),
            Route("/control/settings", self.settings, methods=["POST"]),
            Route("/control/faults", self.faults, methods=["POST"]),
            Route("/control/clock", self.clock, methods=["POST"]),
            Route("/control/events", self.events, methods=["POST"]),
            Route("/control/reset", self.reset, methods=["POST"]),
        ]

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def emails(self, request: Request) -> Response:
        return JSONResponse(self.world.store.emails(request.query_params.get("to")))

    async def requests(self, _request: Request) -> Response:
        return JSONResponse(self.world.store.requests())

    async def webhooks(self, request: Request) -> Response:
        return JSONResponse(self.world.store.deliveries(request.query_params.get("email_id")))

    async def settings(self, request: Request) -> Response:
        present = self.world.settings.model_dump()
        try:
            self.world.settings = Settings.model_validate(
                present | json.loads(await request.body())
            )
        except ValidationError as wrong:
            return JSONResponse({"detail": str(wrong)}, 422)
        return JSONResponse(self.world.settings.model_dump())

    async def faults(self, request: Request) -> Response:
        """Arm a fault: {"fault": name, "times": 1}."""
        body = json.loads(await request.body())
        self.world.arm(body["fault"], body.get("times", 1))
        return JSONResponse({"armed": body["fault"]})

    async def clock(self, request: Request) -> Response:
        """Move the clock: after {"advance_s": 86400} what was remembered for 24 h is forgotten."""
        self.world.advance(json.loads(await request.body())["advance_s"])
        return JSONResponse({"now": self.world.now()})

    async def events(self, request: Request) -> Response:
        """Let something happen now: {"email_id": …, "event": "bounced"}."""
        body = json.loads(await request.body())
        await self.couriers.tell(body["email_id"], body["event"])
        return JSONResponse({"told": body["event"]})

    async def reset(self, _request: Request) -> Response:
        await self.couriers.forget()
        self.world.reset()
        return JSONResponse({"status": "as new"})
