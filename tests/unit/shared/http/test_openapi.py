"""shared/http/openapi.py: what the document promises."""

from typing import Any

import pytest

from shared.errors import BY_CODE
from shared.http.problem import problem_responses
from tests.unit.shared.http.kit import client_of, make_app


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return make_app().openapi()


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


async def test_document_is_served_as_openapi_3_1() -> None:
    async with client_of(make_app()) as client:
        answer = await client.get("/openapi.json")

    assert answer.json()["openapi"].startswith("3.1")
    assert answer.json()["servers"] == [{"url": "http://api.test/functions/v1/payment-intents"}]


def test_every_operation_documents_the_frames_problems(document: dict[str, Any]) -> None:
    for operation in operations(document):
        assert {"400", "404", "429", "500", "503"} <= set(operation["responses"])
        assert all(
            "application/problem+json" in response["content"]
            for status, response in operation["responses"].items()
            if status >= "400"
        )


def test_every_answer_documents_its_request_id(document: dict[str, Any]) -> None:
    for operation in operations(document):
        for response in operation["responses"].values():
            assert "x-request-id" in response["headers"]


def test_answers_worth_repeating_document_retry_after(document: dict[str, Any]) -> None:
    responses = document["paths"]["/"]["post"]["responses"]

    assert all("Retry-After" in responses[status]["headers"] for status in ("409", "429", "503"))


def test_routes_with_a_body_document_its_limits(document: dict[str, Any]) -> None:
    assert {"413", "415"} <= set(document["paths"]["/"]["post"]["responses"])
    assert not {"413", "415"} & set(document["paths"]["/"]["get"]["responses"])


def test_frameworks_own_validation_answer_is_not_promised(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in str(document)
    assert "422" not in document["paths"]["/"]["get"]["responses"]
    assert "422" in document["paths"]["/"]["post"]["responses"]


def test_each_route_says_which_credentials_open_it(document: dict[str, Any]) -> None:
    paths = document["paths"]

    assert paths["/"]["post"]["security"] == [{"ApiKey": []}, {"UserToken": []}]
    assert paths["/me"]["get"]["security"] == [{"UserToken": []}]
    assert paths["/payer"]["get"]["security"] == [
        {"ApiKey": []},
        {"ApiKey": [], "ClientSecret": []},
        {"UserToken": []},
    ]
    assert {"StreamToken": []} in paths["/watch"]["get"]["security"]
    assert paths["/tick"]["post"]["security"] == [{"InternalToken": []}]
    assert paths["/address"]["get"]["security"] == []


def test_every_scheme_that_is_used_is_defined(document: dict[str, Any]) -> None:
    used = {
        name
        for operation in operations(document)
        for requirement in operation.get("security", [])
        for name in requirement
    }

    assert used == set(document["components"]["securitySchemes"])


def test_idempotency_key_is_a_required_header(document: dict[str, Any]) -> None:
    parameter, *_ = document["paths"]["/"]["post"]["parameters"]

    assert (parameter["name"], parameter["in"], parameter["required"]) == (
        "Idempotency-Key",
        "header",
        True,
    )


def test_problem_is_one_shared_component(document: dict[str, Any]) -> None:
    problem = document["components"]["schemas"]["Problem"]
    content = document["paths"]["/"]["post"]["responses"]["400"]["content"]

    assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    example = content["application/problem+json"]["example"]
    assert set(problem["required"]) <= set(example) <= set(problem["properties"])


def test_health_routes_are_not_part_of_the_api(document: dict[str, Any]) -> None:
    assert not {"/healthz", "/readyz", "/metrics", "/version"} & set(document["paths"])


def test_every_status_of_the_catalogue_can_be_documented() -> None:
    statuses = {kind.status for kind in BY_CODE.values()}

    documented = problem_responses(*statuses)

    assert all(kind.code in documented[kind.status]["description"] for kind in BY_CODE.values())


def test_status_without_a_code_cannot_be_promised() -> None:
    with pytest.raises(AssertionError):
        problem_responses(418)


def test_operation_is_named_after_its_function(document: dict[str, Any]) -> None:
    operation = document["paths"]["/address"]["get"]

    assert (operation["operationId"], operation["summary"]) == ("address", "Address")


def test_every_operation_documents_the_headers_the_frame_reads(document: dict[str, Any]) -> None:
    frames = [
        {"$ref": "#/components/parameters/RequestId"},
        {"$ref": "#/components/parameters/Traceparent"},
    ]

    for operation in operations(document):
        assert [part for part in operation["parameters"] if part in frames] == frames


def test_only_routes_for_people_take_an_environment(document: dict[str, Any]) -> None:
    environment = {"$ref": "#/components/parameters/Environment"}
    paths = document["paths"]

    assert environment in paths["/me"]["get"]["parameters"]
    assert environment not in paths["/tick"]["post"]["parameters"]
    assert environment not in paths["/address"]["get"]["parameters"]


def test_answers_to_a_key_document_what_is_left_of_its_limit(document: dict[str, Any]) -> None:
    limits = {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"}
    paths = document["paths"]

    assert limits <= set(paths["/"]["post"]["responses"]["201"]["headers"])
    assert limits <= set(paths["/tick"]["post"]["responses"]["429"]["headers"])
    assert not limits & set(paths["/tick"]["post"]["responses"]["200"]["headers"])


def test_only_routes_with_an_idempotency_key_document_replays(document: dict[str, Any]) -> None:
    paths = document["paths"]

    assert "Idempotent-Replayed" in paths["/"]["post"]["responses"]["201"]["headers"]
    assert "Idempotent-Replayed" not in paths["/tick"]["post"]["responses"]["200"]["headers"]
