"""Serves /webhook-endpoints: where merchants hear of events, and what became of each delivery."""

from fastapi import FastAPI

from functions.webhook_endpoints import deliveries, endpoints
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.routes import Router
from shared.outbound import Outbound
from shared.vault import Vault

router = Router()
for noun in (endpoints, deliveries):
    router.add(noun.router)


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Webhook endpoints",
        description="Where a merchant's server hears of events, signed, and the log of it.",
    )
    app.state.database, app.state.vault = Database(settings), Vault(settings.vault_keys)
    app.state.outbound = Outbound(settings)
    return app
