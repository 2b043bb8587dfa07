"""Serves /payouts: send money to a phone, see what became of it, ask what is there."""

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.payouts import models
from functions.payouts.balances import Balances
from shared.approving import Decision, decide
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, UserCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern
from shared.masking import mask_phone
from shared.money import Money
from shared.phones import parse_payer_phone
from shared.rails.registry import Rails
from shared.screening import begin_screened
from shared.sending import Sender, seal_party
from shared.vault import Vault

router = Router("payouts")

PayoutId = Annotated[
    str,
    Path(pattern=pattern("tr"), description="The payout's id.", examples=[models.PAYOUT_ID]),
]


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Payouts",
        description="Sends money out, once, within limits and with a second person's word.",
    )
    app.state.database, app.state.rails = Database(settings), Rails(settings)
    app.state.vault = Vault(settings.vault_keys)
    parts = (app.state.database, app.state.vault, app.state.rails, settings.functions_url)
    app.state.sender, app.state.balances = Sender(*parts), Balances(*parts)
    return app


@router.post(
    "/",
    status_code=201,
    responses=answers(
        models.Payout, 400, 401, 403, 404, 409, 422, 429, 503, status=201, example=models.CREATED
    )
    | answers(models.Payout, status=202, example=models.WAITING),
)
async def create_payout(
    body: models.CreatePayout, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Send money to a phone, once. 202: a second person must approve it first."""
    amount = Money.parse(body.amount, body.currency)
    phone = parse_payer_phone(body.destination.phone, pointer="/destination/phone")
    vault: Vault = request.app.state.vault
    db: Database = request.app.state.database
    begun = await begin_screened(
        db,
        vault,
        "payments.begin_payout",
        {
            "idempotency_key": key,
            "body_hash": body_hash(body),
            "rail": body.destination.type,
            "amount_minor": amount.minor,
            "currency": amount.currency,
            "payee_sealed": seal_party(vault, phone),
            "payee_masked": mask_phone(phone),
            "payee_hash": vault.blind_index(phone, "payer"),
            "description": body.description,
            "external_ref": body.external_ref,
            "metadata": body.metadata,
        },
        caller,
        name=body.destination.name,
        phone=phone,
    )
    sender: Sender = request.app.state.sender
    return (await sender.send(begun, key, caller)).response()


@router.get("/", responses=answers(models.PayoutPage, 400, 401, 403, 422, 429, 503))
async def list_payouts(
    filters: Annotated[models.PayoutFilters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List payouts, newest first, page by page."""
    db: Database = request.app.state.database
    return (await db.answer("payments.list_transfers", filters.arguments(), caller)).response()


@router.post(
    "/balance",
    status_code=202,
    responses=answers(models.Balance, 400, 401, 403, 404, 422, 429, 503, status=202),
)
async def ask_rail_balance(
    caller: ApiCaller, request: Request, body: models.AskBalance | None = None
) -> Response:
    """Ask the rail what is there to pay out; it tells GET /payouts/balance a moment later."""
    balances: Balances = request.app.state.balances
    return (await balances.ask((body or models.AskBalance()).rail, caller)).response()


@router.get("/balance", responses=answers(models.Balance, 400, 401, 403, 404, 429, 503))
async def get_rail_balance(
    caller: ApiCaller,
    request: Request,
    rail: Annotated[
        str, Query(max_length=32, description="The rail that was asked.", examples=["mpesa"])
    ] = "mpesa",
) -> Response:
    """Read what the rail said to the latest question about the balance."""
    db: Database = request.app.state.database
    return (await db.answer("rails.get_balance", {"rail": rail}, caller)).response()


@router.get(
    "/{payout_id}",
    responses=answers(models.Payout, 401, 403, 404, 429, 503, example=models.SUCCEEDED),
)
async def get_payout(payout_id: PayoutId, caller: ApiCaller, request: Request) -> Response:
    """Read one payout."""
    db: Database = request.app.state.database
    return (await db.answer("payments.get_payout", {"transfer_id": payout_id}, caller)).response()


@router.post(
    "/{payout_id}/approve",
    responses=answers(
        models.Payout, 400, 401, 403, 404, 409, 422, 429, 503, example=models.APPROVED
    ),
)
async def approve_payout(
    payout_id: PayoutId,
    body: models.Decide,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Send a payout that somebody else asked for. Audited with the reason."""
    decision = Decision(payout_id, "payout", "approve", body.reason, body_hash(body))
    state = request.app.state
    return (await decide(state.database, state.sender, decision, key, caller)).response()


@router.post(
    "/{payout_id}/reject",
    responses=answers(
        models.Payout, 400, 401, 403, 404, 409, 422, 429, 503, example=models.REJECTED
    ),
)
async def reject_payout(
    payout_id: PayoutId,
    body: models.Decide,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Say no to a payout that somebody else asked for. Audited with the reason."""
    decision = Decision(payout_id, "payout", "reject", body.reason, body_hash(body))
    state = request.app.state
    return (await decide(state.database, state.sender, decision, key, caller)).response()
