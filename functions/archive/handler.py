"""Serves /archive: keeps sealed documents where nobody can take them away."""

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.archive.archiving import Archive
from functions.archive.models import Archived, Manifests, Page
from shared import log
from shared.config import Settings
from shared.db import Database
from shared.errors import DependencyUnavailable
from shared.http.app import create_app
from shared.http.caller import ApiCaller, InternalCaller, StaffCaller, background_caller
from shared.http.drain import Drain
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern
from shared.objects import Objects, Place

router = Router("archive")

OutletId = Annotated[
    str,
    Path(
        pattern=pattern("out"),
        description="The outlet.",
        examples=["out_01kaj3vq1nfr5r3e2n9v4d8yzx"],
    ),
]


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first poke."""
    app = create_app(
        settings,
        router,
        title="Archive",
        description="Sealed documents and what proves them, kept for as long as the law wants.",
    )
    database = Database(settings)
    archive = Archive(database, Objects(place_of(settings))) if settings.oss_bucket else None

    async def step() -> int:
        if archive is None:
            log.warning("archive_not_configured")
            return 0
        return await archive.keep_days(background_caller())

    app.state.database, app.state.archive, app.state.drain = database, archive, Drain(step)
    return app


def place_of(settings: Settings) -> Place:
    """The bucket of these settings."""
    return Place(
        settings.oss_endpoint,
        settings.oss_region,
        settings.oss_bucket,
        settings.oss_access_key_id.get_secret_value(),
        settings.oss_access_key_secret.get_secret_value(),
    )


@router.post("/", responses=answers(Archived, 401, 503))
async def archive_days(_caller: InternalCaller, request: Request) -> Archived:
    """Archive the days that are over and keep the manifests that are signed. Repeatable."""
    drain: Drain = request.app.state.drain
    return Archived(done=await drain.poke())


@router.post("/outlets/{outlet_id}", responses=answers(Archived, 401, 403, 404, 503))
async def archive_outlet(outlet_id: OutletId, caller: StaffCaller, request: Request) -> Archived:
    """Archive one outlet now, for an operator: all that has its signatures, today's too."""
    archive: Archive | None = request.app.state.archive
    database: Database = request.app.state.database
    await database.call("fiscal.ask_for_archive", {"outlet_id": outlet_id}, caller)
    if archive is None:
        raise DependencyUnavailable("no bucket is configured")
    return Archived(done=await archive.keep_outlet(outlet_id, background_caller()))


@router.get("/outlets/{outlet_id}", responses=answers(Manifests, 400, 401, 403, 404, 422, 429, 503))
async def list_archived(
    outlet_id: OutletId, page: Annotated[Page, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List what of an outlet is archived, newest first."""
    database: Database = request.app.state.database
    arguments = {
        "outlet_id": outlet_id,
        "page_size": page.limit,
        "page_after": int(page.cursor) if page.cursor else None,
    }
    return (
        await database.answer("fiscal.list_archive", arguments, caller, idempotent=True)
    ).response()
