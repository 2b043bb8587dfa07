"""From a validation error of pydantic to a problem that names each field and its rule.

What the caller sent is never repeated, only where it stood: a value may be a secret.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from shared.errors import (
    FieldError,
    FieldNotSupported,
    IdempotencyKeyInvalid,
    InvalidRequest,
    NotFound,
    StalelaError,
    UnsupportedMediaType,
)

_NAME_LIMIT: Final = 100  # characters of a field name the caller invented
_ERRORS_LIMIT: Final = 20


# pydantic error type -> the rule, as a sentence about the field. ctx holds the limits.
_RULES: Final[Mapping[str, str]] = {
    "missing": "is required",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "float_type": "must be a number",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "none_required": "must be null",
    "string_pattern_mismatch": "must match {pattern}",
    "string_unicode": "must be valid Unicode text",
    "null_member": "is null: leave out what does not apply",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "needs {discriminator}",
    "datetime_type": "must be a time such as 2026-11-21T07:10:00Z",
    "datetime_parsing": "must be a time such as 2026-11-21T07:10:00Z",
    "datetime_from_date_parsing": "must be a time such as 2026-11-21T07:10:00Z",
    "timezone_aware": "needs its zone, such as 2026-11-21T07:10:00Z",
    "url_parsing": "must be a URL",
    "url_scheme": "must be a URL with scheme {expected_schemes}",
    "uuid_parsing": "must be a UUID",
}
# Callers do not make a cursor: what is wrong with one is no use to them.
_CURSOR: Final = "pass pagination.next_cursor of the page before, unchanged"
# pydantic calls whatever has a length "items" once a validator of ours ran before it counted.
_LENGTHS: Final[Mapping[str, tuple[str, str]]] = {
    "string_too_short": ("at least", "min_length"),
    "string_too_long": ("at most", "max_length"),
    "too_short": ("at least", "min_length"),
    "too_long": ("at most", "max_length"),
}


async def refuse_what_is_in_vain(request: Request, route: APIRoute) -> None:
    """Refuse what the models would not see: a member that stands twice, an unexpected parameter.

    Each reader would take another one of two members, and a filter that does nothing shows every
    row. A route that reads the bytes of its body itself takes them as they are; and what came by
    a link, without a credential, may have parameters that others added on the way.
    """
    if request.scope["query_string"] and "authorization" in request.headers:
        _refuse_unknown_parameters(request, _query_fields(route.dependant))
    if route.body_field is None:
        return
    try:
        path = _repeated(await request.body())
    except (ValueError, RecursionError, ClientDisconnect):
        return  # no JSON, or not all of it: FastAPI reads it next, and says so in its own words
    if path:
        raise _invalid([{"pointer": pointer(path), "detail": "is there twice, send it once"}])


def _query_fields(dependant: Any) -> list[Any]:
    """The query parameters that a route, or what it depends on, takes."""
    inner = (field for below in dependant.dependencies for field in _query_fields(below))
    return [*dependant.query_params, *inner]


def _refuse_unknown_parameters(request: Request, fields: Sequence[Any]) -> None:
    if any(_is_model(field.field_info.annotation) for field in fields):
        return  # the model does it
    known = [field.alias for field in fields]
    for name in request.query_params:
        if name not in known:
            raise unknown_parameter(name, known)


def unknown_parameter(name: str, known: Sequence[str]) -> FieldNotSupported:
    """What a route that takes only `known` says to a query parameter that is none of them."""
    error = _unknown_parameter(name, known)
    return FieldNotSupported(error["detail"], errors=[error])


def _unknown_parameter(name: str, known: Sequence[str]) -> FieldError:
    only = f"only {', '.join(known)}" if known else "none is"
    rule = f"parameter '{name[:_NAME_LIMIT]}' is not supported, {only}"
    return {"pointer": pointer([name]), "detail": rule, "in": "query"}


def _names(parameter: Any) -> list[str]:
    """What a query parameter is called on the wire: a model is one for each of its fields."""
    kind = parameter.field_info.annotation
    return [*_fields(kind)] if _is_model(kind) else [parameter.alias]


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _repeated(content: bytes) -> list[str | int]:
    """The path of a member that its object has twice, the outermost; [] when there is none."""
    repeated: list[tuple[object, str]] = []

    def read(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) < len(members):
            names = Counter(name for name, _ in members)
            repeated.append((found, names.most_common(1)[0][0]))
        return found

    body = json.loads(content, object_pairs_hook=read)
    if not repeated:
        return []
    holder, name = repeated[-1]  # objects are read from the inside out
    return [*_path(holder, body), name]


def _path(wanted: object, body: object) -> list[str | int]:
    """The steps from `body` to `wanted`, which is in it, maybe deeper than calls can nest."""
    waiting: list[tuple[Any, Any]] = [((), body)]  # how it was reached: (from where, step)
    way, node = waiting.pop()
    while node is not wanted:
        inside = node.items() if isinstance(node, dict) else enumerate(node)
        waiting += [((way, step), part) for step, part in inside if isinstance(part, dict | list)]
        way, node = waiting.pop()
    path: list[str | int] = []
    while way:
        way, step = way
        path.append(step)
    return path[::-1]


def error_from_validation(
    problems: Sequence[Mapping[str, Any]], body: object, route: Any, *, content_type: str
) -> StalelaError:
    """The error that `problems` (as `RequestValidationError.errors()`) amount to.

    body: what was parsed, to tell a field from the tag of a union in a location.
    route: FastAPI's, which knows what could have been sent.
    """
    first = problems[0]
    if first["type"] == "json_invalid":
        return InvalidRequest("the body is not valid JSON")
    places = {problem["loc"][0] for problem in problems}
    if "path" in places:
        return NotFound("there is nothing at this path")
    if any(_is_idempotency_key(problem) for problem in problems):
        return IdempotencyKeyInvalid("Idempotency-Key: must be 1 to 128 visible ASCII characters")
    if _is_unparsed_body(first) and not _is_json(content_type):
        return UnsupportedMediaType("send the body as application/json")
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    if unknown:
        errors = [_unknown(problem["loc"], body, route) for problem in unknown[:_ERRORS_LIMIT]]
        return FieldNotSupported(errors[0]["detail"], errors=errors)
    return _invalid([_field_error(problem, body) for problem in problems[:_ERRORS_LIMIT]])


def _unknown(location: Sequence[str | int], body: object, route: Any) -> FieldError:
    """What is said of a field or parameter that the request does not have."""
    place, *path = location
    if place == "query":
        known = [name for field in _query_fields(route.dependant) for name in _names(field)]
        return _unknown_parameter(str(path[-1]), known)
    path = _without_tags(path, body)
    name = pointer(path)
    rule = f"'{name[1:]}' is not a field of this request"
    near = _nearest(str(path[-1]), _fields_at(route.body_field.field_info.annotation, path[:-1]))
    return {"pointer": name, "detail": f"{rule}, did you mean '{near}'?" if near else rule}


def _nearest(name: str, known: Mapping[str, Any]) -> str | None:
    from difflib import get_close_matches  # who spells all names right does not need it

    others = known.keys() - {name}  # another member of a union may have this very field
    return next(iter(get_close_matches(name[:_NAME_LIMIT].lower(), others, 1, 0.7)), None)


def _fields_at(kind: Any, path: Sequence[str | int]) -> dict[str, Any]:
    """The fields that stand at `path` in a body of type `kind`, with their types."""
    if _is_model(kind):
        fields = _fields(kind)
        return _fields_at(fields.get(str(path[0])), path[1:]) if path else fields
    if path and isinstance(path[0], int):
        path = path[1:]  # a place in a list, whose type is an argument below
    inside = [_fields_at(part, path) for part in get_args(kind)]
    return {name: field for fields in inside for name, field in fields.items()}


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """The fields of `model` as they are called on the wire, with their types."""
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _invalid(errors: Sequence[FieldError]) -> InvalidRequest:
    name = errors[0]["pointer"].removeprefix("/") or "body"
    return InvalidRequest(f"{name}: {errors[0]['detail']}", errors=errors)


def _field_error(problem: Mapping[str, Any], body: object) -> FieldError:
    place, *path = problem["loc"]
    if problem["type"] == "null_member":  # found by the object that holds it
        path.append(problem["ctx"]["member"])
    if place == "body":
        return {"pointer": pointer(_without_tags(path, body)), "detail": _rule(problem)}
    return {"pointer": pointer(path), "detail": _rule(problem), "in": str(place)}


def pointer(path: Sequence[str | int]) -> str:
    """The JSON pointer (RFC 6901) of `path`; "" is the whole document."""
    parts = (str(part).replace("~", "~0").replace("/", "~1")[:_NAME_LIMIT] for part in path)
    return "".join(f"/{part}" for part in parts)


def _rule(problem: Mapping[str, Any]) -> str:
    kind = problem["type"]
    if tuple(problem["loc"]) == ("query", "cursor"):
        return _CURSOR
    if kind in _LENGTHS:
        return _length(problem)
    template = _RULES.get(kind)
    if template is None:
        # A validator of ours says its rule itself; pydantic's other texts hold no input either.
        return str(problem["msg"]).removeprefix("Value error, ")
    return template.format_map(problem.get("ctx") or {})


def _length(problem: Mapping[str, Any]) -> str:
    bound, name = _LENGTHS[problem["type"]]
    limit = problem["ctx"][name]
    unit = "character" if isinstance(problem["input"], str) else "item"
    return f"must have {bound} {limit} {unit}{'' if limit == 1 else 's'}"


def _without_tags(path: Sequence[str | int], body: object) -> list[str | int]:
    """`path` without the steps that are not in the body: the tag of a union, a branch's name."""
    kept: list[str | int] = []
    node = body
    for index, step in enumerate(path):
        inside = _has(node, step)
        if inside or index + 1 == len(path):
            kept.append(step)
        if inside:
            node = node[step]  # type: ignore[index]  # _has looked
    return kept


def _has(node: object, step: str | int) -> bool:
    if isinstance(node, dict):
        return step in node
    return isinstance(node, list) and isinstance(step, int) and step < len(node)


def _is_unparsed_body(problem: Mapping[str, Any]) -> bool:
    # A body that is no JSON reaches the model as bytes; an absent one is "missing".
    return bool(problem["loc"] == ("body",) and problem["type"] != "missing")


def _is_idempotency_key(problem: Mapping[str, Any]) -> bool:
    place, name = problem["loc"][0], str(problem["loc"][-1])
    return bool(place == "header" and name.lower() == "idempotency-key")


def _is_json(content_type: str) -> bool:
    essence = content_type.partition(";")[0].strip().lower()
    return essence == "application/json" or (
        essence.startswith("application/") and essence.endswith("+json")
    )
