"""The wire of Daraja: token, prompts, payouts, reversals, status, balances and C2B."""

import base64
import binascii
import json
import secrets
import string
import time
from dataclasses import replace
from typing import Any

from scripts.stack.daraja import outcomes, wire
from scripts.stack.daraja.asks import Kind, read_ask
from scripts.stack.daraja.books import Registration
from scripts.stack.daraja.conversations import is_told_first
from scripts.stack.daraja.credentials import BY_KEY, Merchant
from scripts.stack.daraja.desk import Desk
from scripts.stack.daraja.edge import Exchange
from scripts.stack.daraja.faults import CallbackFirst, TokenExpires
from scripts.stack.daraja.refusals import Refusal, invalid
from scripts.stack.daraja.rules import (
    AMOUNT_MAX,
    read_callback_url,
    read_digits,
    read_limited,
    read_push,
    read_query,
    read_text,
)
from scripts.stack.daraja.world import World

TOKEN_LIFE_S = 3599
TOKEN_ERRORS = ("401.002.01", "404.001.03", "400.003.01")
ALPHABET = string.ascii_letters + string.digits


class Daraja:
    """What each path does with a request that reached it."""

    def __init__(self, world: World, desk: Desk) -> None:
        self._world = world
        self._phones = desk.phones
        self._conversations = desk.conversations
        self._deposits = desk.deposits

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
        """C2B: payments of the short code are asked about and confirmed from now on."""
        exchange.pass_edge(None)
        caller = self._caller(exchange, None)
        body = _object(_peek(exchange))
        if str(body.get("ShortCode")) != caller.short_code:
            raise invalid("ShortCode")
        response_type = body.get("ResponseType")
        if response_type not in ("Completed", "Cancelled"):
            raise invalid("ResponseType")
        registration = Registration(
            confirmation_url=read_callback_url(body, "ConfirmationURL"),
            validation_url=read_callback_url(body, "ValidationURL"),
            response_type=response_type,
            version=1 if "/v1/" in exchange.request.url.path else 2,
        )
        known = self._world.books.c2b(caller.short_code)
        if known and self._world.settings.c2b_register_once:
            raise Refusal("500.003.1001", "Urls are already registered.")
        self._world.books.register_c2b(caller.short_code, registration)
        return _accepted_c2b(exchange.id)

    async def simulate_deposit(self, exchange: Exchange) -> dict[str, Any]:
        """Sandbox only: a payer pays the short code unasked."""
        body = _peek(exchange)
        named = body.get("Msisdn") if isinstance(body, dict) else None
        phone = None if named is None else str(named)
        edge = exchange.pass_edge(phone)
        caller = self._caller(exchange, edge.get(TokenExpires))
        told = _object(body)
        if read_digits(told, "ShortCode") not in (caller.short_code, caller.party_b):
            raise Refusal("400.003.02")
        if read_text(told, "CommandID") != caller.transaction_type:
            raise invalid("CommandID")
        payer = read_digits(told, "Msisdn")
        amount = int(read_digits(told, "Amount"))
        if not 1 <= amount <= AMOUNT_MAX:
            raise invalid("Amount")
        reference = "" if caller.till else read_limited(told, "BillRefNumber", 20)
        exchange.seen |= {"phone": payer, "account_reference": reference, "amount": amount}
        self._deposits.pay(caller, payer, amount, reference, exchange.accept(payer))
        return _accepted_c2b(exchange.id)

    async def pay_out(self, exchange: Exchange) -> dict[str, Any]:
        """B2C: accepted, decided later, told to the result address."""
        return await self._take("payout", exchange)

    async def reverse(self, exchange: Exchange) -> dict[str, Any]:
        """A payment goes back to its payer, in full or in part."""
        return await self._take("reversal", exchange)

    async def tell_status(self, exchange: Exchange) -> dict[str, Any]:
        """What became of a receipt or of a conversation."""
        return await self._take("status", exchange)

    async def tell_balance(self, exchange: Exchange) -> dict[str, Any]:
        """What the accounts of the short code hold."""
        return await self._take("balance", exchange)

    async def _take(self, kind: Kind, exchange: Exchange) -> dict[str, Any]:
        body = _peek(exchange)
        phone = self._phone_of(kind, body)
        edge = exchange.pass_edge(phone)
        caller = self._caller(exchange, edge.get(TokenExpires))
        ask = read_ask(
            kind, _object(body), caller, self._world.certificate.open, self._world.accounts
        )
        exchange.seen |= {"phone": phone, "amount": ask.amount}
        if ask.originator and self._conversations.find(ask.originator):
            raise Refusal("500.002.1001")
        taken = self._conversations.take(replace(ask, phone=phone), exchange.accept(phone))
        if is_told_first(taken):
            await self._conversations.told(taken)
        rng = self._world.rng("acknowledgement", exchange.id)
        return outcomes.acknowledgement(
            taken.originator,
            taken.conversation_id,
            rng,
            varied=self._world.settings.shape_noise,
        )

    def _phone_of(self, kind: Kind, body: object) -> str | None:
        """Whom a request is about, as far as it can be read: their scenario applies."""
        if not isinstance(body, dict):
            return None
        if kind == "payout":
            return str(body.get("PartyB"))
        named = body.get("TransactionID") or body.get("OriginalConversationID")
        if not isinstance(named, str):
            return None
        about = self._conversations.find(named)
        entry = self._world.accounts.entry(named)
        if about is not None:
            return about.phone
        if entry is None:
            return None
        return str(entry["paid_to" if entry["kind"] in ("payout", "reversal") else "payer"])

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


def _accepted_c2b(number: int) -> dict[str, Any]:
    """Their spelling, and no ConversationID."""
    return {
        "OriginatorCoversationID": f"{number}-{secrets.randbelow(10**8)}-1",
        "ResponseCode": "0",
        "ResponseDescription": "Success",
    }


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
