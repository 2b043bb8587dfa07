import hashlib
import tomllib
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from tests.unit.functions.merchants.pretend import USER_ID, DataApi, answer, sign_in

ACACIA = {"name": "Acacia Books", "country": "KE"}
KEY = {"Idempotency-Key": "sign-up-1"}
API_KEY = "sk_test_invented"


async def test_sign_up_passes_the_person_on_without_a_tenant(
    app: FastAPI, client: httpx.AsyncClient, data_api: DataApi
) -> None:
    sign_in(app, tenant_id="")
    data_api.will("public.create_tenant", answer({"id": "tn_1", "name": "Acacia Books"}, 201))

    answered = await client.post("/", json=ACACIA, headers=KEY)

    call = data_api.the("public.create_tenant")
    assert answered.status_code == 201
    assert answered.json() == {"id": "tn_1", "name": "Acacia Books"}
    assert call.args["idempotency_key"] == "sign-up-1"
    assert (call.args["name"], call.args["country"]) == ("Acacia Books", "KE")
    assert len(call.args["body_hash"]) == 64
    assert call.headers["x-stalela-user-id"] == USER_ID
    assert call.headers["x-stalela-user-email"] == "ann@acacia.test"
    assert "x-stalela-tenant-id" not in call.headers


async def test_sign_up_needs_an_idempotency_key(client: httpx.AsyncClient) -> None:
    answered = await client.post("/", json=ACACIA)

    assert (answered.status_code, answered.json()["code"]) == (400, "40002")


async def test_sign_up_refuses_an_unknown_field_by_name(client: httpx.AsyncClient) -> None:
    answered = await client.post("/", json=ACACIA | {"plan": "unlimited"}, headers=KEY)

    assert (answered.status_code, answered.json()["code"]) == (400, "40003")
    assert answered.json()["errors"][0]["pointer"] == "/plan"


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", "  "), ("name", "x" * 201), ("country", "ke"), ("country", "KEN"), ("name", 7)],
)
async def test_sign_up_names_the_field_that_is_wrong(
    client: httpx.AsyncClient, field: str, value: object
) -> None:
    answered = await client.post("/", json=ACACIA | {field: value}, headers=KEY)

    assert answered.status_code == 400
    assert [error["pointer"] for error in answered.json()["errors"]] == [f"/{field}"]


async def test_sign_up_takes_no_api_key(client: httpx.AsyncClient) -> None:
    answered = await client.post(
        "/", json=ACACIA, headers=KEY | {"Authorization": f"Bearer {API_KEY}"}
    )

    assert (answered.status_code, answered.json()["code"]) == (403, "40301")


@pytest.mark.parametrize("email", ["", "x" * 250 + "@a.test"])
async def test_sign_up_needs_an_address_to_write_to(
    app: FastAPI, client: httpx.AsyncClient, email: str
) -> None:
    sign_in(app, tenant_id="", email=email)

    answered = await client.post("/", json=ACACIA, headers=KEY)

    assert (answered.status_code, answered.json()["code"]) == (422, "42262")


async def test_the_account_is_read_with_the_hash_of_a_key_and_never_with_the_key(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.get_account", answer({"account": {}}))

    answered = await client.get("/me", headers={"Authorization": f"Bearer {API_KEY}"})

    headers = data_api.the("public.get_account").headers
    assert answered.status_code == 200
    assert headers["x-stalela-key-hash"] == hashlib.sha256(API_KEY.encode()).hexdigest()
    assert API_KEY not in str(headers.raw)


async def test_the_account_is_for_somebody(client: httpx.AsyncClient) -> None:
    del client.headers["Authorization"]

    answered = await client.get("/me")

    assert (answered.status_code, answered.json()["code"]) == (401, "40101")


async def test_audit_passes_page_and_cursor_on(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.list_audit", answer({"data": []}))

    await client.get("/audit", params={"limit": 5, "cursor": "4711"})

    assert data_api.the("public.list_audit").args == {"page_size": 5, "page_after": "4711"}


@pytest.mark.parametrize(
    ("query", "code"), [("limit=0", "40001"), ("limit=101", "40001"), ("before=3", "40003")]
)
async def test_audit_refuses_a_parameter_by_name(
    client: httpx.AsyncClient, query: str, code: str
) -> None:
    answered = await client.get(f"/audit?{query}")

    assert (answered.status_code, answered.json()["code"]) == (400, code)
    assert answered.json()["errors"][0]["pointer"] == "/" + query.partition("=")[0]


async def test_the_environment_of_a_person_is_the_one_in_the_header(
    client: httpx.AsyncClient, data_api: DataApi
) -> None:
    data_api.will("public.get_account", answer({}))

    await client.get("/me", headers={"x-stalela-environment": "production"})

    assert data_api.the("public.get_account").headers["x-stalela-environment"] == "production"


def test_the_manifest_lists_the_routes_and_who_may_call_them(app: FastAPI) -> None:
    manifest = tomllib.loads(Path("functions/merchants/function.toml").read_text())
    schemes = {
        "user": {"UserToken"},
        "api-key or user": {"ApiKey", "UserToken"},
        "internal": {"InternalToken"},
    }

    documented = {
        f"{method.upper()} {path}": {name for option in operation["security"] for name in option}
        for path, operations in app.openapi()["paths"].items()
        for method, operation in operations.items()
    }

    assert documented == {route: schemes[who] for route, who in manifest["routes"].items()}
