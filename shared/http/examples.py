"""Whole examples for the OpenAPI document, composed of the examples its schemas give.

An author writes one example per field (or one for a whole model), never the same thing twice. A
field without any becomes null in the example, and the tests of the document refuse that.
"""

from collections.abc import Mapping
from typing import Any, Final

Schema = Mapping[str, Any]
Schemas = Mapping[str, Schema]  # components/schemas of a document

_BY_FORMAT: Final[Schema] = {
    "date": "2026-11-21",
    "date-time": "2026-11-21T08:00:00.123456+00:00",
    "uuid": "5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11",
}


def example_of(schema: Schema, schemas: Schemas) -> Any:
    """An instance of `schema`."""
    if "examples" in schema:
        return restored(schema["examples"][0], schema, schemas)
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if "enum" in schema:
        return schema["enum"][0]
    if "$ref" in schema or "anyOf" in schema:
        return example_of(_followed(schema, schemas), schemas)
    if "properties" in schema:
        return {name: example_of(part, schemas) for name, part in schema["properties"].items()}
    if schema.get("type") == "array":
        return [example_of(schema["items"], schemas)]
    if schema.get("type") == "boolean":
        return True
    return _BY_FORMAT.get(schema.get("format", ""))


def restored(example: Any, schema: Schema, schemas: Schemas) -> Any:
    """`example` with the nulls of required properties, which FastAPI drops from its document."""
    if "$ref" in schema or "anyOf" in schema:
        return restored(example, _followed(schema, schemas), schemas)
    if isinstance(example, list) and "items" in schema:
        return [restored(part, schema["items"], schemas) for part in example]
    if isinstance(example, dict) and "properties" in schema:
        whole = dict.fromkeys(schema.get("required", ())) | example
        known = schema["properties"]
        return {name: restored(part, known.get(name, {}), schemas) for name, part in whole.items()}
    return example


def _followed(schema: Schema, schemas: Schemas) -> Schema:
    """Where a reference leads; of alternatives the first, which is never null in our models."""
    if "anyOf" in schema:
        first: Schema = schema["anyOf"][0]
        return first
    return schemas[schema["$ref"].rpartition("/")[2]]
