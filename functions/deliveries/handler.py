"""Serves /deliveries: events that have not reached a destination, and what people decide."""

from typing import Annotated, Literal

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.deliveries.models import Decision, Deliveries, Delivery, Destinations
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import UserCaller
from shared.http.problem import answers
from shared.http.routes import Router

router = Router("deliveries")

DeliveryId = Annotated[int, Path(ge=1, lt=2**63, description="The delivery's id.", examples=[4711])]


def create(settings: Settings) -> FastAPI:
    """Build the app."""
    app = create_app(
        settings,
        router,
        title="Deliveries",
        description="Events on their way to the ledger, to webhooks and to everybody else.",
    )
    app.state.database = Database(settings)
    return app


@router.get("/", responses=answers(Deliveries, 400, 401, 403, 429, 503))
async def list_deliveries(
    caller: UserCaller,
    request: Request,
    destination: Annotated[
        str | None,
        Query(
            pattern="^[a-z][a-z0-9_]{0,62}$",
            description="Only those to this destination.",
            examples=["ledger"],
        ),
    ] = None,
    state: Annotated[
        Literal["retry", "waiting", "leased", "dead"] | None,
        Query(description="Only those in this state.", examples=["dead"]),
    ] = None,
    older_than_s: Annotated[
        int, Query(ge=0, le=10**8, description="Only those whose event is so many seconds old.")
    ] = 0,
    after: Annotated[
        int, Query(ge=0, lt=2**63, description="Only those with a greater id: the last of a page.")
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=100, description="How many a page holds.")] = 20,
) -> Response:
    """List deliveries that failed or wait, oldest first: your own, or all of them for operators."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "payments.list_deliveries",
            {
                "destination": destination,
                "state": state,
                "older_than_s": older_than_s,
                "after_id": after,
                "page_size": limit,
            },
            caller,
        )
    ).response()


@router.get("/destinations", responses=answers(Destinations, 401, 403, 429, 503))
async def list_destinations(caller: UserCaller, request: Request) -> Response:
    """List who hears of events and how far behind each is. For operators of the platform."""
    db: Database = request.app.state.database
    return (await db.answer("payments.list_destinations", {}, caller)).response()


@router.get("/{delivery_id}", responses=answers(Delivery, 400, 401, 403, 404, 429, 503))
async def get_delivery(delivery_id: DeliveryId, caller: UserCaller, request: Request) -> Response:
    """Show where one delivery stands."""
    db: Database = request.app.state.database
    return (await db.answer("payments.get_delivery", {"outbox_id": delivery_id}, caller)).response()


@router.post(
    "/{delivery_id}/redrive", responses=answers(Delivery, 400, 401, 403, 404, 409, 429, 503)
)
async def redrive_delivery(
    delivery_id: DeliveryId, body: Decision, caller: UserCaller, request: Request
) -> Response:
    """Try a failing or dead delivery again, now and from its first attempt; audited."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "payments.redrive_delivery",
            {"outbox_id": delivery_id, "reason": body.reason},
            caller,
        )
    ).response()


@router.post("/{delivery_id}/skip", responses=answers(Delivery, 400, 401, 403, 404, 409, 429, 503))
async def skip_delivery(
    delivery_id: DeliveryId, body: Decision, caller: UserCaller, request: Request
) -> Response:
    """Give a failing or dead delivery up; what waits behind it goes on. Audited with the reason."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "payments.skip_delivery",
            {"outbox_id": delivery_id, "reason": body.reason},
            caller,
        )
    ).response()
