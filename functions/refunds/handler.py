"""Serves /refunds: give back a payment, or part of it; see what became of it."""

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.refunds import models
from shared.approving import Decision, decide
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, UserCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern
from shared.money import Money
from shared.rails.registry import Rails
from shared.sending import Sender
from shared.vault import Vault

router = Router("refunds")

RefundId = Annotated[
    str,
    Path(pattern=pattern("tr"), description="The refund's id.", examples=[models.REFUND_ID]),
]


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Refunds",
        description="Gives back what was paid, never more than that, whoever asks at once.",
    )
    app.state.database, app.state.rails = Database(settings), Rails(settings)
    app.state.sender = Sender(
        app.state.database, Vault(settings.vault_keys), app.state.rails, settings.functions_url
    )
    return app


@router.post(
    "/",
    status_code=201,
    responses=answers(
        models.Refund, 400, 401, 403, 404, 409, 422, 429, 503, status=201, example=models.CREATED
    )
    | answers(models.Refund, status=202, example=models.WAITING),
)
async def create_refund(
    body: models.CreateRefund, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Give a payment back, or part of it. 202: a second person must approve it first."""
    amount = Money.parse(body.amount, body.currency) if body.amount and body.currency else None
    db: Database = request.app.state.database
    begun = await db.call(
        "payments.begin_refund",
        {
            "idempotency_key": key,
            "body_hash": body_hash(body),
            "payment_intent_id": body.payment_intent,
            "transfer_id": body.transfer,
            "amount_minor": amount.minor if amount else None,
            "currency": body.currency,
            "reason": body.reason,
            "method": body.method,
            "metadata": body.metadata,
        },
        caller,
    )
    sender: Sender = request.app.state.sender
    return (await sender.send(begun, key, caller)).response()


@router.get("/", responses=answers(models.RefundPage, 400, 401, 403, 422, 429, 503))
async def list_refunds(
    filters: Annotated[models.RefundFilters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List refunds, newest first, page by page."""
    db: Database = request.app.state.database
    return (await db.answer("payments.list_transfers", filters.arguments(), caller)).response()


@router.get(
    "/{refund_id}",
    responses=answers(models.Refund, 401, 403, 404, 429, 503, example=models.SUCCEEDED),
)
async def get_refund(refund_id: RefundId, caller: ApiCaller, request: Request) -> Response:
    """Read one refund."""
    db: Database = request.app.state.database
    return (await db.answer("payments.get_refund", {"transfer_id": refund_id}, caller)).response()


@router.post(
    "/{refund_id}/approve",
    responses=answers(models.Refund, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def approve_refund(
    refund_id: RefundId,
    body: models.Decide,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Send a refund that somebody else asked for. Audited with the reason."""
    decision = Decision(refund_id, "refund", "approve", body.reason, body_hash(body))
    state = request.app.state
    return (await decide(state.database, state.sender, decision, key, caller)).response()


@router.post(
    "/{refund_id}/reject",
    responses=answers(
        models.Refund, 400, 401, 403, 404, 409, 422, 429, 503, example=models.REJECTED
    ),
)
async def reject_refund(
    refund_id: RefundId,
    body: models.Decide,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Say no to a refund that somebody else asked for. Audited with the reason."""
    decision = Decision(refund_id, "refund", "reject", body.reason, body_hash(body))
    state = request.app.state
    return (await decide(state.database, state.sender, decision, key, caller)).response()
