"""A fiscal day of Zimbabwe through our API, the queue and FDMS: nothing lost, nothing twice."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import httpx
import pytest

from scripts.stack.fdms.testing import Fdms, speaking
from tests.support.house import House, at_once, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import until

Json = dict[str, Any]
TIN = "2000123456"
DOCUMENTS = int(os.environ.get("FISCAL_DAY_DOCUMENTS", "60"))  # 500: the proof; 60: the same, soon
CREDITS = DOCUMENTS // 10
SALES = DOCUMENTS - CREDITS
SELLERS = 4
_devices = count(51000)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = ("authority_sync", "invoices", "merchants")
    with own_house("authority-zw", functions=functions, invoice_key_file=str(key)) as house:
        yield house


@pytest.fixture
def fdms(house: House) -> Iterator[Fdms]:
    with speaking(house.stack.fdms_url, house.stack.fdms_root_file) as running:
        yield running
        running.disarm()


class Till(Outlet):
    """An outlet in Harare of a taxpayer who agreed, with a fiscal device."""

    jurisdiction, tin, zone = "ZW", TIN, "Africa/Harare"

    def __init__(self, house: House, fdms: Fdms) -> None:
        super().__init__(house)
        self.fdms, self.number = fdms, next(_devices)
        self.owner = house.client(self.merchant.token())
        fdms.sell(self.number)
        self.register().raise_for_status()
        self.owner.put("/authority-sync/consent", json={"is_given": True}).raise_for_status()

    def register(self) -> httpx.Response:
        facts = {
            "device_id": str(self.number),
            "serial_no": f"SN{self.number}",
            "activation_key": "12AXC178",
        }
        return self.owner.put(f"/authority-sync/devices/{self.outlet_id}", json=facts)

    def document(self, total: str = "23.00", price: str = "11.50", **members: Any) -> Json:
        item = {
            "line_no": 1,
            "code": "MAIZE",
            "description": "Maize meal",
            "kind": "goods",
            "quantity": "2",
            "unit_price": price,
            "hs_code": "11022000",
        }
        return {
            "schema_version": "1.0",
            "jurisdiction": "ZW",
            "merchant_tin": TIN,
            "outlet_id": self.outlet_id,
            "pos_terminal_id": "pos-1",
            "cashier_id": "cashier-1",
            "invoice_type": "sale",
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "tax_group_manifest_version": "ZW-2025-12",
            "price_mode": "inclusive",
            "client": {"classification": "individual"},
            "items": [item],
            "totals": {"currency": "ZWG"},
            "payments": [{"method": "cash", "amount": total, "currency": "ZWG"}],
        } | members

    def credit(self, sale: Json) -> Json:
        """All of a sale."""
        document = sale["document"]
        return self.sealed(
            invoice_type="credit_note",
            original_fiscal_number=sale["fiscal_number"],
            credit_reason="returned_goods",
            price_mode=document["price_mode"],
            payments=document["payments"],
        )

    def sells(self, seller: int) -> list[Json]:
        """One seller's part of the day: every second one taxed on top, one in five by wallet."""
        return [self._sale(number) for number in range(seller, SALES, SELLERS)]

    def _sale(self, number: int) -> Json:
        method = "mobile_money" if number % 5 == 0 else "cash"
        mode, total = ("exclusive", "26.57") if number % 2 else ("inclusive", "23.00")
        paid = [{"method": method, "amount": total, "currency": "ZWG"}]
        return self.sealed(total=total, price_mode=mode, payments=paid)

    def credits(self, sales: list[Json], seller: int) -> list[Json]:
        """One seller's credits: each of a sale of its own."""
        return [self.credit(sales[number]) for number in range(seller, CREDITS, SELLERS)]

    def end_the_day(self) -> None:
        """As if the day had begun yesterday, which only the decision to close it may see."""
        self.house.books.run(
            "update sync.fiscal_days set opened_at = '2026-01-01T08:00:00'"
            " where outlet_id = %s and closed_at is null",
            self.outlet_id,
        )
        self.house.books.value("select sync.close_days()")

    def days(self) -> list[Json]:
        return self.house.books.rows(
            "select * from sync.fiscal_days where outlet_id = %s order by day_no", self.outlet_id
        )

    def numbers(self) -> list[int]:
        """Of the receipts that we know are there."""
        return list(
            self.house.books.column(
                "select global_no from sync.fiscal_receipts where outlet_id = %s order by 1",
                self.outlet_id,
            )
        )

    def open_rows(self) -> int:
        return int(
            self.house.books.value(
                "select count(*) from sync.authority_sync_queue"
                " where outlet_id = %s and status <> 'SYNCED'",
                self.outlet_id,
            )
        )

    def hurry(self) -> None:
        """What waits for its next attempt goes now."""
        self.house.books.run(
            "update sync.authority_sync_queue set next_attempt_at = now()"
            " where outlet_id = %s and status = 'RETRY'",
            self.outlet_id,
        )
        self.house.books.run(
            "update sync.authority_devices set held_until = now() where outlet_id = %s",
            self.outlet_id,
        )
        bearer = {"Authorization": f"Bearer {self.house.stack.keys['internal_token']}"}
        self.house.http.post("/authority-sync", headers=bearer).raise_for_status()

    def settle(self) -> None:
        """Until everything is at FDMS."""

        def is_there() -> bool:
            if not self.open_rows():
                return True
            self.hurry()
            return False

        until(is_there, "everything at FDMS", 300)

    def there(self) -> Json:
        return self.fdms.device(self.number)


@pytest.fixture
def till(house: House, fdms: Fdms) -> Till:
    return Till(house, fdms)


def test_sale_is_a_receipt_and_its_qr_is_the_authoritys(till: Till) -> None:
    sale = till.sealed()

    till.settle()

    elements = till.house.books.row(
        "select * from fiscal.authority_elements where invoice_id = %s", sale["id"]
    )
    assert elements["qr"].startswith(f"https://fdmstest.zimra.co.zw/{till.number:010d}")
    assert elements["counters"]["receipt_global_no"] == 1
    resource = till.merchant.api.get(f"/invoices/{sale['id']}").json()
    assert resource["authority_sync_status"] == "SYNCED"


def test_day_with_credits_and_lost_answers_is_closed_with_the_authoritys_own_counters(
    house: House, fdms: Fdms
) -> None:
    till = Till(house, fdms)
    fdms.arm("lost_answer", "SubmitReceipt", times=5, every=DOCUMENTS // 6)
    fdms.arm("hang_up", "SubmitReceipt", times=2, every=DOCUMENTS // 3)
    fdms.arm("lost_answer", "CloseDay")
    fdms.arm("close_fails", "CloseDay", code="InternalError")
    sales = [one for some in at_once(SELLERS, till.sells) for one in some]
    credit_notes = [one for some in at_once(SELLERS, partial(till.credits, sales)) for one in some]

    till.settle()
    till.end_the_day()
    till.settle()

    assert len(sales) + len(credit_notes) == DOCUMENTS
    [day] = till.there()["days"]
    [ours] = till.days()
    assert (day["status"], day["receipts"]) == ("FiscalDayClosed", numbers(DOCUMENTS))
    assert [row for row in till.there()["findings"] if row["validationErrorColor"] == "Red"] == []
    assert (ours["receipts"], ours["closed_at"] is not None) == (DOCUMENTS, True)
    assert counters(ours["counters"]) == {tuple(row[:-1]): row[-1] for row in day["counters"]}
    assert till.numbers() == numbers(DOCUMENTS)


def test_next_day_begins_with_the_next_document(till: Till) -> None:
    till.sealed()
    till.settle()
    till.end_the_day()
    till.settle()

    till.sealed()
    till.settle()

    assert [(day["day_no"], day["closed_at"] is None) for day in till.days()] == [
        (1, False),
        (2, True),
    ]
    assert till.numbers() == [1, 2]


def test_day_is_ended_by_a_person_and_read_with_its_counters(till: Till) -> None:
    till.sealed()
    till.settle()
    path = f"/authority-sync/devices/{till.outlet_id}/days"

    ended = till.owner.post(f"{path}/close")
    till.settle()

    assert (ended.status_code, ended.json()["status"]) == (202, "closing")
    [day] = till.merchant.api.get(path).raise_for_status().json()["data"]
    assert (day["number"], day["status"], day["receipts"]) == (1, "closed", 1)
    assert day["counters"][0] == {
        "kind": "SaleByTax",
        "currency": "ZWG",
        "amount": "23.00",
        "tax_id": 517,
        "tax_percent": "15.5",
        "money_type": None,
    }
    again = till.owner.post(f"{path}/close")
    assert (again.status_code, again.json()["code"]) == (409, "40911")
    assert till.owner.delete(f"/authority-sync/devices/{till.outlet_id}").is_success


def test_device_with_an_open_day_is_not_retired(till: Till) -> None:
    till.sealed()
    till.settle()

    answer = till.owner.delete(f"/authority-sync/devices/{till.outlet_id}")

    assert (answer.status_code, answer.json()["code"]) == (409, "40911")


def test_days_are_read_page_by_page(till: Till) -> None:
    path = f"/authority-sync/devices/{till.outlet_id}/days"
    till.sealed()
    till.settle()
    till.end_the_day()
    till.sealed()
    till.settle()

    first = till.merchant.api.get(path, params={"limit": 1}).json()
    cursor = first["pagination"]["next_cursor"]
    second = till.merchant.api.get(path, params={"limit": 1, "cursor": cursor}).json()

    assert [day["number"] for day in (*first["data"], *second["data"])] == [2, 1]
    assert second["pagination"]["has_more"] is False


def test_receipt_that_would_be_red_is_rejected_and_the_others_go_on(till: Till) -> None:
    item = till.document()["items"][0]
    bad = till.sealed(items=[{name: item[name] for name in item if name != "hs_code"}])
    good = till.sealed()

    until(lambda: till.hurry() or till.numbers() == [1], "the second document at FDMS")

    row = till.house.books.row(
        "select status, last_error_code from sync.authority_sync_queue where invoice_id = %s",
        bad["id"],
    )
    assert row == {"status": "REJECTED", "last_error_code": "RCPT047"}
    assert "authority_rejected" in [kind for kind, _ in till.merchant.alerts()]
    resource = till.merchant.api.get(f"/invoices/{good['id']}").json()
    assert resource["authority_sync_status"] == "SYNCED"


def test_device_of_another_taxpayer_is_not_registered(house: House, fdms: Fdms) -> None:
    till = Till(house, fdms)
    fdms.sell(till.number, tin="2000999999")

    answer = till.register()

    assert (answer.status_code, answer.json()["code"]) == (422, "42290")


def numbers(most: int) -> list[int]:
    return list(range(1, most + 1))


def counters(rows: list[Json]) -> Json:
    """Ours, as the simulator shows its own: by kind, currency, tax, percent, money type."""
    return {
        tuple(
            "" if part is None else str(part) for part in (kind, currency, tax, percent, money)
        ): value
        for kind, currency, value, tax, percent, money in rows
    }
