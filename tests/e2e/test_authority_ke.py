"""Documents at KRA, from a till's request to the books of the simulator."""

import os
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from scripts.stack.etims.testing import TaxOffice
from tests.support.house import House, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import until

Json = dict[str, Any]
PIN = "P051234567Q"
DOCUMENTS = int(os.environ.get("FISCAL_DAY_DOCUMENTS", "60"))  # 500: the proof; 60: the same, soon
CREDITS = -(-DOCUMENTS // 12)  # of each of two branches, one to five sales
SALES = 5 * CREDITS


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = ("authority_sync", "invoices", "merchants")
    with own_house("authority-ke", functions=functions, invoice_key_file=str(key)) as house:
        yield house


@pytest.fixture
def kra(house: House) -> Iterator[TaxOffice]:
    with httpx.Client(base_url=house.stack.etims_url, trust_env=False) as http:
        office = TaxOffice(http)
        office.reset()
        yield office


class Till(Outlet):
    """A branch of a Kenyan taxpayer who agreed, with a device KRA installed."""

    jurisdiction, tin, zone = "KE", PIN, "Africa/Nairobi"

    def __init__(self, house: House, branch: str, beside: "Till | None" = None) -> None:
        super().__init__(house, beside.merchant if beside else None)
        self.owner = house.client(self.merchant.token())
        self.owner.put("/authority-sync/consent", json={"is_given": True}).raise_for_status()
        self.register(branch).raise_for_status()

    def register(self, branch: str, **facts: str) -> httpx.Response:
        given = {"branch_id": branch, "device_serial": "d", "default_item_class": "5059690800"}
        return self.owner.put(f"/authority-sync/devices/{self.outlet_id}", json=given | facts)

    def sale(self, price: str = "116.00", **members: Any) -> Json:
        """A sealed sale of one bag of sugar, tax included."""
        item = {
            "line_no": 1,
            "code": "SUGAR",
            "description": "Sugar",
            "kind": "goods",
            "quantity": "1",
            "unit_price": price,
        }
        document = self.document(
            jurisdiction="KE",
            merchant_tin=PIN,
            tax_group_manifest_version="KE-2023-07",
            price_mode="inclusive",
            items=[item],
            totals={"currency": "KES"},
            payments=[{"method": "mobile_money", "amount": price, "currency": "KES"}],
            **members,
        )
        return dict(self.seal(document).raise_for_status().json())

    def credit(self, sale: Json, price: str) -> Json:
        return self.sale(
            price,
            invoice_type="credit_note",
            original_fiscal_number=sale["fiscal_number"],
            credit_reason="returned_goods",
        )

    def report(self) -> None:
        """Have everything that waits go now."""
        self.house.books.run(
            "update sync.authority_sync_queue set next_attempt_at = now() where outlet_id = %s"
            " and status in ('PENDING', 'RETRY') and next_attempt_at < 'infinity'",
            self.outlet_id,
        )
        self.house.books.run(
            "update sync.authority_devices set held_until = now() where outlet_id = %s",
            self.outlet_id,
        )
        bearer = {"Authorization": f"Bearer {self.house.stack.keys['internal_token']}"}
        self.house.http.post("/authority-sync", headers=bearer).raise_for_status()

    def open(self) -> int:
        """How many documents are not at KRA."""
        return len(
            self.house.books.column(
                "select sync_id from sync.authority_sync_queue"
                " where outlet_id = %s and status <> 'SYNCED'",
                self.outlet_id,
            )
        )

    def settle(self) -> None:
        """Until KRA has everything."""

        def settled() -> bool:
            self.report()
            return self.open() == 0

        until(settled, f"{self.code} at KRA", 60)


_branches = count()


@pytest.fixture
def till(house: House, kra: TaxOffice) -> Till:
    return Till(house, f"{next(_branches):02d}")


def test_sale_is_at_kra_and_its_qr_is_the_one_to_print(till: Till, kra: TaxOffice) -> None:
    sale = till.sale()

    till.settle()

    (there,) = kra.books()
    assert (there["trdInvcNo"], there["totAmt"], there["taxAmtB"]) == (
        sale["fiscal_number"],
        116,
        16,
    )
    text = till.merchant.api.get(f"/invoices/{sale['id']}/receipt?format=text80").text
    assert there["rcptSign"] in text.replace("-", "")
    assert "etims-sbx.kra.go.ke" in text.replace("\n", "").replace(" ", "")


def test_a_device_with_wrong_facts_is_refused_by_name(till: Till) -> None:
    refused = till.register("1")

    assert refused.status_code == 422
    assert [error["pointer"] for error in refused.json()["errors"]] == ["/branch_id"]


def test_another_branch_is_refused_before_kra_gives_its_only_key(till: Till) -> None:
    branch = f"{next(_branches):02d}"

    refused = till.register(branch)
    till.owner.delete(f"/authority-sync/devices/{till.outlet_id}").raise_for_status()

    assert (refused.status_code, refused.json()["code"]) == (409, "40914")
    assert till.register(branch).status_code == 201


def test_a_day_of_two_branches_is_at_kra_once_whatever_is_lost(
    house: House, kra: TaxOffice
) -> None:
    head = Till(house, "07")
    branch = Till(house, "08", beside=head)
    documents = []
    for number in range(1, SALES + 1):
        for till in (head, branch):
            documents.append(sold := till.sale(f"{100 + number}.{number % 100:02d}"))
            if number % 5 == 0:
                documents.append(till.credit(sold, "50.00"))
    for fault in ("lost_answer", "unanswered", "late", "busy", "down", "lost_answer"):
        kra.arm(fault)

    head.settle()
    branch.settle()

    books = kra.books()
    assert sorted(one["trdInvcNo"] for one in books) == sorted(
        document["fiscal_number"] for document in documents
    )
    numbers = [one["invcNo"] for one in books]
    each = SALES + CREDITS
    assert numbers == [
        first + number for first in (700_000_001, 800_000_001) for number in range(each)
    ]
    assert sum(one["totAmt"] for one in books if one["rcptTyCd"] == "R") == 2 * CREDITS * 50
