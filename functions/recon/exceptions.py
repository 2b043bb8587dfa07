"""The queue of exceptions, and what people decide about them."""

from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.responses import Response

from functions.recon import models
from functions.recon.sessions import PageSize, RailFilter, page
from shared.db import Database
from shared.http.caller import ApiCaller, UserCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern

router = Router("reconciliation exceptions")

ExceptionId = Annotated[
    str,
    Path(
        pattern=pattern("exc"),
        description="The exception's id.",
        examples=[models.EXCEPTION_ID],
    ),
]


@router.get("/exceptions", responses=answers(models.Exceptions, 400, 401, 403, 404, 422, 429, 503))
async def list_recon_exceptions(
    caller: ApiCaller,
    request: Request,
    status: Annotated[
        models.ExceptionStatus | None, Query(description="Only exceptions in this state.")
    ] = None,
    kind: Annotated[models.Kind | None, Query(description="Only this kind.")] = None,
    rail: RailFilter = None,
    session: Annotated[
        str | None,
        Query(
            pattern=pattern("rs"),
            description="Only the exceptions of this session's day.",
            examples=[models.SESSION_ID],
        ),
    ] = None,
    limit: PageSize = 20,
    cursor: Annotated[
        str | None,
        Query(pattern=pattern("exc"), description="`next_cursor` of the page before."),
    ] = None,
) -> Response:
    """List exceptions, oldest first, page by page."""
    filters = {"status": status, "kind": kind, "rail": rail, "session": session}
    return await page(request, caller, "recon.list_exceptions", filters, limit, cursor)


@router.post(
    "/exceptions/{exception_id}/resolve",
    responses=answers(models.ReconException, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def resolve_recon_exception(
    exception_id: ExceptionId,
    body: models.Resolve,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Decide about an exception. What writes money off waits for another person's approval."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "recon.resolve_exception",
            {
                "exception_id": exception_id,
                "idempotency_key": key,
                "body_hash": body_hash(body),
                "action": body.action,
                "transfer_id": body.transfer_id,
                "reference": body.reference,
                "reason": body.reason,
            },
            caller,
        )
    ).response()


@router.post(
    "/exceptions/{exception_id}/approve",
    responses=answers(models.ReconException, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def approve_recon_exception(
    exception_id: ExceptionId,
    body: models.Approve,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Approve or reject what another person proposed."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "recon.approve_exception",
            {
                "exception_id": exception_id,
                "idempotency_key": key,
                "body_hash": body_hash(body),
                "approve": body.approve,
                "reason": body.reason,
            },
            caller,
        )
    ).response()
