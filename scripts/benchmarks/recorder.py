"""The request that the function itself sends to the Data API, byte for byte."""

import asyncio
import json
from typing import Final

from functions.payment_intents.collecting import Collector
from functions.payment_intents.models import CreatePaymentIntent
from scripts.benchmarks.load import KEY
from scripts.benchmarks.shop import Merchant
from scripts.benchmarks.wire import HOST
from scripts.stack.stack import Stack
from shared.config import Settings
from shared.db import Database
from shared.http.caller import Caller
from shared.http.idempotency import body_hash
from shared.money import Money
from shared.rails.registry import Rails
from shared.vault import Vault

_ANSWER: Final = json.dumps({"status": 201, "body": "{}", "headers": {}}).encode()
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
_TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def record_create(stack: Stack, shop: Merchant, body: CreatePaymentIntent) -> str:
    """The Data API request of one create, for a load to repeat: KEY is its idempotency key."""
    return asyncio.run(_record(stack, shop, body)).decode("latin-1")


async def _record(stack: Stack, shop: Merchant, body: CreatePaymentIntent) -> bytes:
    said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        said.set_result(head + await reader.readexactly(int(length)))
        writer.write(_HEAD + str(len(_ANSWER)).encode() + b"\r\n\r\n" + _ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(listen, HOST, 0)
    async with server:
        await _create(stack, shop, body, server.sockets[0].getsockname()[1])
    return await said


async def _create(stack: Stack, shop: Merchant, body: CreatePaymentIntent, port: int) -> None:
    settings = Settings(
        function_name="payment_intents",
        data_api_url=f"http://{HOST}:{port}",
        data_api_token=stack.role_token("fn_payment_intents"),
        supabase_url=stack.url,
        functions_url=stack.functions_url,
        vault_keys=stack.keys["vault_keys"],
    )
    database = Database(settings)
    rails = Rails(settings)
    collector = Collector(database, Vault(settings.vault_keys), rails, settings.functions_url)
    caller = Caller("req_recorded", _TRACEPARENT, key_hash=shop.key_hash)
    amount = Money.parse(body.amount, body.currency)
    try:
        await collector.create(body, amount, KEY, body_hash(body), caller)
    finally:
        await database.aclose()
