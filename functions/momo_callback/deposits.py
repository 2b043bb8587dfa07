"""POST /momo-callback/c2b/{token}/…: payments nobody was prompted for, asked about, then told."""

from typing import Annotated, Final

from fastapi import Path, Request
from fastapi.responses import JSONResponse

from functions.momo_callback.models import ANY_DEPOSIT, Answered
from functions.momo_callback.received import RAIL, receive
from shared import log
from shared.db import Database
from shared.errors import DependencyUnavailable
from shared.http.caller import FunctionCaller, digest
from shared.http.problem import answers
from shared.http.routes import Router
from shared.rails.base import CallbackNotUnderstood, DepositRefusal, TakesDeposits

router = Router("deposits")

PATIENCE_S: Final = 6.0  # the rail waits 8 s for a validation, and tells a deposit once

Token = Annotated[
    str,
    Path(
        min_length=1,
        max_length=128,
        description="Says whose deposits are told; the rail was given it when it was registered.",
        examples=["9f2c4e6a8b0d1f3a5c7e9b1d3f5a7c9e0b2d4f6a8c0e1b3d5f7a9c1e3b5d7f9a"],
    ),
]


@router.post(
    "/c2b/{token}/validation",
    responses=answers(Answered, 413, 503),
    openapi_extra={"requestBody": ANY_DEPOSIT},
)
async def validate_deposit(token: Token, caller: FunctionCaller, request: Request) -> JSONResponse:
    """Say whether a deposit may be made. Nothing is booked: no money has moved."""
    rail, db = _rail(request), request.app.state.database
    received = await receive(request, token, "validation")
    refusal: DepositRefusal | None = None
    try:
        deposit = rail.read_deposit(received.request)
        told = await db.call(
            "rails.check_deposit",
            {
                "rail": RAIL,
                "token_hash": digest(token),
                "amount_minor": deposit.amount.minor,
                "currency": deposit.amount.currency,
            },
            caller,
            idempotent=True,
        )
        refusal = DepositRefusal(told) if told else None
    except CallbackNotUnderstood:
        refusal = DepositRefusal.OTHER
    except DependencyUnavailable:
        # Whose money it is can be found out later; that it may come needs no database.
        log.warning("deposit_not_checked", rail=RAIL)
    return JSONResponse(rail.answer_validation(refusal))


@router.post(
    "/c2b/{token}/confirmation",
    responses=answers(Answered, 413, 503),
    openapi_extra={"requestBody": ANY_DEPOSIT},
)
async def confirm_deposit(token: Token, caller: FunctionCaller, request: Request) -> JSONResponse:
    """Store and book a deposit that was made, in one transaction. A replay changes nothing."""
    rail = _rail(request)
    received = await receive(request, token, "confirmation")
    deposit, problem = None, None
    try:
        deposit = rail.read_deposit(received.request).to_json()
    except CallbackNotUnderstood as odd:
        problem = odd.reason
    database: Database = request.app.state.database
    concluded = await database.call(
        "rails.receive_deposit",
        received.arguments | {"deposit": deposit, "problem": problem},
        caller,
        idempotent=True,
        patience_s=PATIENCE_S,
    )
    log.event(
        "rail_deposit_received",
        rail=RAIL,
        disposition=concluded["disposition"],
        reason=concluded.get("reason"),
    )
    return JSONResponse(rail.acknowledge_deposit())


def _rail(request: Request) -> TakesDeposits:
    rail: TakesDeposits | None = request.app.state.rails.deposits(RAIL)
    assert rail is not None, f"{RAIL} takes deposits"
    return rail
