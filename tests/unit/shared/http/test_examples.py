"""shared/http/examples.py: examples composed of the examples of the parts."""

from typing import Any

import pytest

from shared.http.examples import example_of, restored

SCHEMAS: dict[str, Any] = {
    "Item": {
        "properties": {
            "id": {"type": "string", "examples": ["it_1"]},
            "note": {"anyOf": [{"type": "string", "examples": ["red"]}, {"type": "null"}]},
        },
        "required": ["id", "note"],
    },
    "Whole": {"examples": [{"id": "it_2"}], "properties": {}, "required": ["id", "note"]},
}


def reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


@pytest.mark.parametrize(
    ("schema", "example"),
    [
        ({"type": "integer", "default": 7, "examples": [3]}, 3),
        ({"const": "item"}, "item"),
        ({"type": "integer", "default": 0}, 0),
        ({"enum": ["sandbox", "production"]}, "sandbox"),
        ({"type": "boolean"}, True),
        ({"type": "string", "format": "uuid"}, "5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11"),
        ({"anyOf": [{"const": 1}, {"type": "null"}]}, 1),
        ({"type": "array", "items": {"const": 1}}, [1]),
        (reference("Item"), {"id": "it_1", "note": "red"}),
        ({"type": "array", "items": reference("Item")}, [{"id": "it_1", "note": "red"}]),
    ],
)
def test_example_is_composed_of_what_the_schema_says(schema: Any, example: Any) -> None:
    assert example_of(schema, SCHEMAS) == example


def test_models_own_example_wins_over_its_parts() -> None:
    assert example_of(reference("Whole"), SCHEMAS) == {"id": "it_2", "note": None}


def test_field_without_any_example_shows_as_null() -> None:
    assert example_of({"type": "string"}, SCHEMAS) is None


def test_dropped_nulls_of_required_properties_come_back_at_any_depth() -> None:
    page = {"properties": {"data": {"type": "array", "items": reference("Item")}}}

    whole = restored({"data": [{"id": "it_1"}]}, page, SCHEMAS)

    assert whole == {"data": [{"id": "it_1", "note": None}]}


def test_property_the_schema_does_not_know_stays_for_the_tests_to_find() -> None:
    assert restored({"odd": 1}, reference("Item"), SCHEMAS) == {"id": None, "note": None, "odd": 1}
