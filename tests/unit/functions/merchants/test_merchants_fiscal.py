"""The fiscal registry: what is printed on every document has nothing in it that cannot be seen."""

import httpx
import pytest
from fastapi import FastAPI

from tests.unit.functions.merchants.pretend import DataApi, answer, sign_in

TAXPAYER = {"jurisdiction": "CD", "legal_name": "Acacia Books SARL", "tin": "308123456"}
OUTLET = {"outlet_code": "KIN001", "name": "Gombe", "time_zone": "Africa/Kinshasa"}
TILL = {"kind": "terminal", "label": "pos-02", "name": "Till by the door"}
PRINTED = [
    ("PUT", "/fiscal", TAXPAYER, ("legal_name", "tin", "registration_number", "address")),
    ("POST", "/outlets", OUTLET, ("name", "address")),
    ("PUT", "/outlets/out_1/operators", TILL, ("name",)),
]


@pytest.mark.parametrize("text", ["100 \u202e001", "Acacia\x1b@", "Acacia\nPaid", "Acacia\0"])
@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [(method, path, body, field) for method, path, body, fields in PRINTED for field in fields],
)
async def test_a_printed_text_that_hides_something_is_refused(
    app: FastAPI,
    client: httpx.AsyncClient,
    method: str,
    path: str,
    body: dict[str, str],
    field: str,
    text: str,
) -> None:
    sign_in(app)

    answered = await client.request(method, path, json=body | {field: text})

    assert answered.status_code == 400
    assert answered.json()["errors"][0]["pointer"] == f"/{field}"
    assert "may not contain" in answered.json()["detail"]


async def test_a_printed_text_is_kept_in_its_composed_form(
    app: FastAPI, client: httpx.AsyncClient, data_api: DataApi
) -> None:
    sign_in(app)
    data_api.will("fiscal.put_merchant", answer({"id": "fm_1"}))

    await client.put("/fiscal", json=TAXPAYER | {"address": " 4 avenue de l'E\u0301quateur "})

    assert data_api.the("fiscal.put_merchant").args["address"] == "4 avenue de l'\u00c9quateur"
