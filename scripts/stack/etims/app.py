"""The simulator as one ASGI application: KRA's paths and the control API."""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from scripts.stack.etims.kra import NAIROBI, Kra, Unit
from scripts.stack.etims.refusals import MESSAGES, Refusal
from shared.authority import exact_json

GATEWAY_PAGE = "<html><body><h1>{} Gateway</h1></body></html>"


def create(kra: Kra) -> Starlette:
    """Serves `kra`."""
    wire = Wire(kra)
    control = Control(kra)
    return Starlette(
        routes=[
            Route("/control/health", control.health),
            Route("/control/books", control.books),
            Route("/control/faults", control.faults, methods=["POST"]),
            Route("/control/rates", control.rates, methods=["POST"]),
            Route("/control/reset", control.reset, methods=["POST"]),
            Route("/{path}", wire.serve, methods=["POST"]),
        ]
    )


class Wire:
    """POST /{path}: an envelope with a result code, HTTP 200 whatever it says."""

    def __init__(self, kra: Kra) -> None:
        self._kra = kra
        self._calls: Mapping[str, Callable[[Unit, dict[str, Any]], Any]] = {
            "selectCodeList": lambda _unit, _body: kra.codes(),
            "saveItem": kra.save_item,
            "saveTrnsSalesOsdc": kra.save_sale,
            "selectInvoiceDetails": kra.look_up,
        }

    async def serve(self, request: Request) -> Response:
        path, raw = request.path_params["path"], await request.body()
        fault = self._kra.strikes("down", "unanswered", "busy", "reject", "unknown_error")
        if fault == "down":
            return HTMLResponse(GATEWAY_PAGE.format("502 Bad"), 502)
        if fault == "unanswered":
            return _Silence()
        try:
            if fault is not None:
                raise Refusal({"busy": "990", "reject": "910"}.get(fault, "999"))
            data = self._answer(path, request, raw)
        except Refusal as refusal:
            return _envelope(refusal.code, refusal.message, None)
        if path == "saveTrnsSalesOsdc":
            match self._kra.strikes("lost_answer", "late"):
                case "lost_answer":
                    return _Silence()
                case "late":
                    return HTMLResponse(GATEWAY_PAGE.format("504 Late"), 504)
        return _envelope("000", MESSAGES["000"], data)

    def _answer(self, path: str, request: Request, raw: bytes) -> Any:
        try:
            body = exact_json.read(raw)
        except ValueError:
            raise Refusal("910", "no JSON") from None
        if not isinstance(body, dict):
            raise Refusal("910", "no object")
        if path == "selectInitOsdcInfo":
            return self._kra.install(body)
        if path not in self._calls:
            raise Refusal("912", path)
        return self._calls[path](self._kra.unit(request.headers), body)


class Control:
    """What a test may ask and change."""

    def __init__(self, kra: Kra) -> None:
        self._kra = kra

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def books(self, _request: Request) -> Response:
        """Every sale KRA has, in the order of its numbers."""
        sales = [
            {**sale, "pin": pin, **self._kra.receipts[pin, number]}
            for (pin, number), sale in sorted(self._kra.sales.items())
        ]
        return Response(exact_json.write(sales), media_type="application/json")

    async def faults(self, request: Request) -> Response:
        """Arm a fault: {"fault": name, "times": 1}."""
        body = json.loads(await request.body())
        self._kra.arm(body["fault"], body.get("times", 1))
        return JSONResponse({"armed": body["fault"]})

    async def rates(self, request: Request) -> Response:
        """Change a rate: {"B": "14"}."""
        for band, rate in json.loads(await request.body()).items():
            self._kra.rates[band] = Decimal(rate)
        return JSONResponse({band: str(rate) for band, rate in self._kra.rates.items()})

    async def reset(self, _request: Request) -> Response:
        self._kra.reset()
        return JSONResponse({"status": "as new"})


class _Silence(Response):
    """The connection ends in the middle of the answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"re', "more_body": True})
        raise asyncio.CancelledError


def _envelope(code: str, message: str, data: Any) -> Response:
    body = {
        "resultCd": code,
        "resultMsg": message,
        "resultDt": f"{datetime.now(NAIROBI):%Y%m%d%H%M%S}",
        "data": data,
    }
    return Response(exact_json.write(body), media_type="application/json")
