"""The simulated DGI as one ASGI application: e-MCF's paths under /edef, and the control API.

Faults are armed per step (status, submit, confirm, cancel) and strike so many times:
`reject` answers an errorCode, `stall` waits, `down` is a 503 before anything happened, `broken` a
500 after it did, `lost` drops the connection after it did, `expired` refuses the token,
`miscount` computes another total.
"""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from scripts.stack.emcf import rules, taxpayers
from scripts.stack.emcf.books import Books
from scripts.stack.emcf.rules import Refused, examine
from scripts.stack.emcf.taxpayers import Taxpayer, TokenRefused

FAULTS = ("reject", "stall", "down", "broken", "lost", "expired", "miscount")
STEPS = ("status", "submit", "confirm", "cancel", "info")
TOKEN_DAYS = 365


class World:
    """The books, and what shall go wrong. `lose_every`: of a step, each so-manieth answer."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self.books = Books(state)
        self.calm()

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        self.armed: Counter[tuple[str, str]] = Counter()
        self.lose_every: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self.code, self.stall_s, self.replays = "9", 1.0, True
        self.rates = {name.lower(): rate for name, rate in rules.RATES.items() if rate is not None}
        self.pending_max_seen = 0

    def strikes(self, step: str, fault: str) -> bool:
        """Whether an armed fault happens now; it is used up."""
        if fault == "lost" and step in self.lose_every:
            return self.calls[step] % self.lose_every[step] == 0
        if self.armed[step, fault] <= 0:
            return False
        self.armed[step, fault] -= 1
        return True


def create(world: World) -> Starlette:
    """Serves `world`."""
    wire, control = Wire(world), Control(world)
    return Starlette(routes=[Mount("/edef", routes=wire.routes()), *control.routes()])


class Wire:
    """What the DGI publishes."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/api/invoice/", self.status, methods=["GET"]),
            Route("/api/invoice/", self.submit, methods=["POST"]),
            Route("/api/invoice/{uid}/CONFIRM", self.confirm, methods=["PUT"]),
            Route("/api/invoice/{uid}/CANCEL", self.cancel, methods=["PUT"]),
            Route("/api/info/{noun}", self.info, methods=["GET"]),
        ]

    async def status(self, request: Request) -> Response:
        async def answer(taxpayer: Taxpayer) -> Any:
            pending = self.world.books.open(taxpayer.nim)
            return {
                "status": True,
                "version": "1.0",
                "nif": taxpayer.nif,
                "nim": taxpayer.nim,
                "tokenValid": datetime.fromtimestamp(taxpayer.valid_until, UTC).isoformat(),
                "serverDateTime": self.world.books.now().isoformat(),
                "pendingRequestsCount": len(pending),
                "pendingRequestsList": [
                    {"date": row.at.isoformat(), "uid": row.uid} for row in pending
                ],
            }

        return await self._step("status", request, answer)

    async def submit(self, request: Request) -> Response:
        async def answer(taxpayer: Taxpayer) -> Any:
            row = self.world.books.submit(examine(await _body(request), taxpayer.nif), taxpayer)
            seen = len(self.world.books.open(taxpayer.nim))
            self.world.pending_max_seen = max(self.world.pending_max_seen, seen)
            if self.world.strikes("submit", "miscount"):
                row.invoice.total += Decimal("0.01")
            invoice = row.invoice
            groups = {
                f"{sum_}{group.lower()}": amount
                for group, sums in invoice.groups.items()
                for sum_, amount in sums.items()
            }
            return {
                "uid": row.uid,
                "total": invoice.total,
                "curTotal": invoice.cur_total or invoice.total,
                "vtotal": invoice.vat,
                **groups,
            }

        return await self._step("submit", request, answer)

    async def confirm(self, request: Request) -> Response:
        async def answer(taxpayer: Taxpayer) -> Any:
            body = await _body(request)
            if not isinstance(body, dict):
                raise Refused("2", "total ou vtotal manque")
            return self.world.books.confirm(
                request.path_params["uid"],
                rules.number(body, "total", "2"),
                rules.number(body, "vtotal", "2"),
                taxpayer,
                replays=self.world.replays,
            )

        return await self._step("confirm", request, answer)

    async def cancel(self, request: Request) -> Response:
        async def answer(taxpayer: Taxpayer) -> Any:
            self.world.books.cancel(request.path_params["uid"], taxpayer)
            return {}

        return await self._step("cancel", request, answer)

    async def info(self, request: Request) -> Response:
        async def answer(taxpayer: Taxpayer) -> Any:
            facts: dict[str, Any] = {
                "status": {"status": True, "nif": taxpayer.nif, "nim": taxpayer.nim},
                "taxGroups": self.world.rates,
                "invoiceTypes": _listed(rules.TYPES),
                "paymentTypes": _listed(dict.fromkeys(rules.PAYMENTS, "")),
                "clientTypes": _listed(dict.fromkeys(rules.CLIENTS, "")),
                "itemTypes": _listed(dict.fromkeys(rules.ITEMS, "")),
                "referenceTypes": _listed(dict.fromkeys(rules.REFERENCES, "")),
                "currencyRates": [
                    {"type": "USD", "description": "Dollar", "date": "2026-11-21", "rate": "2500"}
                ],
            }
            return facts[request.path_params["noun"]]

        return await self._step("info", request, answer)

    async def _step(self, step: str, request: Request, answer: Any) -> Response:
        world = self.world
        world.calls[step] += 1
        try:
            if world.strikes(step, "expired"):
                raise TokenRefused("the token has expired")
            header = request.headers.get("authorization", "")
            taxpayer = taxpayers.read(world.books.secret, header, world.books.now())
        except TokenRefused as refused:
            return JSONResponse({"message": str(refused)}, 401)
        if world.strikes(step, "down"):
            return Response("<html>503 Service Unavailable</html>", 503, media_type="text/html")
        if world.strikes(step, "stall"):
            await asyncio.sleep(world.stall_s)
        loses = world.strikes(step, "lost")
        try:
            if world.strikes(step, "reject"):
                raise Refused(world.code, "Refusé")
            said = await answer(taxpayer)
        except Refused as refused:
            said = {"errorCode": refused.code, "errorDesc": refused.words}
        if loses:
            return _Silence()
        if world.strikes(step, "broken"):
            return JSONResponse({"message": "Internal Server Error"}, 500)
        return Response(_text(said), media_type="application/json")


class Control:
    """What a test may ask and change."""

    def __init__(self, world: World) -> None:
        self.world = world

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/control/health", self.health),
            Route("/control/devices", self.device, methods=["POST"]),
            Route("/control/invoices", self.invoices),
            Route("/control/settings", self.settings, methods=["POST"]),
            Route("/control/faults", self.faults, methods=["POST"]),
            Route("/control/clock", self.clock, methods=["POST"]),
            Route("/control/calm", self.calm, methods=["POST"]),
        ]

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def device(self, request: Request) -> Response:
        """What the DGI hands a taxpayer for one outlet: {"nif": …, "nim": …, "days": 365}."""
        asked, books = json.loads(await request.body()), self.world.books
        until = books.now() + timedelta(days=asked.get("days", TOKEN_DAYS))
        token = taxpayers.issue(books.secret, asked["nif"], asked["nim"], until)
        facts = {"token": token, "nif": asked["nif"], "nim": asked["nim"], "isf": "SFE-0042"}
        return JSONResponse(facts)

    async def invoices(self, request: Request) -> Response:
        """What counts for a device, and how many were pending at most."""
        nim, books = request.query_params["nim"], self.world.books
        return JSONResponse(
            {
                "confirmed": [vars(row) for row in books.confirmed.values() if row.nim == nim],
                "pending": len(books.open(nim)),
                "pending_max_seen": self.world.pending_max_seen,
                "calls": dict(self.world.calls),
            }
        )

    async def settings(self, request: Request) -> Response:
        """Of code, stall_s, replays, rates, lose_every."""
        for name, value in json.loads(await request.body()).items():
            assert name in ("code", "stall_s", "replays", "rates", "lose_every"), name
            setattr(self.world, name, value)
        return JSONResponse({"status": "set"})

    async def faults(self, request: Request) -> Response:
        """Arm a fault: {"step": "confirm", "fault": "lost", "times": 1}."""
        asked = json.loads(await request.body())
        assert asked["fault"] in FAULTS, asked["fault"]
        assert asked["step"] in STEPS, asked["step"]
        self.world.armed[asked["step"], asked["fault"]] += asked.get("times", 1)
        return JSONResponse({"status": "armed"})

    async def clock(self, request: Request) -> Response:
        """Move the clock: {"advance_s": 121}."""
        self.world.books.offset += timedelta(seconds=json.loads(await request.body())["advance_s"])
        return JSONResponse({"now": self.world.books.now().isoformat()})

    async def calm(self, _request: Request) -> Response:
        """No more faults; the clock is right again. What counts stays."""
        self.world.calm()
        self.world.books.offset = timedelta()
        return JSONResponse({"status": "calm"})


class _Silence(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"ui', "more_body": True})
        raise asyncio.CancelledError


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body(), parse_float=Decimal)
    except ValueError:
        raise Refused("2", "Le corps n'est pas du JSON") from None


def _listed(names: dict[str, str]) -> list[dict[str, str]]:
    return [{"type": name, "description": words} for name, words in names.items()]


def _text(said: Any) -> str:
    """JSON in which amounts are numbers, digit for digit."""
    if isinstance(said, Decimal):
        return f"{said:f}"
    if isinstance(said, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_text(v)}" for name, v in said.items()) + "}"
    return json.dumps(said)
