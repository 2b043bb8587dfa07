"""Reports over HTTP: days closed and signed, files, who may read them, archives proved offline."""

import csv
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest

from shared.canonical import canonical_hash
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


# --- what changes nothing


def test_x_is_the_day_so_far_of_one_cashier_if_asked(outlet: Outlet) -> None:
    outlet.sealed()
    outlet.sealed(cashier_id="cashier-2")
    api = outlet.merchant.api

    whole = api.get("/reports/x", params={"outlet_id": outlet.outlet_id}).json()
    part = api.get(
        "/reports/x", params={"outlet_id": outlet.outlet_id, "cashier_id": "cashier-2"}
    ).json()

    assert (whole["invoice_count"], part["invoice_count"]) == (2, 1)
    assert part["grand_totals"][0]["net"]["total"] == "1160.00"
    assert (whole["sequence_end"], "sequence_end" in part) == (2, False)
    assert whole["platform_status"] == {
        "signer": "ok",
        "pending_signature": 0,
        "pending_sync": 0,
        "next_sequence": 3,
    }
    assert len(outlet.chain()) == 2


def test_period_adds_up_the_outlets_of_a_taxpayer(outlet: Outlet, house: House) -> None:
    other = Outlet(house, outlet.merchant)
    for one in (outlet, other):
        one.sealed()
    day = closed(outlet)["business_date"]
    api = outlet.merchant.api

    before = api.get("/reports/periodic", params={"period": "month", "of": day}).json()
    closed(other)
    after = api.get("/reports/periodic", params={"period": "year", "of": day}).json()

    assert (before["invoice_count"], before["open_days"]) == (1, 1)
    assert (after["invoice_count"], after["open_days"], after["outlet_count"]) == (2, 0, 2)
    assert after["tax_return"]["net"] == {"tax_as_sealed": "320.00"}
    (taxed,) = [
        row for row in after["tax_return"]["by_treatment"] if row["treatment"] == "standard"
    ]
    assert taxed["net"] == {"base": "2000.00", "tax": "320.00"}


@pytest.mark.parametrize("path", ["/reports", "/invoices/drafts"])
def test_a_cursor_that_is_none_does_not_look_like_a_page(outlet: Outlet, path: str) -> None:
    answer = outlet.merchant.api.get(path, params={"cursor": "-1"})

    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/cursor")


def test_articles_come_by_pages_and_whole_as_csv(outlet: Outlet) -> None:
    numbers = [outlet.sealed()["fiscal_number"] for _ in range(3)]
    closed(outlet)
    api = outlet.merchant.api
    asked = {"outlet_id": outlet.outlet_id} | outlet.year()

    first = api.get("/reports/articles", params=asked | {"limit": 2}).json()
    rest = api.get(
        "/reports/articles", params=asked | {"cursor": first["pagination"]["next_cursor"]}
    ).json()
    whole = api.get("/reports/articles", params=asked | {"format": "csv"})

    assert [row["fiscal_number"] for row in (*first["data"], *rest["data"])] == numbers
    assert rest["pagination"]["next_cursor"] is None
    rows = list(csv.DictReader(StringIO(whole.text)))
    assert [(row["fiscal_number"], row["line_base"]) for row in rows] == [
        (number, "1000.00") for number in numbers
    ]


def test_declaration_has_the_security_elements_and_takes_credits_off(outlet: Outlet) -> None:
    sale = outlet.sealed()
    credit = outlet.sealed(
        invoice_type="credit_note",
        original_fiscal_number=sale["fiscal_number"],
        credit_reason="cancellation",
    )
    asked = {"outlet_id": outlet.outlet_id} | outlet.year()

    answer = outlet.merchant.api.get("/reports/declaration", params=asked)

    rows = list(csv.DictReader(StringIO(answer.text)))
    assert [(row["type"], row["total"], row["tax_TG03"]) for row in rows] == [
        ("FV", "1160.00", "160.00"),
        ("FA", "-1160.00", "-160.00"),
    ]
    assert rows[1]["original_fiscal_number"] == sale["fiscal_number"]
    assert [row["auth_code"] for row in rows] == [
        document["sealed"]["auth_code"] for document in (sale, credit)
    ]


@pytest.mark.parametrize(
    "asked",
    [
        {"period": "month"},
        {"of": "2026-11-21", "from": "2026-11-01"},
        {"from": "2026-11-02", "to": "2026-11-01"},
        {"from": "2024-01-01", "to": "2026-11-01"},
        {"period": "week", "of": "9999-12-31"},
        {},
    ],
)
def test_period_must_be_one(asked: Json, outlet: Outlet) -> None:
    answer = outlet.merchant.api.get("/reports/periodic", params=asked)

    assert answer.status_code in (400, 422), answer.text


def test_report_from_a_tampered_ledger_is_refused(outlet: Outlet, house: House) -> None:
    outlet.sealed()
    tampering = "update fiscal.invoices set payload = replace(payload, %s, %s) where outlet_id = %s"
    asked = {"outlet_id": outlet.outlet_id}
    tamper(house, tampering, "1160.00", "1.00", outlet.outlet_id)

    refused = outlet.merchant.api.get("/reports/x", params=asked)
    tamper(house, tampering, '"1.00"', '"1160.00"', outlet.outlet_id)

    assert (refused.status_code, refused.json()["code"]) == (500, "50011")
    assert "entry 1" in refused.json()["detail"]
    assert outlet.merchant.api.get("/reports/x", params=asked).status_code == 200


def tamper(house: House, query: str, *values: Any) -> None:
    """What the owner of the machine could do."""
    with house.books.connection.transaction():
        house.books.run("set local session_replication_role = replica")  # no trigger fires
        house.books.run(query, *values)
