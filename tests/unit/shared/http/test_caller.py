"""shared/http/caller.py: which credential opens which route, and what goes on to SQL."""

from collections.abc import AsyncIterator
from hashlib import sha256

import httpx
import pytest
from fastapi import FastAPI

from shared.http.user_token import User
from tests.unit.shared.http.kit import client_of, make_app

SECRET = "pi_secret_0123456789abcdef"
USER = User("7f1d8a52-9f5b-4b7e-8a43-0a1f0e6d2c11", "owner@shop.example", "tnt_01jd2y5x7h")


class Verifier:
    """Knows one token."""

    async def verify(self, token: str) -> User:
        assert token == "head.claims.signature"
        return USER


def bearer(token: str, **more: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", **more}


def sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()


@pytest.fixture
def app() -> FastAPI:
    app = make_app()
    app.state.token_verifier = Verifier()
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@pytest.mark.parametrize("key", ["sk_test_1", "sk_live_1", "pk_test_1", "pk_live_1"])
async def test_api_key_goes_on_as_its_hash_only(key: str, client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers=bearer(key))

    sent = answer.json()
    assert sent["x-stalela-key-hash"] == sha(key)
    assert sent["x-request-id"] == answer.headers["x-request-id"]
    assert key not in answer.text
    assert "x-stalela-environment" not in sent


async def test_scheme_is_read_in_any_case(client: httpx.AsyncClient) -> None:
    answer = await client.get("/", headers={"authorization": "bearer   sk_test_1"})

    assert answer.json()["x-stalela-key-hash"] == sha("sk_test_1")


@pytest.mark.parametrize("path", ["/", "/me"])
async def test_user_goes_on_with_the_claims_of_the_token(
    path: str, client: httpx.AsyncClient
) -> None:
    headers = bearer("head.claims.signature", **{"x-stalela-environment": "production"})

    sent = (await client.get(path, headers=headers)).json()

    assert sent["x-stalela-user-id"] == USER.user_id
    assert sent["x-stalela-user-email"] == USER.email
    assert sent["x-stalela-tenant-id"] == USER.tenant_id
    assert sent["x-stalela-environment"] == "production"
    assert "x-stalela-key-hash" not in sent


async def test_user_without_a_choice_works_in_the_sandbox(client: httpx.AsyncClient) -> None:
    sent = (await client.get("/me", headers=bearer("head.claims.signature"))).json()

    assert sent["x-stalela-environment"] == "sandbox"


async def test_headers_of_the_caller_cannot_pose_as_ours(client: httpx.AsyncClient) -> None:
    forged = {"x-stalela-key-hash": "f" * 64, "x-stalela-tenant-id": "tnt_other"}

    sent = (await client.get("/", headers=bearer("sk_test_1", **forged))).json()

    assert sent["x-stalela-key-hash"] == sha("sk_test_1")
    assert "x-stalela-tenant-id" not in sent


@pytest.mark.parametrize(
    ("path", "credential"),
    [
        ("/me", "head.claims.signature"),
        ("/", "sk_test_1"),
        ("/payer", "pk_test_1"),
        ("/watch?token=once", "ignored"),
    ],
)
async def test_unknown_environment_is_named_whoever_calls(
    client: httpx.AsyncClient, path: str, credential: str
) -> None:
    headers = bearer(credential, **{"x-stalela-environment": "staging"})

    answer = await client.get(path, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/x-stalela-environment"
    assert answer.json()["errors"][0]["in"] == "header"


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/", {}, "40101"),
        ("/", {"authorization": "Basic c2s6"}, "40101"),
        ("/", {"authorization": "Bearer"}, "40101"),
        ("/", {"authorization": "Bearer "}, "40101"),
        ("/", bearer("sb_publishable_1"), "40102"),
        ("/", bearer("SK_TEST_1"), "40102"),
        ("/me", {}, "40101"),
        ("/me", bearer("sk_live_1"), "40301"),
        ("/payer", {}, "40101"),
        ("/payer", bearer("pk_test_1", **{"x-client-secret": "short"}), "40102"),
        ("/payer", bearer("pk_test_1", **{"x-client-secret": "x" * 257}), "40102"),
        ("/watch", {}, "40101"),
    ],
)
async def test_credential_that_does_not_open_the_route_is_refused(
    path: str, headers: dict[str, str], code: str, client: httpx.AsyncClient
) -> None:
    answer = await client.get(path, headers=headers)

    assert answer.json()["code"] == code


async def test_payer_sends_a_key_and_the_intents_secret_as_hashes(
    client: httpx.AsyncClient,
) -> None:
    headers = bearer("pk_test_1", **{"x-client-secret": SECRET})

    answer = await client.get("/payer", headers=headers)

    assert answer.json()["x-stalela-key-hash"] == sha("pk_test_1")
    assert answer.json()["x-stalela-client-secret-hash"] == sha(SECRET)
    assert SECRET not in answer.text


async def test_stream_token_needs_no_other_credential(client: httpx.AsyncClient) -> None:
    sent = (await client.get("/watch?token=abc")).json()

    assert set(sent) == {"x-request-id", "traceparent"}


async def test_visitor_may_be_nobody_or_somebody(client: httpx.AsyncClient) -> None:
    nobody = (await client.get("/visit")).json()
    somebody = (await client.get("/visit", headers=bearer("sk_test_1"))).json()

    assert nobody["is_anonymous"] == "True"
    assert "x-stalela-key-hash" not in nobody
    assert somebody["is_anonymous"] == "False"
    assert somebody["x-stalela-key-hash"] == sha("sk_test_1")


@pytest.mark.parametrize("credential", ["nothing", "Basic abc", "sk_prod_1"])
async def test_visitor_with_a_wrong_credential_is_not_taken_for_nobody(
    credential: str, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/visit", headers=bearer(credential))

    assert answer.status_code == 401


@pytest.mark.parametrize("token", ["inside-one", "inside-two"])
async def test_platforms_token_opens_internal_routes_during_rotation(
    token: str, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/tick", headers=bearer(token))

    assert set(answer.json()) == {"x-request-id", "traceparent"}


@pytest.mark.parametrize("token", ["inside-three", "inside-on", "sk_test_1", "head.claims.sig"])
async def test_internal_routes_refuse_everything_else(
    token: str, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/tick", headers=bearer(token))

    assert answer.json()["code"] == "40102"


async def test_internal_routes_are_closed_without_any_token_configured() -> None:
    async with client_of(make_app(internal_tokens=[])) as client:
        answer = await client.post("/tick", headers=bearer("anything"))

    assert answer.status_code == 401
