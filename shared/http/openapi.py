"""The OpenAPI 3.1 document of an app: what FastAPI derives, and what the frame adds to it."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from shared.config import Settings
from shared.http.examples import example_of, restored
from shared.http.idempotency import HEADER as IDEMPOTENCY_KEY
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
    "VisitorCaller": [{}, {"ApiKey": []}, {"UserToken": []}],
    "InternalCaller": [{"InternalToken": []}],
    "StaffCaller": [{"UserToken": []}, {"InternalToken": []}],
}
# What the frame reads from every request; the schemas take any text because an odd one is replaced.
_PARAMETERS: Final[dict[str, Any]] = {
    "RequestId": {
        "name": "x-request-id",
        "in": "header",
        "description": "Your name for this request in our logs: 8 to 64 letters, digits, `_`, `.` "
        "or `-`. Without it, or with anything else, we make one; the answer's header has it.",
        "schema": {"type": "string"},
    },
    "Traceparent": {
        "name": "traceparent",
        "in": "header",
        "description": "W3C Trace Context, such as "
        "`00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`; kept through events and rail "
        "calls. Without it, or with anything else, a new trace begins.",
        "schema": {"type": "string"},
    },
    "Environment": {
        "name": "x-stalela-environment",
        "in": "header",
        "description": "Where a signed-in user works. An API key has its environment in itself.",
        "schema": {"type": "string", "enum": ["sandbox", "production"], "default": "sandbox"},
    },
}
_HEADERS: Final[dict[str, Any]] = {
    "RequestId": {
        "description": "Names this request in our logs; sent by the caller or made by us.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{8,64}$"},
    },
    "RetryAfter": {
        "description": "Seconds to wait before the next attempt.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimitLimit": {
        "description": "How many requests your bucket holds; absent without a limit.",
        "schema": {"type": "integer", "minimum": 1},
    },
    "RateLimitRemaining": {
        "description": "How many of them are left.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "RateLimitReset": {
        "description": "Seconds until the bucket is full again.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "IdempotentReplayed": {
        "description": "Present when this is the stored answer of an earlier request with the "
        "same Idempotency-Key.",
        "schema": {"type": "string", "const": "true"},
    },
    "Authenticate": {
        "description": "The scheme of every credential.",
        "required": True,
        "schema": {"type": "string", "const": 'Bearer realm="stalela"'},
    },
}
_LIMITS: Final = {
    "RateLimit-Limit": "RateLimitLimit",
    "RateLimit-Remaining": "RateLimitRemaining",
    "RateLimit-Reset": "RateLimitReset",
}
_EVERYWHERE: Final = (400, 404, 429, 500, 503)
_RETRYABLE: Final = ("409", "429", "503")
_METHODS: Final = ("get", "put", "post", "delete", "patch")
_JSON: Final = "application/json"
_SPELLING: Final = {"api": "API"}  # words of summaries that are no lower-case words


def operation_id(route: APIRoute) -> str:
    """The name of the route's function: what a generated client calls its method."""
    return route.name


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
    for schema in schemas.values():
        if "examples" in schema:
            schema["examples"] = [restored(one, schema, schemas) for one in schema["examples"]]
    schemas["Problem"] = dict(PROBLEM_SCHEMA)
    components["parameters"] = _PARAMETERS
    components["securitySchemes"] = _SECURITY_SCHEMES
    components["headers"] = _HEADERS
    for path in document["paths"].values():
        for method in _METHODS:
            if method in path:
                _finish(path[method], schemas)
    return document


def _finish(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    operation["summary"] = _summary(operation["operationId"])
    operation["security"] = _alternatives(operation.get("security", []))
    parameters = operation.setdefault("parameters", [])
    parameters += [
        {"$ref": f"#/components/parameters/{name}"} for name in _frame_parameters(operation)
    ]
    body = operation.get("requestBody", {}).get("content", {})
    _finish_responses(operation, reads_json=set(body) == {_JSON}, has_body=bool(body))
    for content in (body, *(answer.get("content", {}) for answer in _answers(operation))):
        if _JSON in content:
            _give_example(content[_JSON], schemas)


def _give_example(media: dict[str, Any], schemas: dict[str, Any]) -> None:
    if "example" in media:
        media["example"] = restored(media["example"], media["schema"], schemas)
    else:
        media["example"] = example_of(media["schema"], schemas)


def _finish_responses(operation: dict[str, Any], *, reads_json: bool, has_body: bool) -> None:
    responses = operation.setdefault("responses", {})
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]  # our validation answers 400
    limits = ((413,) if has_body else ()) + ((415,) if reads_json else ())
    for status in (*_EVERYWHERE, *limits):
        responses.setdefault(str(status), problem_responses(status)[status])
    is_idempotent = any(part.get("name") == IDEMPOTENCY_KEY for part in operation["parameters"])
    for status, response in responses.items():
        response["description"] = response.get("description") or HTTPStatus(int(status)).phrase
        headers = response.setdefault("headers", {})
        for name, component in _headers(status, operation["security"], is_idempotent).items():
            headers[name] = {"$ref": f"#/components/headers/{component}"}
    operation["responses"] = dict(sorted(responses.items()))


def _headers(status: str, security: list[Any], is_idempotent: bool) -> dict[str, str]:
    """Header name -> its component, for one answer of an operation."""
    found = {"x-request-id": "RequestId"}
    if status == "401":
        found["WWW-Authenticate"] = "Authenticate"
    if status in _RETRYABLE:
        found["Retry-After"] = "RetryAfter"
    if status == "429" or (status < "300" and {"ApiKey": []} in security):
        found |= _LIMITS
    if is_idempotent and status < "300":
        found["Idempotent-Replayed"] = "IdempotentReplayed"
    return found


def _frame_parameters(operation: dict[str, Any]) -> list[str]:
    if {"UserToken": []} in operation["security"]:
        return ["Environment", "RequestId", "Traceparent"]
    return ["RequestId", "Traceparent"]


def _answers(operation: dict[str, Any]) -> list[dict[str, Any]]:
    return [answer for status, answer in operation["responses"].items() if status < "300"]


def _summary(name: str) -> str:
    first, *rest = (_SPELLING.get(word, word) for word in name.split("_"))
    return " ".join((first[:1].upper() + first[1:], *rest))


def _alternatives(required: list[dict[str, list[str]]]) -> list[dict[str, list[str]]]:
    names = [name for requirement in required for name in requirement]
    return [row for name in names for row in _ACCEPTS[name]]
