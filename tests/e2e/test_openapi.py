"""The API description as its readers need it: complete, valid, and every example true."""

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema_rs
import pytest

from scripts.stack.openapi import operations
from scripts.stack.stack import Stack
from shared.errors import BY_CODE

Json = dict[str, Any]
Operation = tuple[str, Json]  # "POST /payment-intents", and what the document says about it

# function.toml's words for who may call, and the security requirements that are one of them.
CREDENTIALS: dict[str, list[Json]] = {
    "api-key": [{"ApiKey": []}],
    "user": [{"UserToken": []}],
    "client-secret": [{"ApiKey": [], "ClientSecret": []}],
    "stream-token": [{"StreamToken": []}],
    "internal": [{"InternalToken": []}],
    "callback-token": [],
    "signature": [],
    "public": [],
    "visitor": [{}],
}
BASE = "urn:document"  # where references lead: into the whole document, which is read once
FROM_THE_FRAME = {"x-request-id", "traceparent"}


@pytest.fixture(scope="module")
def document(stack: Stack) -> Json:
    return dict(httpx.get(f"{stack.functions_url}/openapi.json").raise_for_status().json())


@pytest.fixture(scope="module")
def described(document: Json) -> list[Operation]:
    return [(f"{verb.upper()} {path}", found) for verb, path, found in operations(document)]


def test_document_is_valid_openapi_3_1(document: Json) -> None:
    import schemathesis  # a second of every worker's time, and used here alone

    assert document["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document).validate()


def test_every_schema_is_valid_json_schema(document: Json) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_every_operation_is_there_with_words_for_people(described: list[Operation]) -> None:
    assert described
    assert lacking(described, lambda one: one.get("summary"), one_line) == []
    assert lacking(described, lambda one: one.get("description"), sentence) == []
    assert lacking(described, lambda one: one.get("tags"), bool) == []


def test_every_tag_is_explained(document: Json, described: list[Operation]) -> None:
    used = {tag for _, operation in described for tag in operation["tags"]}

    explained = {tag["name"] for tag in document["tags"] if sentence(tag["description"])}
    assert used == explained


def test_every_operation_has_one_name_that_reads_as_a_method(described: list[Operation]) -> None:
    names = [operation["operationId"] for _, operation in described]

    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name)] == []


def test_every_parameter_is_explained(document: Json, described: list[Operation]) -> None:
    silent = [
        (place, parameter["name"])
        for place, operation in described
        for parameter in parameters(document, operation)
        if not sentence(parameter.get("description"))
    ]

    assert silent == []


def test_every_cursor_has_a_form_so_a_wrong_one_is_answered_alike(
    document: Json, described: list[Operation]
) -> None:
    cursors = {
        place: json.dumps(parameter["schema"])
        for place, operation in described
        for parameter in parameters(document, operation)
        if parameter["name"] == "cursor"
    }

    assert cursors
    assert [
        p for p, schema in cursors.items() if not re.search('"pattern"|"integer"', schema)
    ] == []


def test_every_operation_documents_what_the_frame_reads(
    document: Json, described: list[Operation]
) -> None:
    for place, operation in described:
        names = header_names(document, operation)
        assert names >= FROM_THE_FRAME, place
        takes_users = {"UserToken": []} in operation["security"]
        assert ("x-stalela-environment" in names) == takes_users, place


def test_idempotency_key_is_asked_of_every_post_that_makes_or_moves_money(
    document: Json, described: list[Operation]
) -> None:
    asking = {
        place
        for place, operation in described
        for parameter in parameters(document, operation)
        if parameter["name"] == "Idempotency-Key" and parameter["required"]
    }

    assert asking >= {
        "POST /payment-intents",
        "POST /payment-intents/{payment_intent_id}/confirm",
        "POST /payment-intents/{payment_intent_id}/cancel",
    }
    assert {place.partition(" ")[0] for place in asking} == {"POST"}


def test_security_is_what_each_function_toml_says(stack: Stack, described: list[Operation]) -> None:
    told = {
        place: sorted(map(str, requirements))
        for place, requirements in requirements_of_manifests(stack)
    }

    shown = {
        re.sub(r"\{\w+\}", "{}", place): sorted(map(str, operation["security"]))
        for place, operation in described
    }
    assert shown == told


def test_every_security_scheme_is_explained_and_used(
    document: Json, described: list[Operation]
) -> None:
    schemes = document["components"]["securitySchemes"]
    used = {
        name
        for _, operation in described
        for requirement in operation["security"]
        for name in requirement
    }

    assert used == {name for name, scheme in schemes.items() if sentence(scheme["description"])}
    assert schemes["ClientSecret"]["name"] == "x-client-secret"


def test_every_operation_says_how_it_can_fail(described: list[Operation]) -> None:
    for place, operation in described:
        problems = {status for status in operation["responses"] if status >= "400"}
        assert problems >= {"400", "404", "429", "500", "503"}, place
        assert ("401" in problems) == bool(operation["security"]), place
        assert ("413" in problems) == ("requestBody" in operation), place
        for status in problems:
            described_problem = operation["responses"][status]
            kinds = set(described_problem["content"]) - {"text/html"}  # a page says it to people
            assert kinds == {"application/problem+json"}, place
            assert codes(described_problem) == codes_of(status), (place, status)


def test_every_answer_documents_its_request_id(described: list[Operation]) -> None:
    for place, operation in described:
        for status, answer in operation["responses"].items():
            assert "x-request-id" in answer["headers"], (place, status)
            assert answer["description"], (place, status)


def test_every_body_and_answer_has_an_example(described: list[Operation]) -> None:
    bare = [place for place, media in media_types(described) if not media.get("example")]

    assert bare == []


def test_every_example_is_an_instance_of_its_schema(
    document: Json, described: list[Operation]
) -> None:
    known = jsonschema_rs.Registry([(BASE, {"components": document["components"]})])
    wrong = [
        f"{place}: {problem}"
        for place, media in media_types(described)
        for problem in problems_of(known, media["schema"], media["example"])
    ]
    wrong += [
        f"{place} {parameter['name']}: {problem}"
        for place, operation in described
        for parameter in parameters(document, operation)
        for example in parameter["schema"].get("examples", [])
        for problem in problems_of(known, parameter["schema"], example)
    ]
    wrong += [
        f"{name}: {problem}"
        for name, schema in schemas_within(document["components"]["schemas"])
        for example in schema["examples"]
        for problem in problems_of(known, schema, example)
    ]

    assert wrong == []


def test_every_example_is_of_one_day(document: Json) -> None:
    # Midnights are bounds of days; what is sealed has to be of today, so its example is.
    instants = re.findall(r"\b(20\d\d-\d\d-\d\d)T(?!00:00:00Z)", json.dumps(document))

    assert set(instants) == {"2026-11-21", "2026-11-22"}, "an intent expires on the next day"


def sentence(text: object) -> bool:
    """Whether it is prose: more than a word, ending as sentences do."""
    return isinstance(text, str) and " " in text.strip() and text.strip()[-1] in ".:)"


def one_line(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= 60 and text[0].isupper()


def lacking(described: list[Operation], part: Any, good: Any) -> list[str]:
    return [place for place, operation in described if not good(part(operation))]


def parameters(document: Json, operation: Json) -> Iterator[Json]:
    """The parameters of an operation, references followed."""
    for parameter in operation["parameters"]:
        name = parameter.get("$ref", "").rpartition("/")[2]
        yield {"required": False} | (
            document["components"]["parameters"][name] if name else parameter
        )


def header_names(document: Json, operation: Json) -> set[str]:
    return {
        parameter["name"]
        for parameter in parameters(document, operation)
        if parameter["in"] == "header"
    }


def requirements_of_manifests(stack: Stack) -> Iterator[tuple[str, list[Json]]]:
    """("POST /payment-intents/{}", security requirements) of every route of every manifest."""
    for manifest in (stack.root / "functions").glob("*/function.toml"):
        slug = manifest.parent.name.replace("_", "-")
        for route, callers in tomllib.loads(manifest.read_text())["routes"].items():
            verb, path = route.split(" ")
            place = re.sub(r"\{\w+\}", "{}", f"/{slug}{path}".removesuffix("/"))
            words = re.split(r", | or ", callers)
            yield f"{verb} {place}", [row for word in words for row in CREDENTIALS[word]]


def codes(answer: Json) -> set[str]:
    return set(re.findall(r"\b[45]\d{4}\b", answer["description"]))


def codes_of(status: str) -> set[str]:
    return {code for code in BY_CODE if code.startswith(status)}


def media_types(described: list[Operation]) -> Iterator[tuple[str, Json]]:
    """Every body and every answer, named."""
    for place, operation in described:
        for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{place} takes {media_type}", media
        for status, answer in operation["responses"].items():
            for media_type, media in answer.get("content", {}).items():
                yield f"{place} answers {status} {media_type}", media


def problems_of(known: jsonschema_rs.Registry, schema: Json, example: object) -> list[str]:
    """What is wrong with an example; references lead into the document."""
    away = json.loads(json.dumps(schema).replace('"$ref": "#', f'"$ref": "{BASE}#'))
    checker = jsonschema_rs.Draft202012Validator(away, registry=known, validate_formats=True)
    return [error.message for error in checker.iter_errors(example)]


def schemas_within(node: Any, name: str = "") -> Iterator[tuple[str, Json]]:
    """Every schema below `node` that has examples of its own."""
    if isinstance(node, dict):
        if isinstance(node.get("examples"), list):
            yield name, node
        for key, part in node.items():
            if key != "examples":
                yield from schemas_within(part, f"{name}/{key}")
    elif isinstance(node, list):
        for part in node:
            yield from schemas_within(part, name)
