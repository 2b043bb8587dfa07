"""/healthz (the process), /readyz (the Data API), /metrics, /version: the same for every app."""

from typing import Final

from fastapi import Request
from starlette.background import BackgroundTask
from starlette.responses import JSONResponse, Response

from shared.errors import DependencyUnavailable
from shared.http.caller import function_caller, internal_caller
from shared.http.routes import Router

PATHS: Final = frozenset(("/healthz", "/readyz", "/metrics", "/version"))

router = Router(in_schema=False)


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """The process answers. Touches nothing else, but gets ready for the first call afterwards."""
    database = getattr(request.app.state, "database", None)
    background = BackgroundTask(database.load) if database is not None else None
    return JSONResponse({"status": "ok"}, background=background)


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """The Data API answers and has its database. An app without a database is ready."""
    database = getattr(request.app.state, "database", None)
    if database is not None and not await database.is_ready():
        raise DependencyUnavailable("the Data API does not answer", retry_after=1)
    # What else an app needs before it can do its work; it raises while that is missing.
    require_ready = getattr(request.app.state, "require_ready", None)
    if require_ready is not None:
        await require_ready(await function_caller(request))
    return JSONResponse({"status": "ok"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The Prometheus exposition. Anywhere but locally it takes the platform's own token."""
    if request.app.state.settings.environment_name != "local":
        await internal_caller(request)
    content, content_type = request.app.state.metrics.render()
    return Response(content, headers={"Content-Type": content_type})


@router.get("/version")
async def version(request: Request) -> Response:
    """Which function, in which version."""
    settings = request.app.state.settings
    return JSONResponse({"function": settings.function_name, "version": settings.version})
