"""Serves /merchants: an organisation's account, its people, API keys and rail credentials."""

from fastapi import FastAPI

from functions.merchants import account, credentials, fiscal, keys, people
from functions.merchants.sealing import SealedCredentials
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.routes import Router
from shared.rails.registry import Rails
from shared.vault import Vault

router = Router()
for noun in (account, people, keys, credentials, fiscal):
    router.add(noun.router)


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it.

    Raises KeyMissing without a master key: better no start than credentials nobody can seal.
    """
    app = create_app(
        settings,
        router,
        title="Merchants",
        description="Organisations: sign-up, people, API keys, rail credentials, outlets, audit.",
    )
    database, vault, rails = Database(settings), Vault(settings.vault_keys), Rails(settings)
    app.state.database, app.state.rails = database, rails
    app.state.sealed_credentials = SealedCredentials(database, vault, rails)
    return app
