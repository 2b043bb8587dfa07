"""A small function inside the frame, and a client that reaches it without a network."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import httpx
from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.responses import Response, StreamingResponse

from shared.config import Settings
from shared.db import Answer
from shared.errors import InternalError, InvalidTransition, RailUnavailable
from shared.http.app import create_app
from shared.http.caller import (
    ApiCaller,
    InternalCaller,
    PayerCaller,
    StreamCaller,
    UserCaller,
    VisitorCaller,
)
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import problem_responses
from shared.http.routes import Router
from shared.money import Money

KEY = {"authorization": "Bearer sk_test_4f8e2a"}
WRITE = {**KEY, "idempotency-key": "order-1042"}


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Mpesa(Strict):
    type: Literal["mpesa"]
    phone: str


class Card(Strict):
    type: Literal["card"]
    number: str


class Part(Strict):
    quantity: int


class Order(Strict):
    amount: str
    currency: str = "KES"
    note: str = Field(default="", max_length=5)
    count: int = Field(default=1, ge=1)
    method: Annotated[Mpesa | Card, Field(discriminator="type")] | None = None
    tags: list[str] = []
    parts: list[Part] = []
    metadata: dict[str, str] = {}


class Filters(BaseModel):
    model_config = ConfigDict(extra="forbid")
    page_size: int = Field(default=20, ge=1, le=100)
    cursor: Annotated[str | None, Field(pattern=r"^row_[0-9a-z]{26}$")] = None


async def create(order: Order, caller: ApiCaller, key: IdempotencyKey) -> Response:
    amount = Money.parse(order.amount, order.currency)
    body = f'{{"amount":"{amount.wire()}","hash":"{body_hash(order)}"}}'
    return Answer(201, body.encode(), {"RateLimit-Limit": "60"}).response()


async def listing(filters: Annotated[Filters, Query()], caller: ApiCaller) -> dict[str, str]:
    return caller.headers()


async def me(caller: UserCaller) -> dict[str, str]:
    return caller.headers()


async def payer(caller: PayerCaller) -> dict[str, str]:
    return caller.headers()


async def watch(caller: StreamCaller, token: str = "") -> dict[str, str]:
    return caller.headers()


async def visit(caller: VisitorCaller) -> dict[str, str]:
    return {**caller.headers(), "is_anonymous": str(caller.is_anonymous)}


async def tick(caller: InternalCaller) -> dict[str, str]:
    return caller.headers()


async def address(request: Request) -> dict[str, str]:
    return {"address": request.state.client_address}


async def stream() -> StreamingResponse:
    async def broken() -> AsyncIterator[bytes]:
        yield b"data: one\n\n"
        raise RuntimeError("254712345678")

    return StreamingResponse(broken(), media_type="text/event-stream")


async def fail(how: str) -> dict[str, str]:
    raise {
        "state": InvalidTransition(
            "a succeeded intent cannot be canceled",
            extras={"current_state": "succeeded", "allowed": [], "code": "hidden"},
        ),
        "rail": RailUnavailable("M-Pesa does not answer", retry_after=7),
        "ours": InternalError("row 17 is missing"),
        "crash": RuntimeError("254712345678 at 10.0.0.5"),
    }[how]


def router() -> Router:
    routes = Router()
    routes.post("/", status_code=201, responses=problem_responses(401, 409, 422))(create)
    routes.post("/tick")(tick)
    for path, endpoint in {
        "/": listing,
        "/me": me,
        "/payer": payer,
        "/watch": watch,
        "/visit": visit,
        "/address": address,
        "/stream": stream,
        "/fail/{how}": fail,
    }.items():
        routes.get(path)(endpoint)
    return routes


def settings(**more: Any) -> Settings:
    values: dict[str, Any] = {
        "function_name": "payment_intents",
        "data_api_url": "http://data.test",
        "data_api_token": SecretStr("role-token"),
        "supabase_url": "http://auth.test",
        "functions_url": "http://api.test/functions/v1",
        "internal_tokens": [SecretStr("inside-one"), SecretStr("inside-two")],
        "version": "1.2.3",
    }
    return Settings(**{**values, **more})


def make_app(*, max_body_bytes: int = 64 * 1024, **more: Any) -> FastAPI:
    return create_app(
        settings(**more),
        router(),
        title="Orders",
        description="For the tests of the frame.",
        max_body_bytes=max_body_bytes,
    )


@asynccontextmanager
async def client_of(app: FastAPI, *, peer: str = "192.0.2.1") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=(peer, 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
        yield client
