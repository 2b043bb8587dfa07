"""Sessions and their reports."""

import json
from datetime import date
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Path, Query, Request
from fastapi.responses import Response
from pydantic import AfterValidator, StringConstraints

from functions.recon import models
from functions.recon.report import as_csv
from shared.db import Database
from shared.http.caller import ApiCaller
from shared.http.instants import Day
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern

router = Router("reconciliation sessions")

SessionId = Annotated[
    str,
    Path(
        pattern=pattern("rs"),
        description="The session's id.",
        examples=[models.SESSION_ID],
    ),
]
RailFilter = Annotated[
    str | None,
    Query(pattern=r"^[a-z][a-z0-9_]{0,30}$", description="Only this rail.", examples=["mpesa"]),
]
PageSize = Annotated[int, Query(ge=1, le=100, description="How many a page holds.")]


def _dated(cursor: str) -> str:
    """Give `cursor` back. ValueError when its day is not in the calendar."""
    date.fromisoformat(cursor[:10])
    return cursor


DatedCursor = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\.rs_[0-9a-z]{26}$"),
    AfterValidator(_dated),
]


class ReportFormat(StrEnum):
    """What a report is written in."""

    JSON = "json"
    CSV = "csv"
    PDF = "pdf"


_REPORT = answers(models.Report, 400, 401, 403, 404, 429, 503)
_REPORT[200]["content"] = {
    "text/csv": {"schema": {"type": "string"}, "example": "section,name,value\r\n"},
    "application/pdf": {"schema": {"type": "string", "format": "binary"}, "example": "%PDF-1.3"},
}


@router.get("/sessions", responses=answers(models.Sessions, 400, 401, 403, 422, 429, 503))
async def list_recon_sessions(
    caller: ApiCaller,
    request: Request,
    rail: RailFilter = None,
    status: Annotated[
        models.SessionStatus | None, Query(description="Only sessions in this state.")
    ] = None,
    first: Annotated[
        Day | None,
        Query(alias="from", description="Not before this day.", examples=["2026-11-01"]),
    ] = None,
    last: Annotated[
        Day | None, Query(alias="to", description="Not after this day.", examples=["2026-11-30"])
    ] = None,
    limit: PageSize = 20,
    cursor: Annotated[
        DatedCursor | None, Query(description="`next_cursor` of the page before.")
    ] = None,
) -> Response:
    """List sessions, latest day first, page by page."""
    filters = {
        "rail": rail,
        "status": status,
        "from": first.isoformat() if first else None,
        "to": last.isoformat() if last else None,
    }
    return await page(request, caller, "recon.list_sessions", filters, limit, cursor)


@router.get(
    "/sessions/{session_id}",
    responses=answers(models.Session, 400, 401, 403, 404, 429, 503),
)
async def get_recon_session(session_id: SessionId, caller: ApiCaller, request: Request) -> Response:
    """Read one session with its figures."""
    db: Database = request.app.state.database
    return (
        await db.answer("recon.get_session", {"session_id": session_id}, caller, idempotent=True)
    ).response()


@router.get("/sessions/{session_id}/report", responses=_REPORT)
async def get_recon_report(
    session_id: SessionId,
    caller: ApiCaller,
    request: Request,
    format_: Annotated[
        ReportFormat, Query(alias="format", description="What the report is written in.")
    ] = ReportFormat.JSON,
) -> Response:
    """Read a session's report: figures, statements, what each rule matched, every exception."""
    db: Database = request.app.state.database
    answer = await db.answer(
        "recon.session_report", {"session_id": session_id}, caller, idempotent=True
    )
    if format_ is ReportFormat.JSON:
        return answer.response()
    report = json.loads(answer.body)
    content, media_type = _written(report, format_)
    name = f"recon-{report['session']['rail']}-{report['session']['business_date']}.{format_}"
    headers = {str(key): str(value) for key, value in answer.headers.items()}
    headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return Response(content, 200, headers, media_type)


def _written(report: dict[str, Any], format_: ReportFormat) -> tuple[bytes, str]:
    if format_ is ReportFormat.CSV:
        return as_csv(report).encode(), "text/csv"
    from functions.recon.pdf import as_pdf  # fonts and images that only a reader of PDF should pay

    return as_pdf(report), "application/pdf"


async def page(
    request: Request,
    caller: ApiCaller,
    function: str,
    filters: dict[str, str | None],
    limit: int,
    cursor: str | None,
) -> Response:
    """One page of a list."""
    db: Database = request.app.state.database
    arguments = {
        "filters": {name: value for name, value in filters.items() if value is not None},
        "page_size": limit,
        "page_after": cursor,
    }
    return (await db.answer(function, arguments, caller, idempotent=True)).response()
