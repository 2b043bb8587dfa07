"""Serves /reports: what the sealed ledger adds up to, and proof that it does."""

from fastapi import FastAPI

from functions.reports import audit, days, queries
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.routes import Router

router = Router()
for noun in (queries, audit, days):  # a day's report has an id where a query has its name
    router.add(noun.router)


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Reports",
        description="Reports from the sealed ledger: X, Z, articles, periods, audit archives.",
    )
    app.state.database = Database(settings)
    return app
