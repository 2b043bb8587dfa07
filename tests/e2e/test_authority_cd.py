"""Documents at the DGI: each there exactly once whatever is lost, and nothing confirmed blindly."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest

from scripts.stack.emcf.testing import Dgi
from tests.support.house import House, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import until

Json = dict[str, Any]
_devices = count(1)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = ("authority_sync", "invoices", "merchants")
    with own_house("authority", functions=functions, invoice_key_file=str(key)) as house:
        yield house


@pytest.fixture
def dgi(house: House) -> Iterator[Dgi]:
    running = Dgi(house.stack.emcf_url)
    yield running
    running.calm()


class Till(Outlet):
    """An outlet of a taxpayer who agreed, with a device the DGI knows."""

    def __init__(self, house: House, dgi: Dgi, *, consents: bool = True) -> None:
        super().__init__(house)
        self.dgi, self.nim = dgi, f"CD{next(_devices):08d}"
        self.owner = house.client(self.merchant.token())
        self.register().raise_for_status()
        if consents:
            self.consent()

    def register(self, **facts: str) -> httpx.Response:
        given = self.dgi.device("308123456", self.nim) | facts
        return self.owner.put(f"/authority-sync/devices/{self.outlet_id}", json=given)

    def consent(self, *, is_given: bool = True) -> None:
        self.owner.put("/authority-sync/consent", json={"is_given": is_given}).raise_for_status()

    def credit(self, sale: Json, **members: Any) -> Json:
        return self.sealed(
            invoice_type="credit_note",
            original_fiscal_number=sale["fiscal_number"],
            credit_reason="returned_goods",
            **members,
        )

    def row(self, invoice: Json) -> Json:
        return self.house.books.row(
            "select * from sync.authority_sync_queue where invoice_id = %s", invoice["id"]
        )

    def status(self, invoice: Json) -> str:
        return str(self.row(invoice)["status"])

    def outcomes(self, invoice: Json) -> list[str]:
        """How every attempt ended, in order."""
        return list(
            self.house.books.column(
                "select outcome from sync.authority_ack_log join sync.authority_sync_queue"
                " using (sync_id) where invoice_id = %s and outcome is not null order by ack_id",
                invoice["id"],
            )
        )

    def report(self) -> None:
        """Have everything that waits go now, as often as it takes until nothing is left to do."""
        self.house.books.run(
            "update sync.authority_sync_queue set next_attempt_at = now()"
            " where outlet_id = %s and status in ('PENDING', 'RETRY')"
            " and next_attempt_at < 'infinity'",
            self.outlet_id,
        )
        self.house.books.run(
            "update sync.authority_devices set held_until = now() where outlet_id = %s",
            self.outlet_id,
        )
        poke(self.house)

    def wait(self, invoice: Json, status: str) -> Json:
        def reached() -> Json | None:
            row = self.row(invoice)
            if row["status"] == status:
                return row
            self.report()
            return None

        return until(reached, f"{invoice['fiscal_number']} {status}")

    def alerts(self) -> list[str]:
        return [kind for kind, _ in self.merchant.alerts()]


def poke(house: House, path: str = "") -> Json:
    bearer = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}
    return dict(house.http.post(f"/authority-sync{path}", headers=bearer).raise_for_status().json())


@pytest.fixture
def till(house: House, dgi: Dgi) -> Till:
    return Till(house, dgi)


# --- a document's way


def test_sale_is_confirmed_and_its_authority_elements_are_kept(till: Till, dgi: Dgi) -> None:
    sale = till.sealed()

    till.wait(sale, "SYNCED")

    [there] = dgi.books(till.nim)["confirmed"]
    elements = till.house.books.row(
        "select * from fiscal.authority_elements where invoice_id = %s", sale["id"]
    )
    assert (there["rn"], there["total"], there["vat"]) == (
        sale["fiscal_number"],
        "1160.00",
        "160.00",
    )
    assert elements["code"].replace("-", "") == there["code"]
    assert elements["qr"] == there["answer"]["qrCode"]
    assert elements["counters"] == {"counters": "1/1 FV", "nim": till.nim}
    assert abs((elements["authority_time"] - datetime.now(UTC)).total_seconds()) < 60
    assert till.outcomes(sale) == ["accepted"]
    resource = till.merchant.api.get(f"/invoices/{sale['id']}").json()
    assert resource["authority_sync_status"] == "SYNCED"
