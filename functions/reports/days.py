"""Business days: closing them, and the Z reports of those that are closed."""

import json
from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.responses import Response

from functions.reports import day_models
from functions.reports.files import FileFormat, file_answers, written
from shared.db import Database
from shared.http.caller import ApiCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern

router = Router("Z reports")

ReportId = Annotated[
    str, Path(pattern=pattern("rep"), description="The report.", examples=[day_models.REPORT_ID])
]


@router.post(
    "/",
    status_code=201,
    responses=answers(day_models.ZReport, 400, 401, 403, 404, 409, 422, 429, 500, 503, status=201),
)
async def close_day(
    body: day_models.CloseDay, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Close the business day an outlet is in. Documents sealed from now on belong to the next.

    Days that nobody closes are closed by themselves at the outlet's cut-off hour.
    """
    db: Database = request.app.state.database
    arguments = {
        "idempotency_key": key,
        "body_hash": body_hash(body),
        **body.model_dump(mode="json", include={"outlet_id", "business_date"}),
    }
    return (await db.answer("fiscal.close_business_day", arguments, caller)).response()


@router.get("/", responses=answers(day_models.ZReportPage, 400, 401, 403, 422, 429, 503))
async def list_reports(
    filters: Annotated[day_models.ReportFilters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List Z reports, newest first, page by page."""
    db: Database = request.app.state.database
    return (
        await db.answer("fiscal.list_reports", filters.arguments(), caller, idempotent=True)
    ).response()


@router.get("/{report_id}", responses=answers(day_models.ZReport, 400, 401, 403, 404, 429, 503))
async def get_report(report_id: ReportId, caller: ApiCaller, request: Request) -> Response:
    """Read one Z report and its seal."""
    db: Database = request.app.state.database
    return (
        await db.answer("fiscal.get_report", {"report_id": report_id}, caller, idempotent=True)
    ).response()


@router.get(
    "/{report_id}/download",
    responses=file_answers(answers(day_models.ZReport, 400, 401, 403, 404, 429, 503)),
)
async def download_report(
    report_id: ReportId,
    caller: ApiCaller,
    request: Request,
    format_: Annotated[
        FileFormat, Query(alias="format", description="What the file is.", examples=["pdf"])
    ] = FileFormat.JSON,
) -> Response:
    """Download one Z report as a file. The same report gives the same bytes once it is signed."""
    db: Database = request.app.state.database
    answer = await db.answer("fiscal.get_report", {"report_id": report_id}, caller, idempotent=True)
    number = json.loads(answer.body)["fiscal_number"]
    response = written(answer, format_, number, member="report")
    response.headers["Content-Disposition"] = f'attachment; filename="{number}.{format_}"'
    return response
