"""Serves /payment-intents: create, read, list, change, confirm, cancel, ask the rail, watch."""

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.payment_intents import examples, models
from functions.payment_intents.collecting import Collector
from functions.payment_intents.filters import METADATA_FILTER, ListFilters
from functions.payment_intents.streams import (
    LAST_EVENT_ID,
    Streams,
    stream_response,
    wants_stream,
)
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, PayerCaller, StreamCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern
from shared.money import Money
from shared.rails.registry import Rails
from shared.vault import Vault

router = Router("payment intents")

IntentId = Annotated[
    str,
    Path(
        pattern=pattern("pi"),
        description="The payment intent's id.",
        examples=[examples.INTENT_ID],
    ),
]
_TIMELINE = answers(models.Timeline, 400, 401, 403, 404, 429, 503)
_TIMELINE[200]["content"] = {
    "text/event-stream": {"schema": {"type": "string"}, "example": examples.STREAM}
}
_TIMELINE[204] = {
    "description": "A stream that would hold nothing: the intent is over, all of it was seen."
}


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Payment intents",
        description="What a merchant wants to collect, and how far that got.",
    )
    db, vault = Database(settings), Vault(settings.vault_keys)
    app.state.database, app.state.rails = db, Rails(settings)
    app.state.collector = Collector(db, vault, app.state.rails, settings.functions_url)
    app.state.streams = Streams(db)
    return app


@router.post(
    "/",
    status_code=201,
    responses=answers(models.PaymentIntent, 400, 401, 403, 409, 422, 429, 503, status=201),
)
async def create_payment_intent(
    body: models.CreatePaymentIntent, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Create what is to be collected; nothing is asked of the payer yet."""
    amount = Money.parse(body.amount, body.currency)
    collector: Collector = request.app.state.collector
    return (await collector.create(body, amount, key, body_hash(body), caller)).response()


@router.get(
    "/",
    responses=answers(models.PaymentIntentPage, 400, 401, 403, 422, 429, 503),
    openapi_extra={"parameters": [METADATA_FILTER]},
)
async def list_payment_intents(
    filters: ListFilters, caller: ApiCaller, request: Request
) -> Response:
    """List intents, newest first, page by page."""
    db: Database = request.app.state.database
    return (await db.answer("payments.list_intents", filters.arguments(), caller)).response()


@router.get(
    "/{payment_intent_id}",
    responses=answers(models.PaymentIntent, 401, 403, 404, 429, 503, example=examples.SUCCEEDED),
)
async def get_payment_intent(
    payment_intent_id: IntentId, caller: PayerCaller, request: Request
) -> Response:
    """Read one intent."""
    db: Database = request.app.state.database
    return (
        await db.answer("payments.get_intent", {"payment_intent_id": payment_intent_id}, caller)
    ).response()


@router.patch(
    "/{payment_intent_id}",
    responses=answers(models.PaymentIntent, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def update_payment_intent(
    payment_intent_id: IntentId,
    body: models.UpdatePaymentIntent,
    caller: ApiCaller,
    request: Request,
) -> Response:
    """Change description or metadata before the first attempt."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "payments.update_intent",
            {
                "payment_intent_id": payment_intent_id,
                "patch": body.model_dump(exclude_unset=True),
            },
            caller,
        )
    ).response()


@router.post(
    "/{payment_intent_id}/confirm",
    responses=answers(
        models.PaymentIntent, 400, 401, 403, 404, 409, 422, 429, 503, example=examples.PROCESSING
    ),
)
async def confirm_payment_intent(
    payment_intent_id: IntentId,
    body: models.ConfirmPaymentIntent,
    key: IdempotencyKey,
    caller: PayerCaller,
    request: Request,
) -> Response:
    """Ask the payer: a prompt appears on the phone. Silence of the rail leaves it `processing`."""
    collector: Collector = request.app.state.collector
    return (
        await collector.confirm(
            payment_intent_id, body.payment_method, key, body_hash(body), caller
        )
    ).response()


@router.post(
    "/{payment_intent_id}/cancel",
    responses=answers(
        models.PaymentIntent, 400, 401, 403, 404, 409, 422, 429, 503, example=examples.CANCELED
    ),
)
async def cancel_payment_intent(
    payment_intent_id: IntentId,
    key: IdempotencyKey,
    caller: ApiCaller,
    request: Request,
    body: models.CancelPaymentIntent | None = None,
) -> Response:
    """Cancel, unless a rail is working on it."""
    body = body or models.CancelPaymentIntent()
    db: Database = request.app.state.database
    return (
        await db.answer(
            "payments.cancel_intent",
            {
                "payment_intent_id": payment_intent_id,
                "idempotency_key": key,
                "body_hash": body_hash(body),
                "reason": body.reason,
            },
            caller,
        )
    ).response()


@router.post(
    "/{payment_intent_id}/reconcile",
    responses=answers(models.PaymentIntent, 401, 403, 404, 429, 503, example=examples.SUCCEEDED),
)
async def reconcile_payment_intent(
    payment_intent_id: IntentId, caller: ApiCaller, request: Request
) -> Response:
    """Ask the rail about the running attempt now; really asked at most once in 5 seconds."""
    collector: Collector = request.app.state.collector
    return (await collector.reconcile(payment_intent_id, caller)).response()


@router.post(
    "/{payment_intent_id}/stream-token",
    status_code=201,
    responses=answers(models.StreamToken, 401, 403, 404, 429, 503, status=201),
)
async def create_stream_token(
    payment_intent_id: IntentId, caller: PayerCaller, request: Request
) -> Response:
    """Exchange a credential for a token that opens the event stream, once, within 60 s."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "payments.issue_stream_token", {"payment_intent_id": payment_intent_id}, caller
        )
    ).response()


@router.get(
    "/{payment_intent_id}/events",
    responses=_TIMELINE,
    openapi_extra={"parameters": [LAST_EVENT_ID]},
)
async def list_payment_intent_events(
    payment_intent_id: IntentId,
    caller: StreamCaller,
    request: Request,
    token: Annotated[
        str | None, Query(description="A stream token, in place of any other credential.")
    ] = None,
    after: Annotated[
        int,
        Query(ge=0, lt=10**18, description="Only events with a greater `position` than this."),
    ] = 0,
) -> Response:
    """The timeline as JSON; with `Accept: text/event-stream`, status changes as they happen."""
    if wants_stream(request):
        return await stream_response(request, payment_intent_id, caller, token, after)
    db: Database = request.app.state.database
    return (
        await db.answer(
            "payments.list_intent_events",
            {
                "payment_intent_id": payment_intent_id,
                "after_position": after,
            },
            caller,
        )
    ).response()
