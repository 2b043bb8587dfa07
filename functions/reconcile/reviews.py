"""What waits for a person: parked callbacks, transfers in review, and the decision on one."""

from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.responses import Response

from functions.reconcile.models import (
    Accept,
    Accepted,
    Decision,
    ParkedCallbacks,
    Resolved,
    Reviews,
)
from shared.db import Database
from shared.http.caller import UserCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern
from shared.money import Money

router = Router("reviews")

TransferId = Annotated[
    str,
    Path(
        pattern=pattern("tr"),
        description="The transfer's id, as in latest_transfer of its intent.",
        examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx"],
    ),
]


@router.get("/parked", responses=answers(ParkedCallbacks, 400, 401, 403, 429, 503))
async def list_parked_callbacks(
    caller: UserCaller,
    request: Request,
    before: Annotated[
        int,
        Query(ge=1, lt=2**63, description="Only callbacks with a smaller id: the last of a page."),
    ] = 2**62,
    limit: Annotated[int, Query(ge=1, le=100, description="How many callbacks a page holds.")] = 20,
) -> Response:
    """List callbacks that wait for a person, newest first."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "rails.list_parked_callbacks", {"before_id": before, "page_size": limit}, caller
        )
    ).response()


@router.post(
    "/parked/{callback_id}/accept",
    responses=answers(Accepted, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def accept_parked_deposit(
    callback_id: Annotated[
        int, Path(ge=1, lt=2**63, description="The parked callback's id.", examples=[4711])
    ],
    body: Accept,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Believe a deposit that came from an address which is not listed; audited with the reason."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "rails.accept_deposit",
            {
                "callback_id": callback_id,
                "idempotency_key": key,
                "body_hash": body_hash(body),
                "reason": body.reason,
            },
            caller,
        )
    ).response()


@router.get("/reviews", responses=answers(Reviews, 400, 401, 403, 429, 503))
async def list_reviews(
    caller: UserCaller,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100, description="How many transfers to show.")] = 50,
) -> Response:
    """List transfers that wait for a person, longest first."""
    db: Database = request.app.state.database
    return (await db.answer("rails.list_reviews", {"page_size": limit}, caller)).response()


@router.post(
    "/reviews/{transfer_id}/resolve",
    responses=answers(Resolved, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def resolve_review(
    transfer_id: TransferId,
    body: Decision,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Decide what became of a transfer that no rail answers for; audited with the reason."""
    db: Database = request.app.state.database
    amount = Money.parse(body.amount, body.currency) if body.amount and body.currency else None
    return (
        await db.answer(
            "rails.resolve_review",
            {
                "transfer_id": transfer_id,
                "idempotency_key": key,
                "body_hash": body_hash(body),
                "outcome": body.outcome,
                "receipt": body.receipt,
                "reason": body.reason,
                "amount_minor": amount.minor if amount else None,
                "currency": body.currency,
            },
            caller,
        )
    ).response()
