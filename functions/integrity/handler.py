"""Serves /integrity: verifies that what was sealed is what is stored."""

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.integrity import models
from functions.integrity.walking import Walker
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, FunctionCaller, InternalCaller
from shared.http.drain import Drain
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern

router = Router("integrity")

FiscalNumber = Annotated[
    str,
    Path(
        pattern=r"^[A-Z0-9-]{1,64}$",
        description="The document's number.",
        examples=["STL-KIN001-000001"],
    ),
]
WalkId = Annotated[
    str, Path(pattern=pattern("walk"), description="The walk.", examples=[models.WALK])
]


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Integrity",
        description="Proof that documents are what was sealed: chains walked, days anchored.",
    )
    app.state.database = Database(settings)
    app.state.drain = Drain(Walker(app.state.database).walk_due)
    return app


@router.post("/", responses=answers(models.Drained, 401, 503))
async def drain_integrity(_caller: InternalCaller, request: Request) -> models.Drained:
    """Walk the chains that are due, until none is. Woken by cron; repeatable."""
    drain: Drain = request.app.state.drain
    return models.Drained(done=await drain.poke())


@router.post(
    "/walks",
    status_code=202,
    responses=answers(models.Walk, 400, 401, 403, 404, 422, 429, 503, status=202),
)
async def start_walk(body: models.WalkOrder, caller: ApiCaller, request: Request) -> Response:
    """Begin to verify the chain of an outlet; read the walk until it is sound or broken.

    One that is running already is the answer, whatever it checks.
    """
    database: Database = request.app.state.database
    return (await database.answer("fiscal.start_walk", body.model_dump(), caller)).response()


@router.get("/walks", responses=answers(models.WalkPage, 400, 401, 403, 422, 429, 503))
async def list_walks(
    filters: Annotated[models.WalkFilters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List verifications, newest first, page by page."""
    database: Database = request.app.state.database
    return (
        await database.answer("fiscal.list_walks", filters.arguments(), caller, idempotent=True)
    ).response()


@router.get("/walks/{walk_id}", responses=answers(models.Walk, 400, 401, 403, 404, 429, 503))
async def get_walk(walk_id: WalkId, caller: ApiCaller, request: Request) -> Response:
    """Read one verification: how far it is, and what it found."""
    database: Database = request.app.state.database
    return (
        await database.answer("fiscal.get_walk", {"walk_id": walk_id}, caller, idempotent=True)
    ).response()


@router.get("/anchors", responses=answers(models.AnchorPage, 400, 422, 429, 503))
async def list_anchors(
    filters: Annotated[models.AnchorFilters, Query()], caller: FunctionCaller, request: Request
) -> models.AnchorPage:
    """List what was published: each day one signed root over the heads of all chains of a place.

    Whoever keeps a root can prove that a day was rewritten later, whoever rewrote it.
    """
    database: Database = request.app.state.database
    page = await database.call("fiscal.list_anchors", filters.arguments(), caller, idempotent=True)
    return models.AnchorPage.model_validate(page)


@router.get(
    "/proofs/{fiscal_number}", responses=answers(models.Proof, 400, 401, 403, 404, 409, 429, 503)
)
async def get_proof(fiscal_number: FiscalNumber, caller: ApiCaller, request: Request) -> Response:
    """Prove that a document is under a published root; 409 while its day is not over."""
    database: Database = request.app.state.database
    arguments = {"fiscal_number": fiscal_number}
    return (
        await database.answer("fiscal.inclusion_proof", arguments, caller, idempotent=True)
    ).response()


@router.get("/conflicts", responses=answers(models.ConflictPage, 400, 401, 403, 422, 429, 503))
async def list_conflicts(
    filters: Annotated[models.ConflictFilters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List documents that came with a number another document has; that one is in the chain."""
    database: Database = request.app.state.database
    return (
        await database.answer("fiscal.list_conflicts", filters.arguments(), caller, idempotent=True)
    ).response()
