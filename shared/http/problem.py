"""RFC 9457 problem details: the one shape of every error.

{"type": "https://…/functions/v1/docs#42251", "title": "Amount is not valid", "status": 422,
 "detail": "amount: KES has 2 decimals", "code": "42251", "request_id": "req_…",
 "errors": [{"pointer": "/amount", "detail": "KES has 2 decimals"}]}
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from starlette.responses import Response

from shared.errors import BY_CODE, StalelaError

MEDIA_TYPE: Final = "application/problem+json"
# Members of the standard and of the platform; an extra may not take their place.
_RESERVED: Final = frozenset(
    ("type", "title", "status", "detail", "code", "request_id", "errors", "retry_after", "headers")
)


def problem_body(error: StalelaError, *, docs_url: str, request_id: str) -> dict[str, Any]:
    """The members of the answer. docs_url: the page with an anchor per code."""
    body: dict[str, Any] = {
        "type": f"{docs_url}#{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
    }
    if error.errors:
        body["errors"] = list(error.errors)
    if error.retry_after is not None:
        body["retry_after"] = error.retry_after
    body.update((key, value) for key, value in error.extras.items() if key not in _RESERVED)
    return body


def problem_response(error: StalelaError, *, docs_url: str, request_id: str) -> Response:
    """The answer to `error`, with Retry-After and the headers SQL asked for."""
    body = problem_body(error, docs_url=docs_url, request_id=request_id)
    headers = dict(error.extras.get("headers") or {})
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="stalela"'
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=str)
    return Response(content.encode(), error.status, headers, MEDIA_TYPE)


PROBLEM_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457 problem details. `code` is stable; its table is the catalogue.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "Safe to show to a person."},
        "code": {"type": "string", "pattern": "^[4-5][0-9]{4}$"},
        "request_id": {"type": "string"},
        "retry_after": {"type": "integer", "minimum": 0, "description": "Seconds."},
        "current_state": {"type": "string"},
        "allowed": {"type": "array", "items": {"type": "string"}},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer of the field."},
                    "detail": {"type": "string"},
                    "in": {"type": "string", "enum": ["query", "header", "path"]},
                },
            },
        },
    },
}


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route passes to `responses=`: each status with its codes and an example."""
    return {status: _documented(status) for status in statuses}


def answers(
    model: type[BaseModel], *problems: int, status: int = 200, example: object = None
) -> dict[int | str, dict[str, Any]]:
    """What a route passes to `responses=`: its answer and the problems it can have.

    example: of the answer; by default it is composed of the model's own examples.
    """
    answer: dict[str, Any] = {"model": model}
    if example is not None:
        answer["content"] = {"application/json": {"example": example}}
    return {status: answer, **problem_responses(*problems)}


def _documented(status: int) -> dict[str, Any]:
    kinds = [error for error in BY_CODE.values() if error.status == status]
    assert kinds, f"no code has status {status}"
    codes = "; ".join(f"{error.code} {error.__name__}" for error in kinds)
    first = kinds[0](retry_after=1) if kinds[0].retryable else kinds[0]()
    example = problem_body(
        first,
        docs_url="https://api.example/functions/v1/docs",
        request_id="req_01jd2y5x7hf6t8m3q0v9r4k2wz",
    )
    return {
        "description": f"{HTTPStatus(status).phrase}: {codes}",
        "content": {
            MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
        },
    }
