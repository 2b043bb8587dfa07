"""The wire of Daraja: token, STK push, STK query and C2B registration."""

import base64
import binascii
import json
import secrets
import string
import time
from typing import Any

from scripts.stack.daraja import wire
from scripts.stack.daraja.credentials import BY_KEY, Merchant
from scripts.stack.daraja.edge import Exchange
from scripts.stack.daraja.faults import CallbackFirst, TokenExpires
from scripts.stack.daraja.phones import Phones
from scripts.stack.daraja.refusals import Refusal, invalid
from scripts.stack.daraja.rules import read_push, read_query
from scripts.stack.daraja.world import World

TOKEN_LIFE_S = 3599
TOKEN_ERRORS = ("401.002.01", "404.001.03", "400.003.01")
ALPHABET = string.ascii_letters + string.digits


class Daraja:
    """What each path does with a request that reached it."""

    def __init__(self, world: World, phones: Phones) -> None:
        self._world = world
        self._phones = phones

    async def token(self, exchange: Exchange) -> dict[str, Any]:
        """Basic authentication for a bearer; an older one stays good."""
        dies = exchange.pass_edge(None).get(TokenExpires)
        if exchange.request.query_params.get("grant_type") != "client_credentials":
            raise Refusal("400.008.02")
        merchant = _basic(exchange.request.headers.get("authorization", ""))
        exchange.accept(None)
        token = "".join(secrets.choice(ALPHABET) for _ in range(28))
        ttl_s = dies.ttl_s if dies else TOKEN_LIFE_S
        self._world.store.execute(
            "insert into tokens values (?, ?, ?, ?)",
            (token, merchant.consumer_key, time.time() + ttl_s, dies.code if dies else None),
        )
        is_number = self._world.settings.shape_noise and self._dice(exchange) < 0.3
        return {
            "access_token": token,
            "expires_in": TOKEN_LIFE_S if is_number else str(TOKEN_LIFE_S),
        }

    async def push(self, exchange: Exchange) -> dict[str, Any]:
        """Checks everything, shows the prompt and says so; the result comes by callback."""
        body = _peek(exchange)
        edge = exchange.pass_edge(exchange.seen.get("phone"))
        caller = self._caller(exchange, edge.get(TokenExpires))
        order = read_push(_object(body), caller, self._world.settings.timestamp_skew_s)
        prompt = self._phones.show(order, exchange.accept(order.phone))
        exchange.seen["checkout_request_id"] = prompt.checkout_request_id
        if prompt.selection.get(CallbackFirst):
            await self._phones.called_back(prompt)
        return wire.accepted(prompt)

    async def query(self, exchange: Exchange) -> dict[str, Any]:
        """The state of a prompt, as unreliable as theirs."""
        body = _peek(exchange)
        edge = exchange.pass_edge(self._asked_phone(exchange, body))
        caller = self._caller(exchange, edge.get(TokenExpires))
        asked = read_query(_object(body), caller, self._world.settings.timestamp_skew_s)
        exchange.accept(exchange.seen.get("phone"))
        rng = self._world.rng("query", exchange.id)
        try:
            prompt = self._world.books.prompt(asked)
        except KeyError as error:
            raise _unknown(rng.choice(("", _MISSING)), 500) from error
        code = prompt.result_code
        if code is None:
            code = self._open_answer(exchange)
        elif rng.random() < self._world.settings.query_noise:
            raise _unknown(rng.choice(("", _MISSING)), rng.choice((500, 200)))
        return wire.query_answer(prompt, code, rng)

    async def register_urls(self, exchange: Exchange) -> dict[str, Any]:
        """C2B registration: paid prompts of the short code are confirmed at the URL from now on."""
        caller = self._caller(exchange, None)
        body = _object(_peek(exchange))
        if str(body.get("ShortCode")) != caller.short_code:
            raise invalid("ShortCode")
        url = body.get("ConfirmationURL")
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise invalid("ConfirmationURL")
        version = 1 if "/v1/" in exchange.request.url.path else 2
        self._world.books.register_c2b(caller.short_code, url, version)
        return {
            "OriginatorCoversationID": f"{exchange.id}-{secrets.randbelow(10**8)}-1",
            "ResponseCode": "0",
            "ResponseDescription": "Success",
        }

    def _caller(self, exchange: Exchange, dies: TokenExpires | None) -> Merchant:
        """The merchant of the bearer token, which dies here if the fault says so."""
        scheme, _, token = exchange.request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal("404.001.04")
        if dies:
            self._world.store.execute(
                "update tokens set dies_at = 0, code = ? where token = ?", (dies.code, token)
            )
        row = self._world.store.execute("select * from tokens where token = ?", (token,)).fetchone()
        if row is None or row["dies_at"] <= time.time():
            fixed = row["code"] if row else None
            raise Refusal(fixed or self._world.rng("token", exchange.id).choice(TOKEN_ERRORS))
        return BY_KEY[row["consumer_key"]]

    def _open_answer(self, exchange: Exchange) -> str:
        """A prompt that still waits: 4999, an empty code, or 500.001.1001 with 500 or 200."""
        rng = self._world.rng("open", exchange.id)
        choice = self._world.settings.query_open
        if choice == "mixed":
            choice = rng.choice(("4999", "empty", "500.001.1001"))
        if choice == "500.001.1001":
            raise _unknown("The transaction is being processed", rng.choice((500, 200)))
        return "4999" if choice == "4999" else ""

    def _asked_phone(self, exchange: Exchange, body: object) -> str | None:
        asked = body.get("CheckoutRequestID") if isinstance(body, dict) else None
        if not isinstance(asked, str):
            return None
        exchange.seen["checkout_request_id"] = asked
        try:
            prompt = self._world.books.prompt(asked)
        except KeyError:
            return None
        exchange.seen |= {"phone": prompt.phone, "account_reference": prompt.account_reference}
        return prompt.phone

    def _dice(self, exchange: Exchange) -> float:
        return self._world.rng("token shape", exchange.id).random()


_MISSING = "The transaction does not Exist"


def _unknown(text: str, status: int) -> Refusal:
    return Refusal("500.001.1001", text, status)


def _basic(header: str) -> Merchant:
    scheme, _, encoded = header.partition(" ")
    try:
        key, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refusal("400.008.01") from error
    merchant = BY_KEY.get(key)
    good = merchant is not None and secrets.compare_digest(
        secret.encode(), merchant.consumer_secret.encode()
    )
    if scheme.lower() != "basic" or merchant is None or not good:
        raise Refusal("400.008.01")
    return merchant


def _peek(exchange: Exchange) -> object:
    """The body as JSON, None if it is none; what can be read of a push goes to the log."""
    try:
        body = json.loads(exchange.body)
    except ValueError:
        return None
    if isinstance(body, dict) and exchange.endpoint == "push":
        found = {
            "phone": body.get("PhoneNumber"),
            "account_reference": body.get("AccountReference"),
        }
        exchange.seen |= {name: str(value) for name, value in found.items() if value is not None}
        if isinstance(body.get("Amount"), int) and body["Amount"] < 2**62:
            exchange.seen["amount"] = body["Amount"]
    return body


def _object(body: object) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Refusal("400.002.05")
    return body
