"""What people do to the books: adjustments under four eyes, and the end of a month."""

from typing import Annotated, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response

from functions.ledger import models
from shared.db import Database
from shared.http.caller import ApiCaller, Caller, UserCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern

router = Router("adjustments")

ManualJournalId = Annotated[
    str,
    Path(
        pattern=pattern("mj"),
        description="The manual journal's id.",
        examples=["mj_01kaj40m3cejt8w1f5k9d6b2zr"],
    ),
]
PeriodId = Annotated[
    str,
    Path(
        pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$",
        description="A month (UTC).",
        examples=["2026-10"],
    ),
]
Status = Annotated[
    Literal["pending", "posted", "rejected"] | None, Query(description="Only of this status.")
]


@router.get("/manual-journals", responses=answers(models.ManualJournals, 400, 401, 403, 429, 503))
async def list_manual_journals(
    caller: ApiCaller, request: Request, status: Status = None
) -> Response:
    """The newest hundred adjustments."""
    db: Database = request.app.state.database
    filters = {} if status is None else {"status": status}
    return (await db.answer("ledger.list_manual_journals", {"filters": filters}, caller)).response()


@router.post(
    "/manual-journals",
    status_code=201,
    responses=answers(models.ManualJournal, 400, 401, 403, 409, 422, 429, 503, status=201),
)
async def create_manual_journal(
    body: models.CreateManualJournal, key: IdempotencyKey, caller: UserCaller, request: Request
) -> Response:
    """Write an adjustment. Another person posts it."""
    db: Database = request.app.state.database
    arguments = {
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "memo": body.memo,
        "occurred_at": body.occurred_at.isoformat() if body.occurred_at else None,
        "lines": body.minor_lines(),
    }
    return (await db.answer("ledger.create_manual_journal", arguments, caller)).response()


@router.post(
    "/manual-journals/{id}/approve",
    responses=answers(models.ManualJournal, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def approve_manual_journal(
    id: ManualJournalId,  # noqa: A002
    body: models.Reason,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Post an adjustment that somebody else wrote."""
    return await _decide(request, caller, id, "approve", body, key)


@router.post(
    "/manual-journals/{id}/reject",
    responses=answers(models.ManualJournal, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def reject_manual_journal(
    id: ManualJournalId,  # noqa: A002
    body: models.Reason,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """End an adjustment that somebody else wrote; nothing is booked."""
    return await _decide(request, caller, id, "reject", body, key)


async def _decide(
    request: Request,
    caller: Caller,
    manual_journal_id: str,
    decision: str,
    body: models.Reason,
    key: str,
) -> Response:
    db: Database = request.app.state.database
    arguments = {
        "manual_journal_id": manual_journal_id,
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "decision": decision,
        "reason": body.reason,
    }
    return (await db.answer("ledger.decide_manual_journal", arguments, caller)).response()


@router.get("/periods", responses=answers(models.Periods, 400, 401, 403, 429, 503))
async def list_periods(caller: ApiCaller, request: Request) -> Response:
    """Months that are closing or closed, newest first; all others are open."""
    db: Database = request.app.state.database
    return (await db.answer("ledger.list_periods", {}, caller)).response()


@router.post(
    "/periods/{period}",
    responses=answers(models.Period, 400, 401, 403, 409, 422, 429, 503),
)
async def move_period(
    period: PeriodId,
    body: models.MovePeriod,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Move a month that is over: to `closing`, back to `open`, or from `closing` to `closed`."""
    db: Database = request.app.state.database
    arguments = {
        "period_id": period,
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "status": body.status,
    }
    return (await db.answer("ledger.move_period", arguments, caller)).response()
