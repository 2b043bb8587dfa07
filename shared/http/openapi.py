"""The OpenAPI 3.1 document of an app: what FastAPI derives, and what the frame adds to it."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from shared.config import Settings
from shared.http.problem import PROBLEM_SCHEMA, problem_responses

_SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "ApiKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "A secret (sk_test_…, sk_live_…) or publishable (pk_…) API key.",
    },
    "UserToken": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token of a signed-in user.",
    },
    "ClientSecret": {
        "type": "apiKey",
        "in": "header",
        "name": "x-client-secret",
        "description": "The client secret of one payment intent, for its payer's browser; "
        "sent beside a publishable key.",
    },
    "StreamToken": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "Opens one event stream, once, within 60 seconds of its issue.",
    },
    "InternalToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "The platform's own token: schedules and events.",
    },
}
# Each dependency of shared/http/caller.py, and what opens it: any row, and all of a row.
_ACCEPTS: Final[dict[str, list[dict[str, list[str]]]]] = {
    "ApiCaller": [{"ApiKey": []}, {"UserToken": []}],
    "UserCaller": [{"UserToken": []}],
    "PayerCaller": [{"ApiKey": []}, {"ApiKey": [], "ClientSecret": []}, {"UserToken": []}],
    "StreamCaller": [
        {"ApiKey": []},
        {"ApiKey": [], "ClientSecret": []},
        {"UserToken": []},
        {"StreamToken": []},
    ],
    "InternalCaller": [{"InternalToken": []}],
}
_HEADERS: Final[dict[str, Any]] = {
    "RequestId": {
        "description": "Names this request in our logs; sent by the caller or made by us.",
        "schema": {"type": "string"},
    },
    "RetryAfter": {
        "description": "Seconds to wait before the next attempt.",
        "schema": {"type": "integer", "minimum": 0},
    },
}
_EVERYWHERE: Final = (400, 404, 429, 500, 503)
_WITH_BODY: Final = (413, 415)
_RETRYABLE: Final = ("409", "429", "503")
_METHODS: Final = ("get", "put", "post", "delete", "patch")


def install_openapi(app: FastAPI, settings: Settings) -> None:
    """Make `app.openapi()` and /openapi.json answer the finished document, built once."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app, settings)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented extension point


def _build(app: FastAPI, settings: Settings) -> dict[str, Any]:
    url = f"{settings.functions_url.rstrip('/')}/{settings.function_name.replace('_', '-')}"
    document = get_openapi(
        title=app.title,
        version=settings.version,
        openapi_version="3.1.0",
        description=app.description,
        routes=app.routes,
        servers=[{"url": url}],
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = dict(PROBLEM_SCHEMA)
    components["securitySchemes"] = _SECURITY_SCHEMES
    components["headers"] = _HEADERS
    for path in document["paths"].values():
        for method in _METHODS:
            if method in path:
                _finish(path[method])
    return document


def _finish(operation: dict[str, Any]) -> None:
    responses = operation.setdefault("responses", {})
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]  # our validation answers 400
    for status in (*_EVERYWHERE, *(_WITH_BODY if "requestBody" in operation else ())):
        responses.setdefault(str(status), problem_responses(status)[status])
    for status, response in responses.items():
        response.setdefault("description", HTTPStatus(int(status)).phrase)
        headers = response.setdefault("headers", {})
        headers["x-request-id"] = {"$ref": "#/components/headers/RequestId"}
        if status in _RETRYABLE:
            headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    operation["responses"] = dict(sorted(responses.items()))
    if "security" in operation:
        operation["security"] = _alternatives(operation["security"])


def _alternatives(required: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    names = [name for requirement in required for name in requirement]
    return [row for name in names for row in _ACCEPTS[name]]
