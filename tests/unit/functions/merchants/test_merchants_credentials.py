import base64
import json
from typing import Any

import httpx
import pytest
import respx
from fastapi import FastAPI

from shared.rails.instructions import credentials_context
from shared.vault import SealBroken, Vault
from tests.unit.functions.merchants.pretend import (
    INTERNAL_TOKEN,
    TENANT_ID,
    DataApi,
    answer,
    vault_of,
)

PAY_BILL = {
    "consumer_key": "consumer-key-0123456789",
    "consumer_secret": "consumer-secret-0123456789",
    "passkey": "passkey-0123456789",
    "shortcode": "600174",
}
STORED = {"rail": "mpesa", "object": "rail_credentials", "revision": 1}
NOTHING_STORED = answer({"data": []})
LIVE = {"x-stalela-environment": "production"}
INTERNAL = {"Authorization": f"Bearer {INTERNAL_TOKEN}"}
BAD_KEYS = {"errorCode": "400.008.01", "errorMessage": "Invalid Authentication passed"}


def row(vault: Vault, tenant_id: str = TENANT_ID) -> dict[str, Any]:
    """A row of rails.claim_reseal, sealed by `vault`."""
    context = credentials_context(tenant_id, "mpesa", "sandbox")
    return {
        "tenant_id": tenant_id,
        "environment": "sandbox",
        "rail": "mpesa",
        "revision": 3,
        "sealed": vault.seal(json.dumps(PAY_BILL).encode(), context),
    }


@pytest.fixture
def old_vault() -> Vault:
    """The vault before the rotation: it knows master key 1 alone."""
    return vault_of("1")


@pytest.fixture(autouse=True)
def _willing(data_api: DataApi) -> None:
    data_api.will("rails.list_credentials", NOTHING_STORED)
    data_api.will("rails.put_credentials", answer(STORED, 201))


async def test_credentials_are_tried_at_the_rail_then_stored_sealed(
    client: httpx.AsyncClient, data_api: DataApi, daraja: respx.Route, vault: Vault
) -> None:
    answered = await client.put("/credentials/mpesa", json=PAY_BILL)

    call = data_api.the("rails.put_credentials")
    login = base64.b64encode(
        f"{PAY_BILL['consumer_key']}:{PAY_BILL['consumer_secret']}".encode()
    ).decode()
    context = credentials_context(TENANT_ID, "mpesa", "sandbox")
    assert (answered.status_code, answered.json()) == (201, STORED)
    assert daraja.calls.last.request.headers["authorization"] == f"Basic {login}"
    assert daraja.calls.last.request.url.host == "sandbox.daraja.test"
    assert json.loads(vault.open(call.args["sealed"], context)) == PAY_BILL
    assert (call.args["tenant_id"], call.args["environment"]) == (TENANT_ID, "sandbox")
    assert (call.args["key_version"], call.args["tested"]) == (2, True)
    assert call.args["masked"] == {
        "consumer_key": "******6789",
        "consumer_secret": "******",
        "passkey": "******",
        "shortcode": "600174",
        "type": "paybill",
    }
    assert PAY_BILL["consumer_secret"] not in str(call.args)


async def test_production_credentials_are_tried_in_production_and_open_nowhere_else(
    client: httpx.AsyncClient, data_api: DataApi, daraja: respx.Route, vault: Vault
) -> None:
    await client.put("/credentials/mpesa", json=PAY_BILL, headers=LIVE)

    sealed = data_api.the("rails.put_credentials").args["sealed"]
    assert daraja.calls.last.request.url.host == "production.daraja.test"
    assert vault.open(sealed, credentials_context(TENANT_ID, "mpesa", "production"))
    with pytest.raises(SealBroken):
        vault.open(sealed, credentials_context(TENANT_ID, "mpesa", "sandbox"))


async def test_credentials_the_rail_refuses_are_not_stored(
    client: httpx.AsyncClient, data_api: DataApi, daraja: respx.Route
) -> None:
    daraja.respond(400, json=BAD_KEYS)

    answered = await client.put("/credentials/mpesa", json=PAY_BILL)

    assert (answered.status_code, answered.json()["code"]) == (422, "42263")
    assert "consumer key or secret" in answered.json()["detail"]
    assert answered.json()["rail_code"] == "400.008.01"
    assert "rails.put_credentials" not in data_api.called()


async def test_credentials_are_not_stored_while_the_rail_cannot_be_asked(
    client: httpx.AsyncClient, data_api: DataApi, daraja: respx.Route
) -> None:
    daraja.mock(side_effect=httpx.ConnectError("down"))

    answered = await client.put("/credentials/mpesa", json=PAY_BILL)

    assert (answered.status_code, answered.json()["code"]) == (503, "50302")
    assert int(answered.headers["retry-after"]) > 0
    assert "nothing was stored" in answered.json()["detail"]
    assert "rails.put_credentials" not in data_api.called()


async def test_credentials_are_stored_untried_when_told_so(
    client: httpx.AsyncClient, data_api: DataApi, daraja: respx.Route
) -> None:
    answered = await client.put("/credentials/mpesa?test=false", json=PAY_BILL)

    assert answered.status_code == 201
    assert daraja.call_count == 0
    assert data_api.the("rails.put_credentials").args["tested"] is False


async def test_somebody_who_may_not_store_credentials_cannot_try_them_out(
    client: httpx.AsyncClient, data_api: DataApi, daraja: respx.Route
) -> None:
    data_api.will_refuse("rails.list_credentials", "40311", "needs credentials:manage")

    answered = await client.put("/credentials/mpesa", json=PAY_BILL)

    assert (answered.status_code, answered.json()["code"]) == (403, "40311")
    assert daraja.call_count == 0


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_an_api_key_does_not_decide_where_the_money_goes(
    client: httpx.AsyncClient, data_api: DataApi, method: str
) -> None:
    answered = await client.request(
        method,
        "/credentials/mpesa",
        json=PAY_BILL,
        headers={"Authorization": "Bearer sk_test_leaked"},
    )

    assert (answered.status_code, answered.json()["code"]) == (403, "40301")
    assert data_api.called() == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"shortcode": "12"}, "/shortcode"),
        ({"passkey": ""}, "/passkey"),
        ({"consumer_key": 7}, "/consumer_key"),
        ({"pass_key": "typo"}, "/pass_key"),
    ],
)
async def test_malformed_credentials_are_refused_by_field_and_reach_nobody(
    client: httpx.AsyncClient,
    data_api: DataApi,
    daraja: respx.Route,
    changes: dict[str, Any],
    pointer: str,
) -> None:
    answered = await client.put("/credentials/mpesa", json=PAY_BILL | changes)

    assert answered.status_code == 400
    assert [error["pointer"] for error in answered.json()["errors"]] == [pointer]
    assert PAY_BILL["consumer_secret"] not in answered.text
    assert (data_api.called(), daraja.call_count) == ([], 0)


@pytest.mark.parametrize("body", [[], "text", None])
async def test_credentials_are_an_object(client: httpx.AsyncClient, body: object) -> None:
    answered = await client.put("/credentials/mpesa", json=body)

    assert (answered.status_code, answered.json()["code"]) == (400, "40001")


@pytest.mark.parametrize("rail", ["pigeon", "M-PESA"])
async def test_a_rail_that_does_not_exist_is_not_found(
    client: httpx.AsyncClient, rail: str
) -> None:
    answered = await client.put(f"/credentials/{rail}", json=PAY_BILL)

    assert (answered.status_code, answered.json()["code"]) == (404, "40401")


async def test_an_unknown_option_is_refused_by_name(client: httpx.AsyncClient) -> None:
    answered = await client.put("/credentials/mpesa?tested=false", json=PAY_BILL)

    assert (answered.status_code, answered.json()["code"]) == (400, "40003")


async def test_stored_credentials_are_opened_and_tried(
    client: httpx.AsyncClient, data_api: DataApi, daraja: respx.Route, old_vault: Vault
) -> None:
    data_api.will("rails.open_credentials", row(old_vault))
    data_api.will("rails.record_credentials_test", answer(STORED))

    answered = await client.post("/credentials/mpesa/test")

    assert (answered.status_code, answered.json()) == (200, STORED)
    assert daraja.call_count == 1
    assert data_api.the("rails.record_credentials_test").args == {"rail": "mpesa"}


async def test_a_refused_test_is_not_recorded_as_passed(
    client: httpx.AsyncClient, data_api: DataApi, daraja: respx.Route, vault: Vault
) -> None:
    data_api.will("rails.open_credentials", row(vault))
    daraja.respond(400, json=BAD_KEYS)

    answered = await client.post("/credentials/mpesa/test")

    assert (answered.status_code, answered.json()["code"]) == (422, "42263")
    assert data_api.called() == ["rails.open_credentials"]


async def test_reseal_is_for_the_platform_alone(client: httpx.AsyncClient) -> None:
    answered = await client.post("/reseal")

    assert (answered.status_code, answered.json()["code"]) == (401, "40102")


async def test_reseal_moves_credentials_under_the_current_key_until_none_is_left(
    client: httpx.AsyncClient, data_api: DataApi, old_vault: Vault
) -> None:
    first, second = row(old_vault, "tn_1"), row(old_vault, "tn_2")
    data_api.will("rails.claim_reseal", [first], [second], [])
    data_api.will("rails.record_reseal", True)

    answered = await client.post("/reseal", headers=INTERNAL)

    records = [call.args for call in data_api.calls if call.function == "rails.record_reseal"]
    context = credentials_context("tn_1", "mpesa", "sandbox")
    new_vault = vault_of("2")
    assert (answered.status_code, answered.json()) == (200, {"resealed": 2, "failed": 0})
    assert [(args["tenant_id"], args["key_version"]) for args in records] == [
        ("tn_1", 2),
        ("tn_2", 2),
    ]
    assert records[0]["revision"] == 3
    assert json.loads(new_vault.open(records[0]["sealed"], context)) == PAY_BILL
    assert {call.args["below_version"] for call in data_api.calls if "claim" in call.function} == {
        2
    }


async def test_what_does_not_open_keeps_nobody_else_from_a_new_seal(
    client: httpx.AsyncClient, data_api: DataApi, old_vault: Vault
) -> None:
    # Sealed for another tenant, so it opens for nobody; and it stays first in every claim.
    broken = row(old_vault, "tn_1") | {"tenant_id": "tn_0"}
    data_api.will("rails.claim_reseal", [broken], [broken, row(old_vault, "tn_2")], [broken])
    data_api.will("rails.record_reseal", True)

    answered = await client.post("/reseal", headers=INTERNAL)

    claims = [call.args for call in data_api.calls if call.function == "rails.claim_reseal"]
    assert answered.json() == {"resealed": 1, "failed": 1}
    assert [args["max_rows"] for args in claims] == [50, 51, 51]


async def test_credentials_replaced_meanwhile_are_not_counted(
    client: httpx.AsyncClient, data_api: DataApi, old_vault: Vault
) -> None:
    data_api.will("rails.claim_reseal", [row(old_vault)], [])
    data_api.will("rails.record_reseal", False)

    answered = await client.post("/reseal", headers=INTERNAL)

    assert answered.json() == {"resealed": 0, "failed": 0}


def test_the_document_names_every_answer(app: FastAPI) -> None:
    put = app.openapi()["paths"]["/credentials/{rail}"]["put"]

    assert set(put["responses"]) >= {"200", "201", "400", "401", "403", "404", "422", "429", "503"}
    assert "42263 CredentialsRefused" in put["responses"]["422"]["description"]
