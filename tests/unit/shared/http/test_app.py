"""The frame as a caller sees it: problems, headers, limits, health."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.unit.shared.http.kit import KEY, WRITE, client_of, make_app

JSON = {**WRITE, "content-type": "application/json"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(make_app()) as client:
        yield client


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["type"] == f"http://api.test/functions/v1/docs#{body['code']}"
    assert body["code"].startswith(str(answer.status_code))
    return body


def fields(body: dict[str, Any]) -> dict[str, str]:
    return {error["pointer"]: error["detail"] for error in body["errors"]}


async def test_good_request_gets_the_answer_of_sql_byte_for_byte(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/", json={"amount": "100"}, headers=WRITE)

    assert answer.status_code == 201
    assert answer.content.startswith(b'{"amount":"100.00","hash":"')
    assert answer.headers["ratelimit-limit"] == "60"
    assert answer.headers["content-type"] == "application/json"


async def test_head_is_answered_as_get(client: httpx.AsyncClient) -> None:
    get = await client.get("/address")
    head = await client.head("/address")

    assert head.status_code == 200
    assert head.headers["content-length"] == get.headers["content-length"]


async def test_every_wrong_field_is_named_with_its_rule(client: httpx.AsyncClient) -> None:
    order = {
        "currency": 4,
        "note": "too long",
        "count": 0,
        "tags": ["a", 2],
        "metadata": {"a/b~c": 1},
        "method": {"type": "mpesa", "phone": 712},
    }

    body = problem(await client.post("/", json=order, headers=WRITE))

    assert body["code"] == "40001"
    assert fields(body) == {
        "/amount": "is required",
        "/currency": "must be a string",
        "/note": "must have at most 5 characters",
        "/count": "must be at least 1",
        "/tags/1": "must be a string",
        "/metadata/a~1b~0c": "must be a string",
        "/method/phone": "must be a string",
    }


@pytest.mark.parametrize(
    ("order", "pointer", "rule"),
    [
        ({"amount": 100.0}, "/amount", "must be a string"),
        ({"amount": "1", "count": 1.5}, "/count", "must be a whole number"),
        ({"amount": "1", "count": True}, "/count", "must be a whole number"),
        ({"amount": "1", "method": {"type": "cash"}}, "/method", "must be one of 'mpesa', 'card'"),
        ({"amount": "1", "method": {}}, "/method", "needs 'type'"),
        ({"amount": "1", "method": {"type": "mpesa"}}, "/method/phone", "is required"),
        ({"amount": "1", "tags": "a"}, "/tags", "must be a list"),
        ({"amount": "1", "metadata": []}, "/metadata", "must be an object"),
        ([], "", "must be an object"),
        (None, "", "must be an object"),
    ],
)
async def test_wrong_field_is_named_by_pointer(
    order: object, pointer: str, rule: str, client: httpx.AsyncClient
) -> None:
    body = problem(await client.post("/", content=json.dumps(order), headers=JSON))

    assert fields(body) == {pointer: rule}


async def test_absent_body_is_asked_for(client: httpx.AsyncClient) -> None:
    body = problem(await client.post("/", headers=WRITE))

    assert fields(body) == {"": "is required"}


async def test_unknown_field_is_refused_by_name_before_anything_else(
    client: httpx.AsyncClient,
) -> None:
    order = {"amount": 1, "capture_method": "manual", "method": {"type": "mpesa", "pin": "1234"}}

    body = problem(await client.post("/", json=order, headers=WRITE))

    assert body["code"] == "40003"
    assert fields(body) == {
        "/capture_method": "'capture_method' is not a field of this request",
        "/method/pin": "'method/pin' is not a field of this request",
    }


@pytest.mark.parametrize(
    ("order", "name", "near"),
    [
        ({"Amount": "1"}, "Amount", "amount"),
        ({"NOTE": "x"}, "NOTE", "note"),
        ({"method": {"type": "mpesa", "phon": "0712"}}, "method/phon", "phone"),
        ({"parts": [{}, {"quantiy": 1}]}, "parts/1/quantiy", "quantity"),
        ({"méthode": {}}, "méthode", "method"),
    ],
)
async def test_misspelt_field_is_answered_with_the_nearest_one(
    order: object, name: str, near: str, client: httpx.AsyncClient
) -> None:
    body = problem(await client.post("/", json=order, headers=WRITE))

    rule = f"'{name}' is not a field of this request, did you mean '{near}'?"
    assert (body["detail"], fields(body)) == (rule, {f"/{name}": rule})


async def test_field_of_another_method_is_not_its_own_nearest(client: httpx.AsyncClient) -> None:
    order = {"amount": "1", "method": {"type": "mpesa", "phone": "0712", "number": "4"}}

    body = problem(await client.post("/", json=order, headers=WRITE))

    assert fields(body) == {"/method/number": "'method/number' is not a field of this request"}


async def test_unknown_and_wrong_query_parameters_say_where_they_stand(
    client: httpx.AsyncClient,
) -> None:
    unknown = problem(await client.get("/?limit=5", headers=KEY))
    wrong = problem(await client.get("/?page_size=500", headers=KEY))

    assert unknown["code"] == "40003"
    rule = "parameter 'limit' is not supported, only page_size, cursor"
    assert unknown["errors"] == [{"pointer": "/limit", "detail": rule, "in": "query"}]
    assert wrong["errors"] == [
        {"pointer": "/page_size", "detail": "must be at most 100", "in": "query"}
    ]


async def test_wrong_cursor_is_told_where_one_comes_from(client: httpx.AsyncClient) -> None:
    body = problem(await client.get("/?cursor=zzz", headers=KEY))

    rule = "pass pagination.next_cursor of the page before, unchanged"
    assert body["errors"] == [{"pointer": "/cursor", "detail": rule, "in": "query"}]


@pytest.mark.parametrize(
    ("path", "supported"), [("/?dry_run=1", "none is"), ("/watch?token=&dry_run=1", "only token")]
)
async def test_parameter_that_a_route_does_not_take_is_refused_by_name(
    path: str, supported: str, client: httpx.AsyncClient
) -> None:
    method = "GET" if "watch" in path else "POST"
    body = problem(await client.request(method, path, json={"amount": "1"}, headers=WRITE))

    rule = f"parameter 'dry_run' is not supported, {supported}"
    assert (body["code"], body["detail"]) == ("40003", rule)
    assert body["errors"] == [{"pointer": "/dry_run", "detail": rule, "in": "query"}]


async def test_parameter_that_somebody_added_to_a_link_is_ignored(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.get("/address?utm_source=mail")).status_code == 200


async def test_no_wrong_value_is_repeated(client: httpx.AsyncClient) -> None:
    order = {"amount": ["254712345678"], "note": "254712345678", "method": {"type": "254712345678"}}

    answer = await client.post("/", json=order, headers=WRITE)

    assert answer.status_code == 400
    assert "254712345678" not in answer.text


@pytest.mark.parametrize(
    "content",
    [b"{", b'{"amount":}', b"\xff\xfe", b"[" * 20_000, b'{"amount":' + b"9" * 5000 + b"}"],
)
async def test_body_that_is_no_json_is_refused(content: bytes, client: httpx.AsyncClient) -> None:
    body = problem(await client.post("/", content=content, headers=JSON))

    assert body["code"] == "40001"


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (b'{"amount": "1.00", "amount": "100.00"}', "/amount"),
        (b'{"amount": "1.00", "metadata": {"till": "4", "till": "5"}}', "/metadata/till"),
        (b'{"amount": "1.00", "am\\u006funt": "1.00"}', "/amount"),
        (b'{"amount": "1.00", "tags": ["a", {"b/c": 1, "b/c": 2}]}', "/tags/1/b~1c"),
        (b'{"metadata": {"till": 4, "till": 5}, "metadata": {}}', "/metadata"),
    ],
)
async def test_member_that_is_there_twice_is_refused_by_pointer(
    content: bytes, pointer: str, client: httpx.AsyncClient
) -> None:
    body = problem(await client.post("/", content=content, headers=JSON))

    assert (body["code"], body["detail"]) == (
        "40001",
        f"{pointer[1:]}: is there twice, send it once",
    )
    assert fields(body) == {pointer: "is there twice, send it once"}


async def test_member_that_is_there_twice_is_found_however_deep_it_stands(
    client: httpx.AsyncClient,
) -> None:
    content = b'{"a":' * 800 + b'{"b":1,"b":2}' + b"}" * 800

    body = problem(await client.post("/", content=content, headers=JSON))

    assert list(fields(body)) == ["/a" * 800 + "/b"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_body_of_another_type_is_refused(kind: str, client: httpx.AsyncClient) -> None:
    headers = {**WRITE, "content-type": kind}

    body = problem(await client.post("/", content=b'{"amount":"1"}', headers=headers))

    assert body["code"] == "41501"


async def test_amount_that_breaks_its_rule_is_unprocessable(client: httpx.AsyncClient) -> None:
    body = problem(await client.post("/", json={"amount": "1.005"}, headers=WRITE))

    assert (body["status"], body["detail"]) == (422, "amount: KES has 2 decimals")
    assert fields(body) == {"/amount": "KES has 2 decimals"}


@pytest.mark.parametrize("key", [None, "", "x" * 129, "two words", "caf\u00e9", "tab\t"])
async def test_idempotency_key_that_is_absent_or_odd_is_refused(
    key: str | None, client: httpx.AsyncClient
) -> None:
    headers = {**KEY} if key is None else {**KEY, "idempotency-key": key.encode("latin-1")}

    body = problem(await client.post("/", json={"amount": "1"}, headers=headers))  # type: ignore[arg-type]

    assert body["code"] == "40002"


async def test_longest_idempotency_key_is_taken(client: httpx.AsyncClient) -> None:
    headers = {**KEY, "idempotency-key": "!" + "~" * 127}

    answer = await client.post("/", json={"amount": "1"}, headers=headers)

    assert answer.status_code == 201


async def test_body_over_the_limit_is_refused_by_its_declared_length(
    client: httpx.AsyncClient,
) -> None:
    body = problem(await client.post("/", content=b" " * 65_537, headers=JSON))

    assert body["code"] == "41301"


async def test_body_over_the_limit_is_refused_when_it_comes_in_chunks(
    client: httpx.AsyncClient,
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(70):
            yield b" " * 1000

    body = problem(await client.post("/", content=chunks(), headers=JSON))

    assert body["code"] == "41301"


async def test_body_at_the_limit_is_read(client: httpx.AsyncClient) -> None:
    content = b'{"amount":"1"}'.ljust(65_536)

    assert (await client.post("/", content=content, headers=JSON)).status_code == 201


async def test_unknown_path_is_not_found(client: httpx.AsyncClient) -> None:
    assert problem(await client.get("/a/b/c"))["code"] == "40401"


@pytest.mark.parametrize(
    ("path", "allowed"), [("/", "GET, OPTIONS, POST"), ("/healthz", "GET, OPTIONS")]
)
async def test_wrong_method_lists_every_right_one(
    path: str, allowed: str, client: httpx.AsyncClient
) -> None:
    answer = await client.delete(path)

    assert problem(answer)["code"] == "40501"
    assert answer.headers["allow"] == allowed


async def test_missing_credential_is_asked_for(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")

    assert problem(answer)["code"] == "40101"
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_refusal_carries_its_extras_and_keeps_its_own_members(
    client: httpx.AsyncClient,
) -> None:
    body = problem(await client.get("/fail/state"))

    assert (body["code"], body["current_state"], body["allowed"]) == ("40911", "succeeded", [])


async def test_unavailable_rail_says_when_to_try_again(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fail/rail")

    assert problem(answer)["retry_after"] == 7
    assert answer.headers["retry-after"] == "7"


async def test_crash_is_a_problem_without_internals_and_logged_with_the_request_id(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = await client.get("/fail/crash")

    body = problem(answer)
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (body["code"], body["detail"]) == ("50000", "Internal error")
    assert logged[0]["event"] == "request_failed"
    assert logged[0]["request_id"] == body["request_id"]
    assert logged[0]["error_type"] == "RuntimeError"
    assert "254712345678" not in answer.text + json.dumps(logged)


async def test_answer_that_breaks_off_is_not_pretended_to_be_whole(
    client: httpx.AsyncClient,
) -> None:
    with pytest.raises(RuntimeError):
        await client.get("/stream")


async def test_every_answer_carries_id_timing_and_cors(client: httpx.AsyncClient) -> None:
    for answer in (await client.get("/address"), await client.get("/nowhere/at/all")):
        assert re.fullmatch("req_[0-9a-z]{26}", answer.headers["x-request-id"])
        assert answer.headers["server-timing"].startswith("total;dur=")
        assert float(answer.headers["x-stalela-processing-ms"]) >= 0
        assert answer.headers["access-control-allow-origin"] == "*"
        assert "idempotency-key" in answer.headers["access-control-allow-headers"]


@pytest.mark.parametrize(("sent", "kept"), [("order-1042-a", True), ("short", False)])
async def test_request_id_of_the_caller_is_kept_when_it_is_one(
    sent: str, kept: bool, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/address", headers={"x-request-id": sent})

    assert (answer.headers["x-request-id"] == sent) is kept


async def test_preflight_is_answered_without_a_credential(client: httpx.AsyncClient) -> None:
    answer = await client.options("/any/path", headers={"origin": "https://shop.example"})

    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "path", ["/functions/v1/payment-intents", "/functions/v1/payment-intents/"]
)
async def test_public_url_reaches_the_same_route(path: str, client: httpx.AsyncClient) -> None:
    answer = await client.post(path, json={"amount": "1"}, headers=WRITE)

    assert answer.status_code == 201


async def test_another_functions_url_is_not_ours(client: httpx.AsyncClient) -> None:
    answer = await client.get("/functions/v1/payment-intents-old/address")

    assert answer.status_code == 404


async def test_trace_of_the_caller_goes_on_with_our_span(client: httpx.AsyncClient) -> None:
    given = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    sent_on = (await client.get("/", headers={**KEY, "traceparent": given})).json()["traceparent"]

    assert sent_on.startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
    assert "00f067aa0ba902b7" not in sent_on


async def test_health_and_version_need_no_credential(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {"status": "ok"}
    assert (await client.get("/version")).json() == {
        "function": "payment_intents",
        "version": "1.2.3",
    }


@pytest.mark.parametrize("ready", [True, False])
async def test_readiness_asks_the_database(ready: bool) -> None:
    class Database:
        async def is_ready(self) -> bool:
            return ready

    app = make_app()
    app.state.database = Database()

    async with client_of(app) as client:
        answer = await client.get("/readyz")

    assert answer.status_code == (200 if ready else 503)
    assert ("retry-after" in answer.headers) is not ready


async def test_database_is_closed_when_the_app_stops() -> None:
    class Database:
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    app = make_app()
    app.state.database = Database()

    async with app.router.lifespan_context(app):
        assert not app.state.database.closed

    assert app.state.database.closed


async def test_address_over_its_limit_waits_and_the_others_do_not() -> None:
    app = make_app(ip_requests_per_s=1, ip_burst=2)

    async with client_of(app) as client, client_of(app, peer="192.0.2.2") as other:
        statuses = [(await client.get("/address")).status_code for _ in range(2)]
        refused = await client.get("/address")
        healthy = await client.get("/healthz")
        neighbour = await other.get("/address")

    assert statuses == [200, 200]
    assert problem(refused)["code"] == "42901"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-limit"] == "2"
    assert refused.headers["ratelimit-remaining"] == "0"
    assert (healthy.status_code, neighbour.status_code) == (200, 200)


async def test_limit_follows_the_proxys_entry_and_not_what_the_caller_wrote() -> None:
    app = make_app(ip_requests_per_s=1, ip_burst=1, trusted_proxies=1)
    first = {"x-forwarded-for": "198.51.100.1, 203.0.113.9"}
    second = {"x-forwarded-for": "198.51.100.2, 203.0.113.9"}

    async with client_of(app) as client:
        seen = await client.get("/address", headers=first)
        refused = await client.get("/address", headers=second)

    assert seen.json() == {"address": "203.0.113.9"}
    assert refused.status_code == 429


async def test_access_log_has_the_template_and_neither_path_nor_query(
    client: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.get("/fail/state?phone=254712345678")

    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["event"], line["route"], line["status"], line["code"]) == (
        "request_answered",
        "/fail/{how}",
        409,
        "40911",
    )
    assert line["function"] == "payment_intents"
    assert len(line["trace_id"]) == 32
    assert "254712345678" not in json.dumps(line)
