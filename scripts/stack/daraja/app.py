"""The simulator as one ASGI application: Daraja's paths, the control API and the page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from scripts.stack.daraja.control import control_routes
from scripts.stack.daraja.daraja import Daraja
from scripts.stack.daraja.desk import Desk
from scripts.stack.daraja.edge import Edge
from scripts.stack.daraja.page import page_routes
from scripts.stack.daraja.refusals import Refusal
from scripts.stack.daraja.world import World

OURS = ("/control", "/page", "/docs", "/openapi.json")


def create(world: World) -> FastAPI:
    """Serves `world`; on start it resumes what its books left open."""
    desk = Desk(world)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        desk.resume()
        yield
        await desk.stop()
        world.store.close()

    app = FastAPI(title="Daraja simulator", version="1", lifespan=lifespan)
    _add_daraja(app, Daraja(world, desk), Edge(world))
    app.include_router(control_routes(world, desk))
    app.include_router(page_routes(world, desk.phones))

    async def answer_strangers(request: Request, error: Exception) -> Response:
        """Wrong path or method: in Daraja's shape outside our own paths."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = error.detail if isinstance(error, HTTPException) else "error"
        if request.url.path == "/" or request.url.path.startswith(OURS):
            return JSONResponse({"detail": detail}, status)
        refusal = Refusal("405.001" if status == 405 else "404.001.01")
        body = refusal.body(world.rng("stranger", request.url.path), varied=False)
        return JSONResponse(body, refusal.status)

    app.add_exception_handler(HTTPException, answer_strangers)
    return app


def _add_daraja(app: FastAPI, daraja: Daraja, edge: Edge) -> None:
    @app.get("/oauth/v1/generate", tags=["daraja"])
    async def generate_token(request: Request) -> Response:
        return await edge.answer(request, "token", daraja.token)

    @app.post("/mpesa/stkpush/v1/processrequest", tags=["daraja"])
    async def push(request: Request) -> Response:
        return await edge.answer(request, "push", daraja.push)

    @app.post("/mpesa/stkpushquery/v1/query", tags=["daraja"])
    async def query(request: Request) -> Response:
        return await edge.answer(request, "query", daraja.query)

    @app.post("/mpesa/c2b/v1/registerurl", tags=["daraja"])
    @app.post("/mpesa/c2b/v2/registerurl", tags=["daraja"])
    async def register_urls(request: Request) -> Response:
        return await edge.answer(request, "register", daraja.register_urls)

    @app.post("/mpesa/c2b/v1/simulate", tags=["daraja"])
    @app.post("/mpesa/c2b/v2/simulate", tags=["daraja"])
    async def simulate_deposit(request: Request) -> Response:
        return await edge.answer(request, "deposit", daraja.simulate_deposit)

    @app.post("/mpesa/b2c/v3/paymentrequest", tags=["daraja"])
    async def pay_out(request: Request) -> Response:
        return await edge.answer(request, "payout", daraja.pay_out)

    @app.post("/mpesa/reversal/v1/request", tags=["daraja"])
    async def reverse(request: Request) -> Response:
        return await edge.answer(request, "reversal", daraja.reverse)

    @app.post("/mpesa/transactionstatus/v1/query", tags=["daraja"])
    async def tell_status(request: Request) -> Response:
        return await edge.answer(request, "status", daraja.tell_status)

    @app.post("/mpesa/accountbalance/v1/query", tags=["daraja"])
    async def tell_balance(request: Request) -> Response:
        return await edge.answer(request, "balance", daraja.tell_balance)
