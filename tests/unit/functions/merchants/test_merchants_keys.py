from hashlib import sha256
from typing import Any

import httpx
import pytest

from functions.merchants.key_secrets import make_key_secret
from shared.once import REPLAY_NOTE
from tests.unit.functions.merchants.pretend import DataApi, answer, key_row

KEY_ID = "key_01kaj3v7wvf4fr8mnp5sye2s6k"
OTHER_ID = "key_01kaj3v7wvf4fr8mnp5sye2s6m"
SHOP = {"name": "Shop", "scopes": ["payments:read"]}
KEY = {"Idempotency-Key": "k-1"}
LIVE = {"x-stalela-environment": "production"}


def hash_of(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


@pytest.mark.parametrize(
    ("kind", "environment", "prefix"),
    [
        ("secret", "sandbox", "sk_test_"),
        ("secret", "production", "sk_live_"),
        ("publishable", "sandbox", "pk_test_"),
        ("publishable", "production", "pk_live_"),
    ],
)
def test_a_secret_says_what_it_opens_and_carries_256_random_bits(
    kind: str, environment: str, prefix: str
) -> None:
    first, second = make_key_secret(kind, environment), make_key_secret(kind, environment)

    assert first.text.startswith(prefix)
    assert len(first.text.removeprefix(prefix)) == 43
    assert first.text != second.text
    assert first.last4 == first.text[-4:]
    assert first.hash == hash_of(first.text)
    assert first.text not in repr(first)


async def test_a_new_key_shows_its_secret_and_sql_never_sees_it(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.create_api_key", answer(key_row(), 201))

    answered = await client.post("/api-keys", json=SHOP, headers=KEY)

    call, secret = data_api.the("public.create_api_key"), answered.json()["secret"]
    assert answered.status_code == 201
    assert answered.headers["cache-control"] == "no-store"
    assert answered.json() == key_row() | {"secret": secret}
    assert secret.startswith("sk_test_")
    assert (call.args["key_hash"], call.args["last4"]) == (hash_of(secret), secret[-4:])
    assert secret not in str(call.args) + str(call.headers.raw)
    assert call.args["idempotency_key"] == "k-1"


async def test_a_replay_shows_the_key_without_a_secret_and_says_why(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will(
        "public.create_api_key", answer(key_row(), 201, **{"Idempotent-Replayed": "true"})
    )

    answered = await client.post("/api-keys", json=SHOP, headers=KEY)

    assert answered.status_code == 201
    assert answered.headers["idempotent-replayed"] == "true"
    assert answered.json() == key_row() | {"secret": None, "note": REPLAY_NOTE}


@pytest.mark.parametrize(
    ("headers", "body", "environment", "prefix"),
    [
        ({}, {}, "sandbox", "sk_test_"),
        (LIVE, {}, "production", "sk_live_"),
        ({}, {"environment": "production"}, "production", "sk_live_"),
        (LIVE, {"kind": "publishable"}, "production", "pk_live_"),
        ({"Authorization": "Bearer sk_test_x"}, {}, "sandbox", "sk_test_"),
        (
            {"Authorization": "Bearer sk_live_x"},
            {"environment": "production"},
            "production",
            "sk_live_",
        ),
    ],
)
async def test_a_key_is_made_where_its_maker_is(
    client: httpx.AsyncClient,
    data_api: DataApi,
    headers: dict[str, str],
    body: dict[str, Any],
    environment: str,
    prefix: str,
) -> None:
    data_api.will("public.create_api_key", answer(key_row(), 201))

    answered = await client.post("/api-keys", json=SHOP | body, headers=KEY | headers)

    assert data_api.the("public.create_api_key").args["environment"] == environment
    assert answered.json()["secret"].startswith(prefix)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"kind": "admin"}, "/kind"),
        ({"environment": "live"}, "/environment"),
        ({"expires_in": 59}, "/expires_in"),
        ({"expires_in": 60.5}, "/expires_in"),
        ({"scopes": "payments:read"}, "/scopes"),
        ({"rate_limit": 5}, "/rate_limit"),
    ],
)
async def test_a_key_is_refused_by_field(
    client: httpx.AsyncClient, body: dict[str, Any], pointer: str
) -> None:
    answered = await client.post("/api-keys", json=SHOP | body, headers=KEY)

    assert answered.status_code == 400
    assert answered.json()["errors"][0]["pointer"] == pointer


async def test_a_successor_is_of_the_kind_and_environment_of_the_former_key(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    former = key_row(id=OTHER_ID, kind="publishable", environment="production")
    data_api.will("public.list_api_keys", answer({"data": [key_row(), former]}))
    data_api.will("public.rotate_api_key", answer(key_row(rotated_from=OTHER_ID), 201))

    answered = await client.post(
        f"/api-keys/{OTHER_ID}/rotate", json={"overlap_s": 3600}, headers=KEY | LIVE
    )

    call, secret = data_api.the("public.rotate_api_key"), answered.json()["secret"]
    assert answered.status_code == 201
    assert secret.startswith("pk_live_")
    assert (call.args["key_hash"], call.args["last4"]) == (hash_of(secret), secret[-4:])
    assert (call.args["key_id"], call.args["overlap_s"]) == (OTHER_ID, 3600)


async def test_a_rotation_without_a_body_ends_the_former_key_at_once(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.list_api_keys", answer({"data": [key_row()]}))
    data_api.will("public.rotate_api_key", answer(key_row(), 201))

    await client.post(f"/api-keys/{KEY_ID}/rotate", headers=KEY)

    assert data_api.the("public.rotate_api_key").args["overlap_s"] == 0


async def test_a_key_that_is_not_here_is_not_rotated(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.list_api_keys", answer({"data": [key_row()]}))

    answered = await client.post(f"/api-keys/{OTHER_ID}/rotate", headers=KEY)

    assert (answered.status_code, answered.json()["code"]) == (404, "40401")
    assert data_api.called() == ["public.list_api_keys"]


async def test_a_revocation_answers_with_the_revoked_key(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.revoke_api_key", answer(key_row(status="revoked")))

    answered = await client.delete(f"/api-keys/{KEY_ID}")

    assert answered.json()["status"] == "revoked"
    assert data_api.the("public.revoke_api_key").args == {"key_id": KEY_ID}


async def test_an_impossible_key_id_is_not_found(client: httpx.AsyncClient) -> None:
    answered = await client.delete("/api-keys/key_1")

    assert (answered.status_code, answered.json()["code"]) == (404, "40401")
