"""Reports over HTTP: days closed and signed, files, who may read them, archives proved offline."""

import csv
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from shared.fiscal.canonical import canonical_hash
from tests.support.house import House, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import until

Json = dict[str, Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    with own_house(
        "reports", functions=("reports", "invoices", "merchants"), invoice_key_file=str(key)
    ) as house:
        yield house


@pytest.fixture
def outlet(house: House) -> Outlet:
    return Outlet(house)


def closed(outlet: Outlet) -> Json:
    """Today's Z, once its entry is signed."""
    asked = outlet.merchant.post("/reports", {"type": "z", "outlet_id": outlet.outlet_id})
    assert asked.status_code == 201, asked.text
    path = f"/reports/{asked.json()['id']}"
    bearer = {"Authorization": f"Bearer {outlet.house.stack.keys['internal_token']}"}

    def signed() -> Json | None:
        # As cron does, which in a stack this young may not have begun.
        outlet.house.http.post("/invoices/sign", headers=bearer).raise_for_status()
        report = outlet.merchant.api.get(path).raise_for_status().json()
        return dict(report) if report["status"] == "signed" else None

    return until(signed, f"{path} signed")


def test_closed_day_is_signed_and_says_what_was_sold(outlet: Outlet) -> None:
    for _ in range(2):
        outlet.sealed()

    z = closed(outlet)

    assert z["report"]["grand_totals"][0]["net"]["total"] == "2320.00"
    assert z["report"]["closing_hash"] == z["sealed"]["previous_hash"]
    assert canonical_hash(z["report"]) == z["sealed"]["canonical_payload_hash"]
    listed = outlet.merchant.api.get("/reports", params={"outlet_id": outlet.outlet_id}).json()
    assert listed["data"] == [z]


def test_day_is_closed_once_over_http(outlet: Outlet) -> None:
    z = closed(outlet)

    again = outlet.merchant.post("/reports", {"type": "z", "outlet_id": outlet.outlet_id})

    assert (again.status_code, again.json()["code"]) == (409, "40921")
    assert again.json()["report_id"] == z["id"]


@pytest.mark.parametrize(
    ("format_", "media_type", "begins"),
    [
        ("json", "application/json", b'{"id"'),
        ("csv", "text/csv; charset=utf-8", b"section,"),
        ("pdf", "application/pdf", b"%PDF"),
    ],
)
def test_report_is_the_same_file_every_time(
    format_: str, media_type: str, begins: bytes, outlet: Outlet
) -> None:
    outlet.sealed()
    z = closed(outlet)
    path = f"/reports/{z['id']}/download?format={format_}"

    first, second = outlet.merchant.api.get(path), outlet.merchant.api.get(path)

    assert first.status_code == 200
    assert first.content == second.content
    assert first.content.startswith(begins)
    assert first.headers["Content-Type"] == media_type
    assert first.headers["Content-Disposition"].endswith(f'"{z["fiscal_number"]}.{format_}"')


def test_csv_has_a_row_for_every_group(outlet: Outlet) -> None:
    outlet.sealed()
    z = closed(outlet)

    text = outlet.merchant.api.get(f"/reports/{z['id']}/download?format=csv").text
    rows = [row for row in csv.DictReader(StringIO(text)) if row["section"] == "tax_totals"]

    assert len(rows) == 14
    assert [row for row in rows if row["name"] == "TG03"] == [
        {
            "section": "tax_totals",
            "name": "TG03",
            "value": "",
            "rate": "0.16",
            "currency": "CDF",
            "sales": "1000.00",
            "sales_tax": "160.00",
            "credits": "0.00",
            "credits_tax": "0.00",
            "net": "1000.00",
            "net_tax": "160.00",
        }
    ]


def test_reports_belong_to_their_owner_and_are_not_for_cashiers(
    outlet: Outlet, house: House
) -> None:
    z = closed(outlet)
    path = f"/reports/{z['id']}"

    stranger = house.merchant().api
    cashier = house.client(outlet.merchant.token("cashier"))
    auditor = house.client(outlet.merchant.token("auditor"))

    assert stranger.get(path).status_code == 404
    assert stranger.get("/reports").json()["data"] == []
    assert cashier.get(path).json()["code"] == "40311"
    assert auditor.get(path).json()["id"] == z["id"]
    refused = auditor.post(
        "/reports",
        json={"type": "z", "outlet_id": outlet.outlet_id},
        headers={"Idempotency-Key": "k"},
    )
    assert refused.json()["code"] == "40311"


def test_person_of_one_outlet_sees_no_report_of_another(outlet: Outlet, house: House) -> None:
    other = Outlet(house, outlet.merchant)
    mine, theirs = closed(outlet), closed(other)
    token = outlet.merchant.token("finance")
    house.books.run(
        "update public.memberships set outlet_id = %s"
        " where tenant_id = %s and app_role = 'finance'",
        outlet.outlet_id,
        outlet.merchant.tenant_id,
    )
    finance = house.client(token)

    seen = finance.get("/reports").json()["data"]

    assert [report["id"] for report in seen] == [mine["id"]]
    assert finance.get(f"/reports/{theirs['id']}").status_code == 404
