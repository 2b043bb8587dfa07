"""What three exchanges cost in the libraries alone: the limit of a confirm's processor time.

A handler with nothing of ours in it: FastAPI checks the same body, postgrest calls the Data API
twice, and aiohttp, as for every rail, the simulator once. No money, no seal, no log.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import aiohttp
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response
from postgrest import AsyncPostgrestClient

from functions.payment_intents.models import ConfirmPaymentIntent
from scripts.benchmarks.memory import Memory
from scripts.benchmarks.place import Function, wait_until_ready
from scripts.benchmarks.wire import HOST
from scripts.stack.process import Child
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block
from shared.pooled import PooledClient

KEY_HASH: Final = "x-stalela-key-hash"
_ROLE: Final = "fn_payment_intents"


@contextmanager
def bare(stack: Stack, known: Memory) -> Iterator[Function]:
    """Run it behind `known`, in a process of its own: POST /{payment_intent_id}."""
    port = free_block()
    wanted = {
        "PORT": str(port),
        "DATA_API_URL": known.data_api_url,
        "DATA_API_TOKEN": stack.role_token(_ROLE),
        "RAIL_URL": f"{known.rail_url}/control/health",
    }
    command = [sys.executable, "-m", "scripts.benchmarks.bare"]
    child = Child("bare", command, log=lambda _name, _line: None, env=stack.env | wanted)
    child.start()
    try:
        wait_until_ready("bare", port)
        yield Function(child, port)
    finally:
        child.stop()


def create() -> FastAPI:
    """The app, which opens its connections with the first request."""
    app = FastAPI(openapi_url=None)
    headers = {"Authorization": f"Bearer {os.environ['DATA_API_TOKEN']}"}
    data_api = AsyncPostgrestClient(
        os.environ["DATA_API_URL"],
        schema="payments",
        headers=headers,
        http_client=PooledClient(),
        retry_enabled=False,
    )
    rail: list[aiohttp.ClientSession] = []

    @app.get("/readyz")
    async def ready() -> Response:
        if not rail:  # it belongs to this loop
            rail.append(aiohttp.ClientSession())
        return Response()

    @app.post("/{payment_intent_id}")
    async def exchange(
        payment_intent_id: str,
        body: ConfirmPaymentIntent,  # noqa: ARG001  checked, as the product checks it
        request: Request,
    ) -> Response:
        await read(payment_intent_id, request)
        async with rail[0].get(os.environ["RAIL_URL"]) as answer:
            await answer.read()
        return Response(await read(payment_intent_id, request), media_type="application/json")

    async def read(payment_intent_id: str, request: Request) -> str:
        query = data_api.rpc("get_intent", {"payment_intent_id": payment_intent_id})
        query.request.headers[KEY_HASH] = request.headers[KEY_HASH]
        answer: Any = (await query.execute()).data
        return str(answer["body"])

    return app


if __name__ == "__main__":
    uvicorn.run(
        create(),
        host=HOST,
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
    )
