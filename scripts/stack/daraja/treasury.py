"""The control API of money: payers who pay unasked, balances, statements, the merchants' bank."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, HTTPException
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from scripts.stack.daraja import wire
from scripts.stack.daraja.accounts import BANK, Kind
from scripts.stack.daraja.clock import EAT, wall
from scripts.stack.daraja.credentials import BY_SHORT_CODE, PAY_BILL, Merchant
from scripts.stack.daraja.desk import Desk
from scripts.stack.daraja.statement import statement
from scripts.stack.daraja.world import World


class Deposit(BaseModel):
    """What a payer enters who pays unasked."""

    model_config = ConfigDict(extra="forbid")

    phone: str = Field(pattern=r"^254[17]\d{8}$")
    amount: int = Field(ge=1, le=250_000)
    account_reference: str = Field(default="", max_length=20)
    short_code: str = PAY_BILL.short_code


class Movement(BaseModel):
    """Whole shillings between a short code and its bank."""

    model_config = ConfigDict(extra="forbid")

    amount: int = Field(ge=1)
    short_code: str = PAY_BILL.short_code


def add_money(router: APIRouter, world: World, desk: Desk) -> None:
    """Routes that exist only here, never at the real party."""

    @router.get("/certificate")
    async def read_certificate() -> Response:
        """PEM, for the SecurityCredential of every merchant here."""
        return PlainTextResponse(world.certificate.pem, media_type="application/x-pem-file")

    @router.get("/conversations")
    async def list_conversations(phone: str | None = None) -> list[dict[str, Any]]:
        """Payouts, reversals, status and balance questions, newest first; without the request."""
        hidden = ("request", "faults")
        return [
            {name: value for name, value in asdict(each).items() if name not in hidden}
            | {"faults": each.selection.names}
            for each in desk.conversations.all(phone)
        ]

    @router.post("/deposits", status_code=201)
    async def pay_unasked(deposit: Deposit) -> dict[str, Any]:
        """A payer pays a short code that prompted nobody."""
        merchant = _merchant(deposit.short_code)
        faults = world.armoury.take(deposit.phone, "deposit", "work")
        paying = desk.deposits.pay(
            merchant, deposit.phone, deposit.amount, deposit.account_reference, faults
        )
        return asdict(paying)

    @router.get("/deposits")
    async def list_deposits(phone: str | None = None) -> list[dict[str, Any]]:
        """Newest first; `answer` is what the merchant's validation said, if it said something."""
        return [asdict(each) for each in desk.deposits.all(phone)]

    @router.delete("/c2b")
    async def forget_registrations() -> dict[str, Any]:
        """No short code has C2B addresses any more: payments are confirmed to nobody."""
        world.books.forget_c2b()
        return {"registered": []}

    _add_accounts(router, world)


def _add_accounts(router: APIRouter, world: World) -> None:
    @router.post("/topups", status_code=201)
    async def top_up(movement: Movement) -> dict[str, Any]:
        """The merchant's bank fills its utility account."""
        return _move(world, "topup", _merchant(movement.short_code), movement.amount)

    @router.post("/settlements", status_code=201)
    async def settle(movement: Movement) -> dict[str, Any]:
        """The merchant moves collections to its bank."""
        merchant = _merchant(movement.short_code)
        if movement.amount > world.accounts.working(merchant.short_code):
            raise HTTPException(409, "the working account does not hold that much")
        return _move(world, "settlement", merchant, movement.amount)

    @router.get("/balances")
    async def read_balances(short_code: str = PAY_BILL.short_code) -> dict[str, int]:
        """Whole shillings of each account of a short code."""
        return _balances(world, _merchant(short_code))

    @router.get("/statement")
    async def read_statement(
        short_code: str = PAY_BILL.short_code,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Response:
        """The organisation statement as CSV; by default of today and so far, in East Africa."""
        merchant = _merchant(short_code)
        return download(world, merchant, since, until)


def download(
    world: World,
    merchant: Merchant,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Response:
    """The statement of a short code, by default of today; a naive time is East African."""
    midnight = datetime.now(EAT).replace(hour=0, minute=0, second=0, microsecond=0)
    start, end = since or midnight, until or datetime.now(UTC) + timedelta(seconds=1)
    start, end = (at if at.tzinfo else at.replace(tzinfo=EAT) for at in (start, end))
    csv = statement(merchant, world.accounts.of(merchant.short_code), start, end)
    name = f"ORG_{merchant.short_code}_All Accounts_Completed_{start.astimezone(EAT):%Y%m%d}.csv"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(csv, media_type="text/csv; charset=utf-8", headers=headers)


def _move(world: World, kind: Kind, merchant: Merchant, amount: int) -> dict[str, Any]:
    at = wall()
    receipt = wire.receipt(at, world.rng(kind, at.isoformat()))
    parties = (BANK, merchant.short_code) if kind == "topup" else (merchant.party_b, BANK)
    world.accounts.enter(
        kind,
        receipt=receipt,
        payer=parties[0],
        paid_to=parties[1],
        short_code=merchant.short_code,
        amount=amount,
    )
    world.changes.announce()
    return {"receipt": receipt} | _balances(world, merchant)


def _balances(world: World, merchant: Merchant) -> dict[str, int]:
    accounts, code = world.accounts, merchant.short_code
    return {
        "working": accounts.working(code),
        "utility": accounts.utility(code),
        "charged": accounts.charged(code),
    }


def _merchant(short_code: str) -> Merchant:
    merchant = BY_SHORT_CODE.get(short_code)
    if merchant is None:
        raise HTTPException(404, "no such short code")
    return merchant
