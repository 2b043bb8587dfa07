"""Serves /ledger: books events when poked; shows balances, journals, statements and the proof."""

from fastapi import FastAPI, Request
from fastapi.responses import Response

from functions.ledger import adjusting, models
from functions.ledger.booking import Booker
from functions.ledger.filters import (
    BalanceFilters,
    JournalFilters,
    JournalId,
    ProofRange,
    StatementDays,
)
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, InternalCaller
from shared.http.drain import Drain
from shared.http.problem import answers
from shared.http.routes import Router

router = Router("ledger")

_STATEMENT = answers(models.Statement, 400, 401, 403, 404, 422, 429, 503)
_STATEMENT[200]["content"] = {
    "text/csv; charset=utf-8": {"schema": {"type": "string"}, "example": "number,journal_id\n"},
    "text/plain; charset=utf-8": {"schema": {"type": "string"}, "example": "01,STALELA,/\n"},
}
router.add(adjusting.router)


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Ledger",
        description="The double-entry books: what was booked, what it comes to, and the proof.",
        # pg_net calls from one address.
        limit_addresses=False,
    )
    app.state.database = Database(settings)
    app.state.booker = Booker(app.state.database)
    app.state.drain = Drain(app.state.booker.step)
    return app


@router.post("/", responses=answers(models.Booked, 401, 503))
async def book_events(caller: InternalCaller, request: Request) -> models.Booked:
    """Book every event that is due. Answers within a second; what takes longer goes on."""
    booker: Booker = request.app.state.booker
    drain: Drain = request.app.state.drain
    booker.caller = caller
    return models.Booked(taken=await drain.poke())


@router.get("/balances", responses=answers(models.Balances, 400, 401, 403, 429, 503))
async def list_balances(filters: BalanceFilters, caller: ApiCaller, request: Request) -> Response:
    """What each account holds, on its normal side."""
    db: Database = request.app.state.database
    return (await db.answer("ledger.list_balances", filters.arguments(), caller)).response()


@router.get("/accounts", responses=answers(models.Accounts, 400, 401, 403, 429, 503))
async def list_accounts(caller: ApiCaller, request: Request) -> Response:
    """The accounts of these books; they are opened when something is first booked on them."""
    db: Database = request.app.state.database
    return (await db.answer("ledger.list_accounts", {}, caller)).response()


@router.get("/journals", responses=answers(models.JournalPage, 400, 401, 403, 429, 503))
async def list_journals(filters: JournalFilters, caller: ApiCaller, request: Request) -> Response:
    """What was booked, newest first."""
    db: Database = request.app.state.database
    return (await db.answer("ledger.list_journals", filters.arguments(), caller)).response()


@router.get("/journals/{id}", responses=answers(models.Journal, 400, 401, 403, 404, 429, 503))
async def get_journal(id: JournalId, caller: ApiCaller, request: Request) -> Response:  # noqa: A002
    """One journal with its entries."""
    db: Database = request.app.state.database
    return (await db.answer("ledger.get_journal", {"journal_id": id}, caller)).response()


@router.get(
    "/statements",
    responses=_STATEMENT,
)
async def get_statement(days: StatementDays, caller: ApiCaller, request: Request) -> Response:
    """An account over days (UTC) that are over: the same days, the same bytes."""
    db: Database = request.app.state.database
    return (await db.answer("ledger.statement", days.arguments(), caller)).response()


@router.get("/proof", responses=answers(models.Proof, 400, 401, 403, 422, 429, 503))
async def prove_journals(numbers: ProofRange, caller: ApiCaller, request: Request) -> Response:
    """Journals with their hashes; `scripts/verify-ledger` computes each again from this alone."""
    db: Database = request.app.state.database
    return (await db.answer("ledger.prove", numbers.arguments(), caller)).response()


@router.get("/tariffs", responses=answers(models.Tariffs, 400, 401, 403, 429, 503))
async def list_tariffs(caller: ApiCaller, request: Request) -> Response:
    """What we charge; the more particular row wins."""
    db: Database = request.app.state.database
    return (await db.answer("ledger.list_tariffs", {}, caller)).response()
