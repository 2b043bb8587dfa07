"""shared/db.py: what goes to the Data API, and what each of its answers becomes."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import respx

from shared import errors
from shared.db import Answer, Database
from shared.errors import DependencyUnavailable, InternalError, StalelaError
from shared.http.caller import Caller
from shared.http.metrics import Metrics
from tests.unit.shared.http.kit import settings

URL = "http://data.test/rpc/create_intent"
CREATE = "payments.create_intent"
ALICE = Caller("req_a", "00-a", key_hash="a" * 64)
BOB = Caller("req_b", "00-b", key_hash="b" * 64)
ROW = {"status": 201, "body": '{"id":"pi_1", "amount":"1.00"}', "headers": {"RateLimit-Limit": "9"}}


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    database = Database(settings(data_api_key="publishable"))
    yield database
    await database.aclose()


def refusal(code: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "message": "no", "details": None, "hint": None, **more}


@respx.mock
async def test_call_carries_schema_role_arguments_and_caller(db: Database) -> None:
    route = respx.post(URL).respond(json=ROW)

    await db.call(CREATE, {"amount_minor": 2**53 + 1, "currency": "KES"}, ALICE)

    sent = route.calls.last.request
    assert json.loads(sent.content) == {"amount_minor": 2**53 + 1, "currency": "KES"}
    assert sent.headers["content-profile"] == "payments"
    assert sent.headers["authorization"] == "Bearer role-token"
    assert sent.headers["apikey"] == "publishable"
    assert sent.headers["x-stalela-key-hash"] == "a" * 64
    assert (sent.headers["x-request-id"], sent.headers["traceparent"]) == ("req_a", "00-a")


@respx.mock
async def test_one_callers_headers_never_reach_anothers_call(db: Database) -> None:
    route = respx.post(URL).respond(json=ROW)

    await db.call(CREATE, {}, ALICE)
    await db.call(CREATE, {}, Caller("req_c", "00-c"))

    sent = route.calls.last.request
    assert sent.headers["x-request-id"] == "req_c"
    assert "x-stalela-key-hash" not in sent.headers


@respx.mock
async def test_schemas_share_one_pool_and_keep_their_profile(db: Database) -> None:
    payments = respx.post(URL).respond(json=ROW)
    rails = respx.post("http://data.test/rpc/claim_queries").respond(json=[{"transfer_id": "tr_1"}])

    rows = await db.call("rails.claim_queries", {"max_rows": 5}, ALICE)
    await db.call(CREATE, {}, BOB)

    assert rows == [{"transfer_id": "tr_1"}]
    assert rails.calls.last.request.headers["content-profile"] == "rails"
    assert payments.calls.last.request.headers["content-profile"] == "payments"


@respx.mock
async def test_answer_is_sent_on_byte_for_byte(db: Database) -> None:
    respx.post(URL).respond(json=ROW)

    response = (await db.answer(CREATE, {}, ALICE)).response()

    assert response.status_code == 201
    assert response.body == b'{"id":"pi_1", "amount":"1.00"}'
    assert response.headers["ratelimit-limit"] == "9"
    assert response.headers["content-type"] == "application/json"


def test_answer_may_name_its_own_type_or_have_no_body() -> None:
    text = Answer(200, b"ok", {"Content-Type": "text/plain"}).response()
    nothing = Answer(204, b"").response()

    assert text.headers["content-type"] == "text/plain"
    assert "content-type" not in nothing.headers


@pytest.mark.parametrize("row", [None, {"status": None, "body": None, "headers": None}])
def test_null_composite_is_no_answer(row: dict[str, None] | None) -> None:
    assert Answer.from_row(row) is None


@respx.mock
async def test_void_function_returns_nothing_to_read(db: Database) -> None:
    respx.post("http://data.test/rpc/release_submission").respond(204)

    assert await db.call("payments.release_submission", {}, ALICE) == []


@respx.mock
async def test_refusal_of_sql_becomes_its_class(db: Database) -> None:
    hint = json.dumps({"current_state": "succeeded", "allowed": [], "retry_after": 3})
    respx.post(URL).respond(
        409, json=refusal("PT409", details="40911", message="cannot be canceled", hint=hint)
    )

    with pytest.raises(errors.InvalidTransition) as refused:
        await db.call(CREATE, {}, ALICE)

    assert refused.value.message == "cannot be canceled"
    assert refused.value.retry_after == 3
    assert refused.value.extras == {"current_state": "succeeded", "allowed": []}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, refusal("PGRST000"), DependencyUnavailable),
        (503, refusal("PGRST001"), DependencyUnavailable),
        (503, refusal("PGRST002"), DependencyUnavailable),
        (504, refusal("PGRST003"), DependencyUnavailable),
        (500, refusal("57014"), DependencyUnavailable),
        (500, refusal("57P01"), DependencyUnavailable),
        (503, refusal("53300"), DependencyUnavailable),
        (503, refusal("08006"), DependencyUnavailable),
        (500, refusal(""), DependencyUnavailable),  # seen when Postgres dies under a statement
        (500, refusal("40P01"), DependencyUnavailable),
        (500, refusal("55P03"), DependencyUnavailable),
        (502, "<html>bad gateway</html>", DependencyUnavailable),
        (500, "", DependencyUnavailable),
        (401, refusal("PGRST301"), InternalError),
        (401, refusal("PGRST303"), InternalError),
        (404, refusal("PGRST202"), InternalError),
        (403, refusal("42501"), InternalError),
        (409, refusal("23505", details="Key (phone)=(254712345678) exists"), InternalError),
        (400, refusal("P0001", message="254712345678"), InternalError),
        (409, refusal("PT409", details="not a code", message="254712345678"), InternalError),
        (404, "<html>no such host</html>", InternalError),
        (400, refusal("22P05"), errors.InvalidRequest),
        (400, refusal("22021"), errors.InvalidRequest),
    ],
)
@respx.mock
async def test_other_errors_say_whose_fault_it_is_and_nothing_more(
    status: int,
    body: dict[str, Any] | str,
    kind: type[StalelaError],
    db: Database,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    route = respx.post(URL).respond(status, content=content)

    with pytest.raises(StalelaError) as failed:
        await db.call(CREATE, {}, ALICE)

    assert type(failed.value) is kind
    assert route.call_count == 1
    assert (failed.value.retry_after == 1) is (kind is DependencyUnavailable)
    assert "254712345678" not in failed.value.message + capsys.readouterr().out


@pytest.mark.parametrize(
    "broken",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("2 s"),
        httpx.ReadTimeout("9 s"),
        httpx.RemoteProtocolError("closed"),
        httpx.PoolTimeout("busy"),
    ],
)
@respx.mock
async def test_broken_transport_is_unavailable(broken: Exception, db: Database) -> None:
    respx.post(URL).mock(side_effect=broken)

    with pytest.raises(DependencyUnavailable):
        await db.call(CREATE, {}, ALICE)


DEAD = [
    httpx.Response(503, json=refusal("PGRST001")),
    httpx.Response(500, json=refusal("57P01")),
    httpx.RemoteProtocolError("closed"),
    httpx.ConnectError("refused"),
]


@pytest.mark.parametrize("first", DEAD)
@respx.mock
async def test_idempotent_call_survives_one_dead_connection(
    first: httpx.Response | Exception, db: Database
) -> None:
    route = respx.post(URL).mock(side_effect=[first, httpx.Response(200, json=ROW)])

    answer = await db.answer(CREATE, {}, ALICE, idempotent=True)

    assert (answer.status, route.call_count) == (201, 2)


@pytest.mark.parametrize("first", DEAD)
@respx.mock
async def test_call_that_may_not_be_repeated_is_made_once(
    first: httpx.Response | Exception, db: Database
) -> None:
    route = respx.post(URL).mock(side_effect=[first, httpx.Response(200, json=ROW)])

    with pytest.raises(DependencyUnavailable):
        await db.call(CREATE, {}, ALICE)

    assert route.call_count == 1


@respx.mock
async def test_a_patient_call_waits_for_a_database_that_comes_back(db: Database) -> None:
    away = [httpx.Response(503, json=refusal("57P03"))] * 4
    route = respx.post(URL).mock(side_effect=[*away, httpx.Response(200, json=ROW)])

    answer = await db.answer(CREATE, {}, ALICE, idempotent=True, patience_s=5)

    assert (answer.status, route.call_count) == (201, 5)


@respx.mock
async def test_a_patient_call_gives_up_when_its_patience_is_over(db: Database) -> None:
    route = respx.post(URL).respond(503, json=refusal("57P03"))

    with pytest.raises(DependencyUnavailable):
        await db.call(CREATE, {}, ALICE, idempotent=True, patience_s=1)

    assert 4 <= route.call_count <= 22  # twice each time, with pauses of a tenth between


@respx.mock
async def test_a_patient_call_does_not_repeat_a_refusal(db: Database) -> None:
    route = respx.post(URL).respond(422, json=refusal("PT422", details="42251"))

    with pytest.raises(errors.InvalidAmount):
        await db.call(CREATE, {}, ALICE, idempotent=True, patience_s=5)

    assert route.call_count == 1


@respx.mock
async def test_idempotent_call_is_repeated_once_only(db: Database) -> None:
    route = respx.post(URL).respond(503, json=refusal("PGRST001"))

    with pytest.raises(DependencyUnavailable):
        await db.call(CREATE, {}, ALICE, idempotent=True)

    assert route.call_count == 2


@pytest.mark.parametrize(
    "slow",
    [
        httpx.ReadTimeout("9 s"),
        httpx.Response(500, json=refusal("57014")),
        httpx.Response(504, json=refusal("PGRST003")),
        httpx.Response(409, json=refusal("PT409", details="40911")),
    ],
)
@respx.mock
async def test_slow_or_refused_call_is_not_repeated_even_when_idempotent(
    slow: httpx.Response | Exception, db: Database
) -> None:
    route = respx.post(URL).mock(side_effect=[slow, httpx.Response(200, json=ROW)])

    with pytest.raises(StalelaError):
        await db.call(CREATE, {}, ALICE, idempotent=True)

    assert route.call_count == 1


@respx.mock
async def test_refused_token_of_the_function_is_logged_for_the_operator(
    db: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    respx.post(URL).respond(401, json=refusal("PGRST303", message="JWT expired"))

    with pytest.raises(InternalError):
        await db.call(CREATE, {}, ALICE)

    line = json.loads(capsys.readouterr().out)
    assert (line["event"], line["rpc"], line["sqlstate"]) == (
        "data_api_token_refused",
        CREATE,
        "PGRST303",
    )


@respx.mock
async def test_calls_are_counted_by_function_and_outcome(db: Database) -> None:
    metrics = Metrics("payment_intents")
    metrics.activate()
    respx.post(URL).mock(
        side_effect=[
            httpx.Response(200, json=ROW),
            httpx.Response(409, json=refusal("PT409", details="40911")),
            httpx.ConnectError("refused"),
        ]
    )

    await db.call(CREATE, {}, ALICE)
    with pytest.raises(errors.InvalidTransition):
        await db.call(CREATE, {}, ALICE)
    with pytest.raises(DependencyUnavailable):
        await db.call(CREATE, {}, ALICE)

    text = metrics.render()[0].decode()
    assert f'outcome="ok",rpc="{CREATE}"}} 1.0' in text
    assert f'outcome="refused",rpc="{CREATE}"}} 1.0' in text
    assert f'outcome="unreachable",rpc="{CREATE}"}} 1.0' in text


@pytest.mark.parametrize(
    ("answered", "ready"),
    [
        (httpx.Response(200), True),
        (httpx.Response(401), True),
        (httpx.Response(503), False),
        (httpx.ConnectError("refused"), False),
        (httpx.ReadTimeout("slow"), False),
    ],
)
@respx.mock
async def test_readiness_is_an_answer_that_is_no_fault(
    answered: httpx.Response | Exception, ready: bool, db: Database
) -> None:
    respx.head("http://data.test/").mock(side_effect=[answered])

    assert await db.is_ready() is ready


@respx.mock
async def test_closed_database_opens_again_with_the_next_call(db: Database) -> None:
    respx.post(URL).respond(json=ROW)
    await db.call(CREATE, {}, ALICE)

    await db.aclose()

    assert (await db.answer(CREATE, {}, ALICE)).status == 201


async def test_making_a_database_opens_nothing() -> None:
    database = Database(settings())

    assert not database._clients
    await database.aclose()
