"""Serves /alerts: tells people what they must look at, lists it, and closes what is done."""

from typing import Annotated, Final

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.alerts.digests import Digests
from functions.alerts.models import (
    Alerts,
    Drained,
    Page,
    Reason,
    ResolvedAlert,
    ResolvedCallback,
)
from shared.config import Settings
from shared.db import Database
from shared.email import Mailer
from shared.http.app import create_app
from shared.http.caller import InternalCaller, UserCaller, background_caller
from shared.http.drain import Drain
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers, problem_responses
from shared.http.routes import Router
from shared.postman import Postman
from shared.vault import Vault

router = Router("alerts")

KINDS: Final = ("platform_alert", "tenant_alert")
_LARGEST: Final = 2**63
AlertId = Annotated[
    int, Path(ge=1, lt=_LARGEST, description="The alert's id, as in the list.", examples=[4711])
]
CallbackId = Annotated[
    int,
    Path(
        ge=1,
        lt=_LARGEST,
        description="The callback's id, as in the list of parked callbacks.",
        examples=[42],
    ),
]


def create(settings: Settings) -> FastAPI:
    """Build the app. Raises KeyMissing without a master key."""
    app = create_app(
        settings,
        router,
        title="Alerts",
        description="What people must look at: told by mail, listed, closed with a reason.",
    )
    database, vault, mailer = Database(settings), Vault(settings.vault_keys), Mailer(settings)
    digests = Digests(database, vault, settings.mail_from, settings.operator_email)
    postman = Postman(
        database,
        vault,
        mailer,
        kinds=KINDS,
        claim="messages.claim_messages",
        record="messages.record_sending",
    )

    async def step() -> int:
        caller = background_caller()
        return await digests.take(caller) + await postman.send_due(caller)

    app.state.database, app.state.mailer, app.state.drain = database, mailer, Drain(step)
    return app


@router.post("/", responses=problem_responses(401, 503))
async def tell_people(_caller: InternalCaller, request: Request) -> Drained:
    """Write to whoever must be told of an open alert, until everybody has been told."""
    drain: Drain = request.app.state.drain
    return Drained(done=await drain.poke())


@router.get("/", responses=answers(Alerts, 400, 401, 403, 422, 429, 503))
async def list_alerts(
    page: Annotated[Page, Query()], caller: UserCaller, request: Request
) -> Response:
    """List alerts, newest first: your organisation's, or all of them for operators."""
    db: Database = request.app.state.database
    arguments = {
        "status": page.status,
        "kind": page.kind,
        "page_size": page.limit,
        "page_after": page.cursor,
    }
    return (await db.answer("messages.list_alerts", arguments, caller, idempotent=True)).response()


@router.post(
    "/{alert_id}/resolve",
    responses=answers(ResolvedAlert, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def resolve_alert(
    alert_id: AlertId, body: Reason, key: IdempotencyKey, caller: UserCaller, request: Request
) -> Response:
    """Close an alert; audited with the reason. The next trouble of its kind opens a new one.

    The alert of callbacks that belong to no transfer closes those callbacks too.
    """
    db: Database = request.app.state.database
    arguments = {
        "alert_id": alert_id,
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "reason": body.reason,
    }
    return (await db.answer("messages.resolve_alert", arguments, caller)).response()


@router.post(
    "/callbacks/{callback_id}/resolve",
    responses=answers(ResolvedCallback, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def resolve_callback(
    callback_id: CallbackId,
    body: Reason,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Close one parked callback that belongs to no transfer; audited with the reason."""
    db: Database = request.app.state.database
    arguments = {
        "callback_id": callback_id,
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "reason": body.reason,
    }
    return (await db.answer("messages.resolve_callback", arguments, caller)).response()
