"""/healthz (the process), /readyz (the Data API), /metrics, /version: the same for every app."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from shared.errors import DependencyUnavailable
from shared.http.caller import internal_caller

PATHS: Final = frozenset(("/healthz", "/readyz", "/metrics", "/version"))

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> Response:
    """The process answers. Touches nothing else."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """The Data API answers and has its database. An app without a database is ready."""
    database = getattr(request.app.state, "database", None)
    if database is not None and not await database.is_ready():
        raise DependencyUnavailable("the Data API does not answer", retry_after=1)
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
