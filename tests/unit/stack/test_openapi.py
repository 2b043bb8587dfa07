from typing import Any

import pytest

from scripts.stack.openapi import merge, operations

SERVER = "http://127.0.0.1:54321/functions/v1"


def document(
    path: str, schema: dict[str, Any], name: str = "Item", operation: str = "read"
) -> dict[str, Any]:
    """A function's own document: one route that answers `name`."""
    answer = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    described = {
        "operationId": operation,
        "responses": {"200": {"content": {"application/json": answer}}},
    }
    return {
        "info": {"description": "About it."},
        "paths": {path: {"get": described}},
        "components": {"schemas": {name: schema}},
    }


def reference(whole: dict[str, Any], path: str) -> str:
    answer = whole["paths"][path]["get"]["responses"]["200"]
    return str(answer["content"]["application/json"]["schema"]["$ref"])


def test_root_of_a_function_is_its_bare_url() -> None:
    whole = merge({"payment-intents": document("/", {"type": "object"})}, SERVER, "v1")

    assert list(whole["paths"]) == ["/payment-intents"]
    assert whole["servers"] == [{"url": SERVER}]


def test_equal_components_are_shared() -> None:
    same = {"type": "string"}

    whole = merge(
        {"a": document("/x", same), "b": document("/y", same, operation="write")}, SERVER, "v1"
    )

    assert whole["components"]["schemas"] == {"Item": same}


def test_component_of_the_same_name_but_other_content_gets_its_own_name() -> None:
    first, second = {"type": "string"}, {"type": "integer"}

    whole = merge(
        {"a": document("/x", first), "b-c": document("/y", second, operation="write")}, SERVER, "v1"
    )

    assert whole["components"]["schemas"] == {"Item": first, "BCItem": second}
    assert reference(whole, "/a/x") == "#/components/schemas/Item"
    assert reference(whole, "/b-c/y") == "#/components/schemas/BCItem"


def test_operations_keep_the_names_their_functions_gave_them() -> None:
    whole = merge(
        {"a": document("/x", {}), "b": document("/y", {}, operation="write")}, SERVER, "v1"
    )

    assert [one["operationId"] for _, _, one in operations(whole)] == ["read", "write"]


def test_two_operations_of_one_name_are_refused_with_their_places() -> None:
    same = {"a": document("/x", {}), "b": document("/y", {})}

    with pytest.raises(ValueError, match="read is both GET /a/x and GET /b/y"):
        merge(same, SERVER, "v1")


def test_functions_that_a_key_opens_come_first() -> None:
    closed, open_ = document("/x", {}), document("/y", {}, operation="write")
    open_["paths"]["/y"]["get"]["security"] = [{"ApiKey": []}]

    whole = merge({"a": closed, "b": open_}, SERVER, "v1")

    assert [tag["name"] for tag in whole["tags"]] == ["b", "a"]
