"""Serves /recon: statements of rails against our books, and what people decide about the rest."""

from fastapi import FastAPI

from functions.recon import exceptions, sessions, statements
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.routes import Router
from shared.vault import Vault

router = Router()
for noun in (statements, sessions, exceptions):
    router.add(noun.router)


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Reconciliation",
        description="Our books against the rails' statements: daily sessions, uploads, exceptions.",
        max_body_bytes=statements.MAX_FILE_BYTES,
    )
    app.state.database, app.state.vault = Database(settings), Vault(settings.vault_keys)
    return app
