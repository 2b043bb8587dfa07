"""Serves /relay: publishes events to a distributed log; off by default."""

from fastapi import FastAPI, Request

from functions.relay.jetstream import JetStream
from functions.relay.models import Drained
from functions.relay.port import LogUnavailable
from functions.relay.publishing import Publisher
from shared import log
from shared.config import Settings
from shared.db import Database
from shared.errors import DependencyUnavailable
from shared.http.app import create_app
from shared.http.caller import InternalCaller, background_caller
from shared.http.drain import Drain
from shared.http.problem import problem_responses
from shared.http.routes import Router

router = Router("relay")


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first poke."""
    app = create_app(
        settings,
        router,
        title="Relay",
        description="Publishes events to a distributed log, in order and acknowledged.",
    )
    database = Database(settings)
    url = settings.relay_url.get_secret_value()
    relay = JetStream(url)
    publisher = Publisher(database, relay)

    async def step() -> int:
        if not url:
            log.warning("relay_not_configured")
            return 0
        try:
            return await publisher.publish_batch(background_caller())
        except LogUnavailable as away:
            raise DependencyUnavailable("the log does not answer", retry_after=5) from away

    app.state.database, app.state.outbound, app.state.drain = database, relay, Drain(step)
    return app


@router.post("/", responses=problem_responses(401, 503))
async def relay_events(_caller: InternalCaller, request: Request) -> Drained:
    """Publish what is waiting, until nothing is left; 503 while the log does not answer."""
    drain: Drain = request.app.state.drain
    return Drained(done=await drain.poke())
