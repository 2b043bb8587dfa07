"""Reports that change nothing: X, periods, articles, and the rows of a declaration."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import Query, Request
from fastapi.responses import Response

from functions.reports import day_models, models, tables
from functions.reports.files import as_csv, file_answers, written
from functions.reports.pages import pages, streamed
from shared.db import Database
from shared.http.caller import ApiCaller
from shared.http.problem import answers, problem_responses
from shared.http.routes import Router

router = Router("reports")

_CSV: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The file.",
        "content": {
            "text/csv": {
                "schema": {"type": "string"},
                "example": ",".join(tables.DECLARED) + "\r\n",
            }
        },
    }
}


@router.get(
    "/x",
    responses=file_answers(answers(day_models.XReport, 400, 401, 403, 404, 422, 429, 500, 503)),
)
async def get_x_report(
    asked: Annotated[day_models.AskedX, Query()], caller: ApiCaller, request: Request
) -> Response:
    """Read the business day so far, of one cashier or terminal if asked. Nothing is closed."""
    db: Database = request.app.state.database
    answer = await db.answer("fiscal.x_report", asked.arguments(), caller, idempotent=True)
    return written(answer, asked.format_, "X")


@router.get(
    "/periodic",
    responses=file_answers(
        answers(models.PeriodicReport, 400, 401, 403, 404, 409, 422, 429, 500, 503)
    ),
)
async def get_periodic_report(
    asked: Annotated[models.AskedPeriod, Query()], caller: ApiCaller, request: Request
) -> Response:
    """Read the sum of the Z reports of a week, month, quarter, year, or of any days.

    `tax_return` has what a tax return asks for, in its currency: by group and by treatment.
    """
    db: Database = request.app.state.database
    first, last = asked.days()
    arguments = {
        "outlet_id": asked.outlet_id,
        "first_date": first.isoformat(),
        "last_date": last.isoformat(),
    }
    answer = await db.answer("fiscal.periodic_report", arguments, caller, idempotent=True)
    return written(answer, asked.format_, f"periodic-{first}-{last}")


@router.get(
    "/articles",
    responses=file_answers(
        answers(models.ArticlePage, 400, 401, 403, 404, 422, 429, 500, 503), pdf=False
    ),
)
async def list_articles(
    asked: Annotated[models.AskedArticles, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List what was sold, a row for each line of each document. JSON page by page, CSV whole."""
    db: Database = request.app.state.database
    if asked.format_ == "json":
        page = {"page_size": asked.limit, "page_after": asked.cursor}
        return (
            await db.answer(
                "fiscal.list_articles", asked.arguments() | page, caller, idempotent=True
            )
        ).response()

    async def file() -> AsyncIterator[bytes]:
        head: tables.Row | None = tables.ARTICLES
        async for page in pages(db, "fiscal.list_articles", asked.arguments(), caller):
            yield as_csv(head, map(tables.article, page["data"]))
            head = None

    return await streamed(file(), f"articles-{asked.first}-{asked.last}.csv", "text/csv")


@router.get(
    "/declaration",
    response_class=Response,
    responses=_CSV | problem_responses(400, 401, 403, 404, 409, 422, 429, 500, 503),
)
async def get_declaration(
    asked: Annotated[models.AskedDays, Query()], caller: ApiCaller, request: Request
) -> Response:
    """Download what a tax authority is told by hand: a row per document, CSV.

    Number, buyer, totals, base and tax of each tax group, security elements. Credits are negative.
    """
    db: Database = request.app.state.database

    async def file() -> AsyncIterator[bytes]:
        head: tables.Row | None = None
        async for page in pages(db, "fiscal.list_declared", asked.arguments(), caller):
            groups = tables.groups_of(page["jurisdiction"])
            rows = (tables.declared(document, groups) for document in page["data"])
            first = tables.declared_head(groups) if head is None else None
            yield as_csv(first, rows)
            head = first or head

    return await streamed(file(), f"declaration-{asked.first}-{asked.last}.csv", "text/csv")
