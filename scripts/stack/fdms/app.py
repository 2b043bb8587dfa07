"""The simulator as one HTTPS application: the gateway's paths, and the control API beside them.

aiohttp, because it hands a handler the certificate that the caller showed.
"""

import asyncio
import itertools
import json
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from scripts.stack.fdms.books import Device
from scripts.stack.fdms.wire import CloseDay, Issue, OpenDay, Register, Verify, numbers, parse
from scripts.stack.fdms.world import Fault, Refusal, Settings, World

Json = dict[str, Any]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TITLES = {400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 422: "Unprocessable Entity"}
HEADERS = ("DeviceModelName", "DeviceModelVersion")
MAX_BODY_BYTES = 1024 * 1024


def create(world: World) -> web.Application:
    """Serves `world`."""
    gateway, control = Gateway(world), Control(world)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[gateway.frame])
    app.add_routes([*gateway.routes(), *control.routes()])
    return app


class Gateway:
    """Public/v1 and Device/v1."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._operations = itertools.count(1)

    def routes(self) -> list[web.RouteDef]:
        public, device = "/Public/v1", r"/Device/v1/{device:\d+}"
        return [
            web.post(f"{public}/{{device:\\d+}}/VerifyTaxpayerInformation", self.verify),
            web.post(f"{public}/{{device:\\d+}}/RegisterDevice", self.register),
            web.get(f"{public}/GetServerCertificate", self.server_certificate),
            web.get(f"{device}/GetConfig", self.config),
            web.get(f"{device}/GetStatus", self.status),
            web.post(f"{device}/Ping", self.ping),
            web.post(f"{device}/IssueCertificate", self.issue),
            web.post(f"{device}/OpenDay", self.open_day),
            web.post(f"{device}/SubmitReceipt", self.submit),
            web.post(f"{device}/CloseDay", self.close_day),
        ]

    @web.middleware
    async def frame(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count, fail as armed, give each answer its operation, and each refusal its problem."""
        if request.path.startswith("/control/"):
            return await handler(request)
        call, operation = request.path.rsplit("/", 1)[-1], f"SIM{next(self._operations):010d}"
        self.world.requests[call] = self.world.requests.get(call, 0) + 1
        try:
            self._fail_before(request, call)
            body = await handler(request)
        except Refusal as refusal:
            return _problem(operation, refusal.status, refusal.detail, refusal.code)
        except ValidationError as wrong:
            return _problem(operation, 400, str(wrong))
        except json.JSONDecodeError:
            return _problem(operation, 400, "The body is not JSON")
        except ConnectionResetError:
            return _hang_up(request)
        if slow := self.world.strikes(call, "stall"):
            await asyncio.sleep(slow.seconds)
        if self.world.strikes(call, "lost_answer"):
            return _hang_up(request)
        assert isinstance(body, Answer), "every handler of the gateway gives one"
        return web.json_response(
            {"operationID": operation} | numbers(body.members), headers={"operationId": operation}
        )

    async def verify(self, request: web.Request) -> web.StreamResponse:
        asked = parse(Verify, await request.read())
        return Answer(self.world.verify(_device_id(request), asked))

    async def register(self, request: web.Request) -> web.StreamResponse:
        _check_headers(request)
        asked = parse(Register, await request.read())
        return Answer(self.world.register(_device_id(request), asked))

    async def server_certificate(self, request: web.Request) -> web.StreamResponse:
        wanted = request.query.get("thumbprint")
        if wanted and wanted.lower() != self.world.authority.thumbprint:
            raise Refusal("CERT01", "Certificate is not found", 404)
        till = self.world.authority.signing.not_valid_after_utc
        return Answer(
            {
                "certificate": self.world.authority.chain,
                "certificateValidTill": f"{till:%Y-%m-%dT%H:%M:%S}",
            }
        )

    async def config(self, request: web.Request) -> web.StreamResponse:
        return Answer(self.world.config(self._device(request)))

    async def status(self, request: web.Request) -> web.StreamResponse:
        return Answer(self.world.status(self._device(request)))

    async def ping(self, request: web.Request) -> web.StreamResponse:
        return Answer(self.world.ping(self._device(request)))

    async def issue(self, request: web.Request) -> web.StreamResponse:
        device, asked = self._device(request), parse(Issue, await request.read())
        return Answer(self.world.issue(device, asked.request))

    async def open_day(self, request: web.Request) -> web.StreamResponse:
        device, asked = self._device(request), parse(OpenDay, await request.read())
        return Answer(self.world.open_day(device, asked))

    async def submit(self, request: web.Request) -> web.StreamResponse:
        device = self._device(request)
        members = self.world.submit(device, await request.read())
        if self.world.strikes("SubmitReceipt", "forged"):
            forged = members["receiptServerSignature"] | {"signature": "AAAA"}
            members = members | {"receiptServerSignature": forged}
        return Answer(members)

    async def close_day(self, request: web.Request) -> web.StreamResponse:
        device, body = self._device(request), await request.read()
        return Answer(self.world.close_day(device, parse(CloseDay, body), body))

    def _device(self, request: web.Request) -> Device:
        _check_headers(request)
        return self.world.device_of(_device_id(request), _certificate(request))

    def _fail_before(self, request: web.Request, call: str) -> None:
        fault = self.world.strikes(call, "reject", "down", "throttle", "hang_up")
        if fault is None:
            return
        if fault.fault == "reject":
            raise Refusal(fault.code, "Armed by a test")
        if fault.fault == "hang_up":
            raise ConnectionResetError
        status = 500 if fault.fault == "down" else 429
        raise Refusal("", f"Armed by a test, {request.path}", status)


class Answer(web.Response):
    """What a handler says; the frame gives it its operation."""

    def __init__(self, members: Json) -> None:
        super().__init__()
        self.members = members


class Control:
    """What a test may ask and change."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/control/health", self.health),
            web.post("/control/devices", self.sell),
            web.get(r"/control/devices/{device:\d+}", self.device),
            web.get("/control/requests", self.requests),
            web.post("/control/settings", self.settings),
            web.post("/control/faults", self.arm),
            web.delete("/control/faults", self.disarm),
            web.post("/control/clock", self.clock),
            web.post("/control/reset", self.reset),
        ]

    async def health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def sell(self, request: web.Request) -> web.Response:
        """A device of a taxpayer, or a changed one: {"device_id": …, "serial_no": …, …}."""
        try:
            told = json.loads(await request.read())
            known = self.world.books.devices.get(told.get("device_id", 0))
            device = Device.model_validate((known.model_dump(mode="json") if known else {}) | told)
        except ValidationError as wrong:
            return web.json_response({"detail": str(wrong)}, status=422)
        self.world.books.keep(device)
        return web.json_response(json.loads(device.model_dump_json()))

    async def device(self, request: web.Request) -> web.Response:
        device = self.world.books.devices.get(_device_id(request))
        if device is None:
            return web.json_response({"detail": "no such device"}, status=404)
        return web.json_response(self.world.summary(device))

    async def requests(self, _request: web.Request) -> web.Response:
        return web.json_response(self.world.requests)

    async def settings(self, request: web.Request) -> web.Response:
        try:
            told = self.world.settings.model_dump() | json.loads(await request.read())
            self.world.settings = Settings.model_validate(told)
        except ValidationError as wrong:
            return web.json_response({"detail": str(wrong)}, status=422)
        return web.json_response(self.world.settings.model_dump())

    async def arm(self, request: web.Request) -> web.Response:
        """Arm a fault: {"fault": name, "call": "SubmitReceipt", "times": 1}."""
        try:
            fault = Fault.model_validate_json(await request.read())
        except ValidationError as wrong:
            return web.json_response({"detail": str(wrong)}, status=422)
        self.world.faults.append(fault)
        return web.json_response(fault.model_dump())

    async def disarm(self, _request: web.Request) -> web.Response:
        self.world.faults.clear()
        return web.json_response({"armed": []})

    async def clock(self, request: web.Request) -> web.Response:
        """Move the clock: {"advance_s": 86400}."""
        self.world.advance(json.loads(await request.read())["advance_s"])
        return web.json_response({"now": str(self.world.now())})

    async def reset(self, _request: web.Request) -> web.Response:
        self.world.books.reset()
        self.world.faults.clear()
        self.world.requests.clear()
        self.world.settings = Settings()
        return web.json_response({"status": "as new"})


def _device_id(request: web.Request) -> int:
    return int(request.match_info["device"])


def _check_headers(request: web.Request) -> None:
    missing = [name for name in HEADERS if not request.headers.get(name)]
    if missing:
        raise Refusal("", f"The header {missing[0]} is required", 400)


def _certificate(request: web.Request) -> str | None:
    """PEM of what the caller showed; TLS has verified that we issued it."""
    socket = request.transport.get_extra_info("ssl_object") if request.transport else None
    shown = socket.getpeercert(binary_form=True) if isinstance(socket, ssl.SSLObject) else None
    if shown is None:
        return None
    return x509.load_der_x509_certificate(shown).public_bytes(Encoding.PEM).decode()


def _problem(operation: str, status: int, detail: str, code: str = "") -> web.Response:
    problem: Json = {
        "type": f"https://httpstatuses.io/{status}",
        "title": TITLES.get(status, "Server error"),
        "status": status,
        "detail": detail,
        "operationID": operation,
    }
    if code:
        problem["errorCode"] = code
    return web.json_response(
        problem,
        status=status,
        headers={"operationId": operation},
        content_type="application/problem+json",
    )


def _hang_up(request: web.Request) -> web.Response:
    """The connection is gone before a byte of the answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
