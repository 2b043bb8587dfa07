"""Serves /webhook-delivery: signs what merchants are to hear, sends it, records what it met."""

from fastapi import FastAPI, Request

from functions.webhook_delivery.dispatcher import Dispatcher
from functions.webhook_delivery.models import Dispatched
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import InternalCaller
from shared.http.drain import Drain
from shared.http.problem import answers
from shared.http.routes import Router
from shared.outbound import Outbound
from shared.vault import Vault

router = Router("webhook delivery")


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first poke."""
    app = create_app(
        settings,
        router,
        title="Webhook delivery",
        description="Sends events to merchants' endpoints, each in order, none held up by another.",
        # pg_net calls from one address.
        limit_addresses=False,
    )
    app.state.database, app.state.outbound = Database(settings), Outbound(settings)
    sender = app.state.sender = Dispatcher(
        app.state.database, Vault(settings.vault_keys), app.state.outbound
    )
    app.state.drain = Drain(sender.step)
    return app


@router.post("/", responses=answers(Dispatched, 401, 503))
async def dispatch_webhooks(caller: InternalCaller, request: Request) -> Dispatched:
    """Send everything that is due. Answers within a second; what takes longer goes on."""
    sender: Dispatcher = request.app.state.sender
    drain: Drain = request.app.state.drain
    sender.wake(caller)
    return Dispatched(sent=await drain.poke(), in_flight=sender.in_flight)
