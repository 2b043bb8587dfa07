"""Documents at the DGI: each there exactly once whatever is lost, and nothing confirmed blindly."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import jsonschema_rs
import pytest

from scripts.stack.emcf.testing import PENDING_MAX, Dgi
from tests.support.house import House, at_once, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import until

Json = dict[str, Any]
_devices = count(1)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = ("authority_sync", "events", "invoices", "merchants")
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

    def credit_of(self, sale: Json) -> Json:
        return self.document(
            invoice_type="credit_note",
            original_fiscal_number=sale["fiscal_number"],
            credit_reason="returned_goods",
        )

    def batch(self, documents: list[Json]) -> list[Json]:
        answer = self.merchant.post("/invoices/batch", {"invoices": documents}).raise_for_status()
        return [item["invoice"] for item in answer.json()["data"]]

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
        self.bring_forward()
        poke(self.house)

    def bring_forward(self) -> None:
        """What waits is due."""
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
    began = datetime.now(UTC)
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
    assert began.replace(microsecond=0) <= elements["authority_time"] <= datetime.now(UTC)
    assert till.outcomes(sale) == ["accepted"]
    resource = till.merchant.api.get(f"/invoices/{sale['id']}").json()
    assert resource["authority_sync_status"] == "SYNCED"


def test_merchant_hears_how_it_ended(till: Till, dgi: Dgi, house: House) -> None:
    schemas = jsonschema_rs.Draft202012Validator(
        house.http.get("/events/events.json").raise_for_status().json(), validate_formats=True
    )
    till.wait(till.sealed(), "SYNCED")
    dgi.settings(code="12")
    dgi.arm("submit", "reject")
    till.wait(till.sealed(), "REJECTED")

    answer = till.merchant.api.get("/events", params={"type": "invoice.*"}).raise_for_status()
    told = [event for event in answer.json()["data"] if ".sync." in event["type"]]

    for event in told:
        schemas.validate(event)
    success, rejected = (event["data"] for event in told)
    assert [event["type"] for event in told] == ["invoice.sync.success", "invoice.sync.rejected"]
    assert success["authority_code"].replace("-", "") == dgi.books(till.nim)["confirmed"][0]["code"]
    assert (rejected["authority_sync_status"], rejected["error_code"]) == ("REJECTED", "12")


def test_nothing_is_reported_without_a_device(house: House) -> None:
    sale = Outlet(house).sealed()

    assert sale["authority_sync_status"] == "NOT_APPLICABLE"
    assert sale["authority"] is None


def test_a_day_of_500_is_there_exactly_once_whatever_is_lost(till: Till, dgi: Dgi) -> None:
    dgi.settings(lose_every={"confirm": 9, "submit": 60, "status": 2})
    dgi.arm("confirm", "broken", 5)
    dgi.arm("submit", "down", 5)

    batches = at_once(4, lambda _: till.batch([till.document() for _ in range(100)]))
    sales = [sale for batch in batches for sale in batch]
    sealed = sales + till.batch([till.credit_of(sale) for sale in sales[::4]])

    def everything_arrived() -> bool:
        open_ = till.house.books.value(
            "select count(*) from sync.authority_sync_queue"
            " where outlet_id = %s and status <> 'SYNCED'",
            till.outlet_id,
        )
        if open_:
            dgi.advance(121)  # what was submitted and never confirmed expires there
            till.report()
        return not open_

    until(everything_arrived, "all 500 there", 300)
    there = dgi.books(till.nim)
    ours = {row["fiscal_number"]: row["document"]["totals"]["total"] for row in sealed}
    assert {row["rn"]: row["total"] for row in there["confirmed"]} == ours
    assert len(there["confirmed"]) == len(ours) == 500
    assert Counter(row["kind"] for row in there["confirmed"]) == {"FV": 400, "FA": 100}
    assert there["pending_max_seen"] <= PENDING_MAX
    kept = till.house.books.column(
        "select replace(code, '-', '') from fiscal.authority_elements where outlet_id = %s",
        till.outlet_id,
    )
    assert set(kept) == {row["code"] for row in there["confirmed"]}
    assert till.alerts() == []


def test_credit_waits_for_its_original_and_names_its_code(till: Till, dgi: Dgi) -> None:
    dgi.arm("submit", "down", 3)
    sale = till.sealed()
    credit = till.seal(till.credit_of(sale)).json()

    till.wait(credit, "SYNCED")

    first, second = dgi.books(till.nim)["confirmed"]
    assert (first["rn"], second["rn"]) == (sale["fiscal_number"], credit["fiscal_number"])
    assert second["reference"] == first["code"]


# --- what goes wrong there


@pytest.mark.parametrize("fault", ["lost", "broken"])
def test_confirmation_without_an_answer_is_repeated_and_counts_once(
    fault: str, till: Till, dgi: Dgi
) -> None:
    dgi.arm("confirm", fault)
    sale = till.sealed()

    till.wait(sale, "SYNCED")

    assert len(dgi.books(till.nim)["confirmed"]) == 1
    assert till.outcomes(sale) == ["unknown", "accepted"]


def test_worker_that_dies_while_it_confirms_is_resumed(till: Till, dgi: Dgi, house: House) -> None:
    dgi.settings(stall_s=3)
    dgi.arm("confirm", "stall")
    sale = till.sealed()

    def is_confirming() -> bool:
        if till.row(sale)["progress"] != {}:
            return True
        till.bring_forward()
        house.books.run("select public.poke('authority_sync')")  # nobody waits for its end
        return False

    until(is_confirming, "confirming")

    house.stack.kill("gateway")
    house.stack.wait_ready()
    house.books.run(
        "update sync.authority_sync_queue set lease_until = now() where invoice_id = %s", sale["id"]
    )
    till.wait(sale, "SYNCED")

    assert len(dgi.books(till.nim)["confirmed"]) == 1


def test_outcome_that_nobody_can_tell_is_never_sent_again_by_itself(till: Till, dgi: Dgi) -> None:
    dgi.settings(replays=False)
    dgi.arm("confirm", "lost")
    sale = till.sealed()

    till.wait(sale, "FAILED")

    assert len(dgi.books(till.nim)["confirmed"]) == 1
    assert till.alerts() == ["authority_outcome_unknown"]
    till.report()
    assert till.status(sale) == "FAILED"
    # Before the retry, whose attempt begins at once.
    dgi.settings(replays=True)
    asked_again = till.owner.post(
        f"/authority-sync/documents/{sale['id']}/retry", json={"reason": "It may answer now"}
    )
    assert asked_again.json()["status"] == "RETRY"
    till.wait(sale, "SYNCED")
    assert len(dgi.books(till.nim)["confirmed"]) == 1
    assert till.alerts() == []


def test_document_known_to_be_absent_is_sent_anew(till: Till, dgi: Dgi) -> None:
    dgi.settings(replays=False)
    dgi.arm("confirm", "lost")
    sale = till.sealed()
    till.wait(sale, "FAILED")

    till.owner.post(
        f"/authority-sync/documents/{sale['id']}/retry",
        json={"reason": "The portal does not list it", "known_absent": True},
    ).raise_for_status()
    till.wait(sale, "SYNCED")

    # The person was wrong, and did what only a person may do.
    assert len(dgi.books(till.nim)["confirmed"]) == 2


def test_other_totals_are_cancelled_and_rejected(till: Till, dgi: Dgi) -> None:
    dgi.arm("submit", "miscount")
    sale = till.sealed()

    row = till.wait(sale, "REJECTED")

    there = dgi.books(till.nim)
    assert (there["confirmed"], there["pending"]) == ([], 0)
    assert row["last_error_code"] == "TOTALS_DIFFER"
    assert "1160.01" in row["last_error"]
    assert till.alerts() == ["authority_rejected"]
    till.owner.post(
        f"/authority-sync/documents/{sale['id']}/retry", json={"reason": "Their mistake"}
    ).raise_for_status()
    till.wait(sale, "SYNCED")
    assert till.alerts() == []


def test_what_failed_in_an_outage_goes_again_at_one_word(till: Till, dgi: Dgi) -> None:
    dgi.settings(replays=False)
    sales = []
    for _ in range(2):  # each with a loss of its own: the other may ask again first
        dgi.arm("confirm", "lost")
        sales.append(till.sealed())
        till.wait(sales[-1], "FAILED")
    path = f"/authority-sync/devices/{till.outlet_id}/retry"

    dgi.settings(replays=True)
    done = till.owner.post(path, json={"reason": "The DGI answers again"})

    assert {name: done.json()[name] for name in ("retried", "still_failed")} == {
        "retried": 2,
        "still_failed": 0,
    }
    for sale in sales:
        till.wait(sale, "SYNCED")
    assert len(dgi.books(till.nim)["confirmed"]) == 2
    assert till.alerts() == []
    assert till.owner.post(path, json={"reason": "Once more"}).json()["retried"] == 0
    assert till.owner.post(path, json={}).status_code == 400


def test_rejection_is_final_until_a_person_decides(till: Till, dgi: Dgi) -> None:
    dgi.settings(code="12")
    dgi.arm("submit", "reject")
    sale = till.sealed()

    row = till.wait(sale, "REJECTED")

    assert (row["last_error_code"], row["attempts"]) == ("12", 1)
    withdrawn = till.owner.post(
        f"/authority-sync/documents/{sale['id']}/withdraw", json={"reason": "Corrected by hand"}
    )
    again = till.owner.post(
        f"/authority-sync/documents/{sale['id']}/retry", json={"reason": "No, do it"}
    )
    assert withdrawn.json()["status"] == "NOT_APPLICABLE"
    assert (again.status_code, again.json()["code"]) == (409, "40911")
    events = till.house.books.column(
        "select type from fiscal.events where subject_id = %s order by seq", sale["id"]
    )
    assert [type_ for type_ in events if type_] == ["invoice.sealed", "invoice.sync.rejected"]


def test_code_that_nobody_knows_is_a_persons_business(till: Till, dgi: Dgi) -> None:
    dgi.settings(code="77")
    dgi.arm("submit", "reject")

    till.wait(till.sealed(), "FAILED")

    assert till.alerts() == ["authority_code_unknown"]


def test_group_the_dgi_does_not_have_is_blocked_and_alarms(till: Till, dgi: Dgi) -> None:
    document = till.document("1050.00")
    document["items"][0] |= {"tax_group": "TG08", "kind": "goods"}
    sale = till.seal(document).json()

    row = till.wait(sale, "FAILED")

    assert row["last_error_code"] == "authority_mapping_missing"
    assert till.alerts() == ["authority_mapping_missing"]
    assert dgi.books(till.nim)["confirmed"] == []


def test_refused_token_holds_the_device_until_it_is_registered_again(till: Till, dgi: Dgi) -> None:
    dgi.arm("submit", "expired")
    first = till.sealed()
    until(lambda: till.status(first) == "RETRY", "refused")
    second = till.sealed()
    status = till.owner.get("/authority-sync/status").json()["outlets"][0]

    assert till.alerts() == ["authority_device_refused"]
    assert (status["backlog"], status["last_error_code"]) == (2, "HTTP_401")
    assert status["held_until"] is not None
    assert till.status(second) == "PENDING"  # it did not find out for itself

    assert till.register().status_code == 200
    till.wait(first, "SYNCED")
    till.wait(second, "SYNCED")
    assert till.alerts() == []


def test_silent_authority_is_asked_again_and_given_up_after_its_grace(
    till: Till, dgi: Dgi, house: House
) -> None:
    dgi.arm("submit", "down", 50)
    sale = till.sealed()
    until(lambda: till.status(sale) == "RETRY", "tried")

    house.books.run(
        "update sync.authority_sync_queue set next_attempt_at = now() + interval '1 hour',"
        " grace_from = now() - interval '73 hours' where invoice_id = %s",
        sale["id"],
    )
    house.books.run("select sync.beat()")

    assert till.status(sale) == "FAILED"
    assert till.alerts() == ["authority_sync_failed"]
    listed = till.owner.get("/authority-sync/documents", params={"status": "FAILED"}).json()
    assert [row["invoice_id"] for row in listed["data"]] == [sale["id"]]


# --- what people decide


def test_nothing_goes_before_the_taxpayer_agrees(house: House, dgi: Dgi) -> None:
    till = Till(house, dgi, consents=False)
    sale = till.sealed()
    till.report()

    assert till.status(sale) == "PENDING"
    assert dgi.books(till.nim)["confirmed"] == []

    till.consent()
    till.wait(sale, "SYNCED")


def test_kill_switch_stops_everything_and_sealing_goes_on(
    till: Till, dgi: Dgi, house: House
) -> None:
    operator = house.client(house.merchant().token("operator"))

    def switch(mode: str) -> httpx.Response:
        body = {"environment": "sandbox", "mode": mode, "reason": "Trouble at the DGI"}
        return operator.put("/authority-sync/switches/CD", json=body)

    switch("off").raise_for_status()
    sale = till.sealed()
    till.report()
    stopped = (till.status(sale), till.owner.get("/authority-sync/status").json())
    switch("on").raise_for_status()
    till.wait(sale, "SYNCED")

    assert sale["status"] == "fiscalized"
    assert (stopped[0], stopped[1]["outlets"][0]["mode"]) == ("PENDING", "off")
    assert till.owner.put("/authority-sync/switches/CD", json={}).status_code in (400, 422)
    refused = till.owner.put(
        "/authority-sync/switches/CD",
        json={"environment": "sandbox", "mode": "off", "reason": "I may not"},
    )
    assert refused.json()["code"] == "40311"


def test_read_only_asks_what_was_begun_and_begins_nothing(
    till: Till, dgi: Dgi, house: House
) -> None:
    dgi.arm("confirm", "lost")
    begun = till.sealed()
    until(lambda: till.row(begun)["progress"] != {} and till.status(begun) == "RETRY", "lost")
    house.books.run(
        "insert into sync.switches values ('CD', 'sandbox', 'read_only', 'watching', 'test')"
        " on conflict (jurisdiction, environment) do update set mode = 'read_only'"
    )
    fresh = till.sealed()

    till.wait(begun, "SYNCED")
    untouched = till.status(fresh)
    house.books.run("delete from sync.switches")
    till.wait(fresh, "SYNCED")

    assert untouched == "PENDING"


def test_what_is_not_there_is_exported_for_reporting_by_hand(till: Till, dgi: Dgi) -> None:
    dgi.settings(code="12")
    dgi.arm("submit", "reject")
    rejected = till.sealed()
    till.wait(rejected, "REJECTED")
    till.wait(till.sealed(), "SYNCED")

    answer = till.merchant.api.get("/authority-sync/documents.csv")

    [row] = csv.DictReader(io.StringIO(answer.text))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert (row["fiscal_number"], row["total"], row["status"], row["last_error_code"]) == (
        rejected["fiscal_number"],
        "1160.00",
        "REJECTED",
        "12",
    )


# --- devices


@pytest.mark.parametrize(
    ("facts", "status", "code"),
    [
        ({"nif": "999999999"}, 422, "42262"),
        ({"token": ""}, 422, "42262"),
        ({"colour": "red"}, 422, "42262"),
        ({"token": "eyJhbGciOiJIUzI1NiJ9.e30.x"}, 422, "42290"),
        ({"nim": "CD99999999"}, 422, "42290"),
    ],
)
def test_device_the_dgi_does_not_know_is_not_stored(
    facts: Json, status: int, code: str, till: Till
) -> None:
    device = f"/authority-sync/devices/{till.outlet_id}"
    till.owner.delete(device).raise_for_status()

    answer = till.register(**facts)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert till.owner.delete(device).status_code == 404


def test_token_is_sealed_and_shown_masked(till: Till, house: House) -> None:
    [device] = till.merchant.api.get("/authority-sync/devices").json()["data"]
    stored = house.books.value(
        "select d::text from sync.authority_devices as d where outlet_id = %s", till.outlet_id
    )

    assert device["credentials"]["token"].startswith("******")
    assert device["authority_ref"] == till.nim
    assert device["expires_at"] is not None
    assert "eyJhbGciOi" not in stored  # how every such token begins, and no ciphertext by chance


def test_api_keys_do_not_register_devices(till: Till, dgi: Dgi) -> None:
    facts = dgi.device("308123456", "CD77777777")

    answer = till.merchant.api.put(f"/authority-sync/devices/{till.outlet_id}", json=facts)

    assert answer.status_code == 403


def test_device_leaves_once_nothing_is_on_its_way(till: Till, dgi: Dgi) -> None:
    dgi.arm("submit", "down", 50)
    sale = till.sealed()
    path = f"/authority-sync/devices/{till.outlet_id}"

    busy = till.owner.delete(path)
    dgi.calm()
    till.wait(sale, "SYNCED")
    retired = till.owner.delete(path)

    assert (busy.status_code, retired.json()["status"]) == (409, "retired")
    assert till.sealed()["authority_sync_status"] == "NOT_APPLICABLE"


def test_daily_look_finds_an_ending_token_and_other_rates(
    till: Till, dgi: Dgi, house: House
) -> None:
    till.register(**dgi.device("308123456", till.nim, days=5)).raise_for_status()
    dgi.settings(rates={"a": 0, "b": 18, "c": 5})
    house.books.run("update sync.authority_devices set checked_at = null")

    poke(house, "/checks")

    alerts = house.books.rows(
        "select kind, details from public.alerts where tenant_id = %s and status = 'open'",
        till.merchant.tenant_id,
    )
    found = {row["kind"]: row["details"] for row in alerts}
    assert set(found) == {"authority_token_expiring", "authority_rates_differ"}
    assert found["authority_rates_differ"]["groups"]["B"] == {"ours": "16.00", "theirs": "18"}
    assert "A" not in found["authority_rates_differ"]["groups"]

    dgi.calm()
    till.register().raise_for_status()
    house.books.run("update sync.authority_devices set checked_at = null")
    poke(house, "/checks")
    assert till.alerts() == []


def test_device_that_cannot_be_looked_after_does_not_keep_the_others_from_it(
    till: Till, dgi: Dgi, house: House
) -> None:
    house.books.run(
        "update sync.authority_devices set checked_at = null, jurisdiction = 'ZW'"
        " where outlet_id = %s",
        till.outlet_id,
    )
    other = Till(house, dgi)
    house.books.run(
        "update sync.authority_devices set checked_at = now() - interval '25 hours'"
        " where outlet_id = %s",
        other.outlet_id,
    )

    assert poke(house, "/checks") == {"checked": 2}
    assert till.alerts() == ["authority_check_failed"]
    assert other.alerts() == []

    house.books.run(
        "update sync.authority_devices set checked_at = null, jurisdiction = 'CD'"
        " where outlet_id = %s",
        till.outlet_id,
    )
    poke(house, "/checks")
    assert till.alerts() == []


def test_credentials_follow_a_new_master_key(till: Till, house: House) -> None:
    house.books.run(
        "update sync.authority_devices set key_version = 0 where outlet_id = %s", till.outlet_id
    )

    done = poke(house, "/reseal")

    assert done == {"resealed": 1, "failed": 0}
    till.wait(till.sealed(), "SYNCED")
