"""Serves /events: what webhooks say, for those who ask; and the schemas of it."""

from functools import cache
from pathlib import Path as File
from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.events import models
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern

router = Router("events")

_CATALOGUE = answers(models.Catalogue)
_CATALOGUE[200]["content"] = {
    "application/schema+json": {
        "schema": {"type": "object"},
        "example": {"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": {}},
    }
}

EventId = Annotated[
    str,
    Path(
        pattern=pattern("evt"),
        description="The event's id, as in the header `webhook-id`.",
        examples=[models.EVENT_ID],
    ),
]


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Events",
        description="Everything that happened, in the bytes of its webhook, for those who ask.",
    )
    app.state.database = Database(settings)
    return app


@router.get("/", responses=answers(models.Events, 400, 401, 403, 422, 429, 503))
async def list_events(
    page: Annotated[models.Page, Query()], caller: ApiCaller, request: Request
) -> Response:
    """Events after the one named, oldest first. Going on from the last one misses none."""
    db: Database = request.app.state.database
    arguments = {"after_event": page.after, "types": page.type, "page_size": page.limit}
    return (await db.answer("webhooks.list_events", arguments, caller, idempotent=True)).response()


@router.get("/events.json", responses=_CATALOGUE)
async def get_event_schemas() -> Response:
    """The JSON Schema of every event, by type and version."""
    return Response(_catalogue(), media_type="application/schema+json")


@router.get("/{event_id}", responses=answers(models.Event, 400, 401, 403, 404, 429, 503))
async def get_event(event_id: EventId, caller: ApiCaller, request: Request) -> Response:
    """One event, byte for byte as its webhook."""
    db: Database = request.app.state.database
    arguments = {"event_id": event_id}
    return (await db.answer("webhooks.get_event", arguments, caller, idempotent=True)).response()


@cache
def _catalogue() -> bytes:
    return File(__file__).with_name("events.json").read_bytes()
