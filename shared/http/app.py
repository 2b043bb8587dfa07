"""Makes the ASGI app of a function: its router inside the frame that all functions share."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from shared import log
from shared.config import Settings
from shared.errors import (
    AuthenticationRequired,
    BodyTooLarge,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    StalelaError,
    TokenInvalid,
    UnsupportedMediaType,
)
from shared.http import health
from shared.http.frame import Frame, docs_url
from shared.http.limits import Limits
from shared.http.metrics import Metrics
from shared.http.openapi import install_openapi
from shared.http.problem import problem_response
from shared.http.routes import Router
from shared.http.user_token import TokenVerifier
from shared.http.validation import error_from_validation

MAX_BODY_BYTES: Final = 64 * 1024

# What an app may hold open, in the order in which it is closed: users before what they use.
_HELD: Final = (
    "drain",
    "sender",
    "rails",
    "authorities",
    "outbound",
    "mailer",
    "views",
    "database",
)
_BY_STATUS: Final[dict[int, type[StalelaError]]] = {
    401: AuthenticationRequired,
    403: TokenInvalid,
    404: NotFound,
    405: MethodNotAllowed,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
}
# Starlette names the status; these say what to do.
_MESSAGES: Final = {
    404: "there is nothing at this path",
    405: "this path does not take this method; see the Allow header",
}


def create_app(
    settings: Settings,
    router: Router,
    *,
    title: str,
    description: str,
    max_body_bytes: int = MAX_BODY_BYTES,
    large_bodies: Mapping[str, int] = MappingProxyType({}),
    limit_addresses: bool = True,
    unlimited: Iterable[str] = (),
) -> FastAPI:
    """The app of one function. What lives as long as it goes on `app.state` afterwards.

    large_bodies: path prefixes that take more bytes, for routes that read the body themselves,
    which is after they know who calls.

    limit_addresses: off for a function that few addresses call for everybody, as a rail does;
    the instance's own limit stays. unlimited: networks that pass even that one.

    `app.state.require_ready(caller)`, when set, raises while /readyz shall be red.
    `app.state` has settings, metrics and token_verifier. `app.state.database`, when set, is asked
    by /readyz and closed at shutdown, as are `drain`, `sender`, `rails`, `outbound`, `mailer`,
    `views`.
    """
    log.configure(settings.log_level)
    app = FastAPI(
        title=title,
        description=description,
        version=settings.version,
        openapi_url="/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        # The frame has its own traces and metrics; these would cost every request.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    metrics = Metrics(settings.function_name)
    app.state.settings = settings
    app.state.metrics = metrics
    app.state.token_verifier = TokenVerifier(settings.supabase_url)
    app.router.routes += [*health.router.routes, *router.routes]
    app.add_middleware(
        Frame,
        settings=settings,
        metrics=metrics,
        limits=Limits(settings, by_address=limit_addresses, unlimited=unlimited),
        max_body_bytes=max_body_bytes,
        large_bodies=large_bodies,
    )
    app.add_exception_handler(StalelaError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _by_status)
    install_openapi(app, settings)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    for name in _HELD:
        held = getattr(app.state, name, None)
        if held is not None:
            await held.aclose()


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StalelaError)
    if isinstance(error, InternalError):
        log.error("request_failed", error)
    return _problem(request, error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    content_type, route = request.headers.get("content-type", ""), request.scope["route"]
    return _problem(
        request, error_from_validation(error.errors(), error.body, route, content_type=content_type)
    )


async def _by_status(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    fallback = InvalidRequest if error.status_code < 500 else InternalError
    kind = _BY_STATUS.get(error.status_code, fallback)
    message = _MESSAGES.get(error.status_code, error.detail if error.status_code < 500 else "")
    extras: dict[str, Any] = {}
    if error.status_code == 405:
        extras["headers"] = {"Allow": ", ".join(_methods(request))}
    return _problem(request, kind(message, extras=extras))


def _methods(request: Request) -> list[str]:
    """Every method some route takes at this path; the router would name only the first's."""
    found: set[str] = set()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.router.routes):
            found.add(method)
    return sorted({*found, "OPTIONS"})


def _problem(request: Request, error: StalelaError) -> Response:
    log.bind(code=error.code)
    return problem_response(
        error,
        docs_url=docs_url(request.app.state.settings),
        request_id=request.state.request_id,
    )
