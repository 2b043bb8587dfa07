from typing import Any

from scripts.stack.openapi import merge

SERVER = "http://127.0.0.1:54321/functions/v1"


def document(path: str, schema: dict[str, Any], name: str = "Item") -> dict[str, Any]:
    """A function's own document: one route that answers `name`."""
    answer = {"schema": {"$ref": f"#/components/schemas/{name}"}}
    operation = {
        "operationId": "read",
        "responses": {"200": {"content": {"application/json": answer}}},
    }
    return {
        "info": {"description": "About it."},
        "paths": {path: {"get": operation}},
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

    whole = merge({"a": document("/x", same), "b": document("/y", same)}, SERVER, "v1")

    assert whole["components"]["schemas"] == {"Item": same}


def test_component_of_the_same_name_but_other_content_gets_its_own_name() -> None:
    first, second = {"type": "string"}, {"type": "integer"}

    whole = merge({"a": document("/x", first), "b-c": document("/y", second)}, SERVER, "v1")

    assert whole["components"]["schemas"] == {"Item": first, "BCItem": second}
    assert reference(whole, "/a/x") == "#/components/schemas/Item"
    assert reference(whole, "/b-c/y") == "#/components/schemas/BCItem"


def test_operation_ids_stay_unique() -> None:
    same = {"type": "string"}

    whole = merge({"a": document("/x", same), "b": document("/x", same)}, SERVER, "v1")

    ids = [whole["paths"][path]["get"]["operationId"] for path in ("/a/x", "/b/x")]
    assert ids == ["a_read", "b_read"]
