"""Our fiscal device and the FDMS simulator, over real mutual TLS: registration, days, receipts."""

import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from scripts.stack.fdms import texts as theirs
from scripts.stack.fdms.testing import Fdms as Simulator
from scripts.stack.fdms.testing import gateway as simulator
from scripts.stack.fdms.wire import Receipt
from shared.authority import exact_json
from shared.authority.base import (
    Acceptance,
    Device,
    DeviceRefused,
    Journal,
    NotNow,
    Outlet,
    Rejected,
    SealedDocument,
    Unknown,
    Unreachable,
)
from shared.authority.wire import Wire
from shared.authority.zw import texts
from shared.authority.zw.content import content_of
from shared.authority.zw.fdms import FORMAT, HARARE, Fdms
from shared.authority.zw.gateway import Gateway, Identity
from shared.authority.zw.keys import DeviceKey, common_name
from shared.authority.zw.state import Book
from shared.authority.zw.taxes import Taxpayer
from shared.authority.zw.tls import Identities
from shared.authority.zw.wire import DeviceSignature, Place, receipt_json
from shared.errors import AuthorityRefused, InvalidParameter
from shared.fiscal.document import Document
from shared.fiscal.engine import price
from shared.transport import Budgets, HttpTransport

Json = dict[str, Any]
TIN = "2000123456"
OUTLET = Outlet("out_1", "HRE01", "First Street", None, "Africa/Harare", TIN, "Acacia Stores")
STALL_S = 2.5  # longer than we wait for an answer
_devices = count(37000)


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulator(tmp_path_factory.mktemp("fdms")) as running:
        yield running


@pytest.fixture
def fdms(process: Simulator) -> Simulator:
    process.disarm()
    process.settings(certificate_days=365, close_s=0)
    return process


@pytest.fixture
async def authority(fdms: Simulator) -> AsyncIterator[Fdms]:
    connections = Wire(HttpTransport(Budgets(read_s=STALL_S - 0.5, total_s=6)))
    one = Gateway(fdms.url, connections, Identities(str(fdms.root_file)))
    made = Fdms({"sandbox": one, "production": one})
    yield made
    await made.aclose()


class Desk:
    """The queue of one outlet, as it keeps what an adapter notes; in memory."""

    def __init__(self, authority: Fdms, device: Device) -> None:
        self.authority, self.device = authority, device
        self.documents: list[SealedDocument] = []
        self.progress: Mapping[str, Any] = {}
        self.number = 0

    def sale(self, paid: str = "23.00", **members: Any) -> SealedDocument:
        return self.sealed(canonical(paid, **members))

    def sealed(self, payload: Json, original: Acceptance | None = None) -> SealedDocument:
        self.number += 1
        return SealedDocument(
            invoice_id=f"inv_{self.number}",
            fiscal_number=f"TST-HRE{self.device.device_id}-{self.number:06d}",
            sequence=self.number,
            sealed_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            auth_code="K56Y-BV6M-60QQ-5NM4",
            payload=payload,
            outlet=OUTLET,
            environment="sandbox",
            original=original,
        )

    def credit(self, original: Acceptance, paid: str = "23.00", **members: Any) -> SealedDocument:
        facts = {
            "invoice_type": "credit_note",
            "original_fiscal_number": "TST-1",
            "credit_reason": "returned_goods",
        }
        return self.sealed(canonical(paid, **facts, **members), original)

    async def attempt(self, document: SealedDocument) -> Acceptance:
        """One attempt, as the worker makes it."""
        journal = Journal(self.progress, self._keep)
        if self.progress:
            found = await self.authority.resume(document, self.device, journal)
            if found is not None:
                return self._accepted(found)
        return self._accepted(await self.authority.submit(document, self.device, journal))

    async def deliver(self, document: SealedDocument) -> Acceptance:
        """Until it is there."""
        for _ in range(5):
            try:
                return await self.attempt(document)
            except Unknown:
                continue
        raise AssertionError("five silences")

    async def close(self) -> Acceptance:
        return self._accepted(
            await self.authority.close_day(self.device, Journal(self.progress, self._keep))
        )

    @property
    def book(self) -> Book:
        return Book.read(self.device.state)

    async def _keep(
        self, progress: Mapping[str, Any], device_state: Mapping[str, Any] | None
    ) -> None:
        # What is kept is JSON, in Postgres as here.
        self.progress = json.loads(json.dumps(progress))
        self._merge(device_state or {})

    def _accepted(self, acceptance: Acceptance) -> Acceptance:
        self.progress = {}
        self._merge(acceptance.device_state or {})
        return acceptance

    def _merge(self, members: Mapping[str, Any]) -> None:
        state = json.loads(json.dumps({**self.device.state, **members}))
        self.device = replace(self.device, state=state)


def canonical(paid: str = "23.00", quantity: str = "2", **members: Any) -> Json:
    item = {
        "line_no": 1,
        "code": "A",
        "description": "Maize meal",
        "kind": "goods",
        "quantity": quantity,
        "unit_price": "11.50",
        "hs_code": "11022000",
    }
    document = {
        "schema_version": "1.0",
        "jurisdiction": "ZW",
        "merchant_tin": TIN,
        "outlet_id": "out_1",
        "pos_terminal_id": "pos-1",
        "cashier_id": "c-1",
        "invoice_type": "sale",
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "tax_group_manifest_version": "ZW-2025-12",
        "price_mode": "inclusive",
        "client": {"classification": "individual"},
        "items": [item],
        "totals": {"currency": "ZWG"},
        "payments": [{"method": "cash", "amount": paid, "currency": "ZWG"}],
    }
    return price(Document.model_validate(document | members)).canonical


@pytest.fixture
async def desk(fdms: Simulator, authority: Fdms) -> Desk:
    return await new_desk(fdms, authority)


async def new_desk(fdms: Simulator, authority: Fdms, **facts: Any) -> Desk:
    number = next(_devices)
    fdms.sell(number, **facts)
    unknown = Device(
        device_id=str(number),
        outlet_id="out_1",
        jurisdiction="ZW",
        environment="sandbox",
        outlet=OUTLET,
        credentials=b"",
        state={},
    )
    return Desk(authority, await registered(authority, unknown))


async def registered(authority: Fdms, device: Device) -> Device:
    """What was known of the device stays, unless the registration knows better."""
    number = device.device_id
    given = {"device_id": number, "serial_no": f"SN{number}", "activation_key": "12AXC178"}
    made = await authority.register(given, OUTLET, "sandbox")
    state = json.loads(json.dumps({**device.state, **made.state}))
    return replace(device, credentials=made.credentials, state=state)


async def retire(desk: Desk) -> Device:
    """The device as we know it when its first day is over."""
    await desk.deliver(desk.sale())
    await desk.close()
    return desk.device


async def used_elsewhere(desk: Desk) -> None:
    """A day of another system, of which our side hears nothing."""
    await desk.deliver(desk.sale())
    await desk.close()


def a_minute_later(document: SealedDocument) -> SealedDocument:
    """After receipts of which we do not know when they were made."""
    moment = datetime.fromisoformat(document.sealed_at) + timedelta(minutes=1)
    return replace(document, sealed_at=f"{moment:%Y-%m-%dT%H:%M:%SZ}")


def at_authority(fdms: Simulator, desk: Desk) -> Json:
    return fdms.device(int(desk.device.device_id))


# --- registration


async def test_device_is_registered_with_a_certificate_of_its_own(
    fdms: Simulator, desk: Desk
) -> None:
    config = desk.device.state["config"]

    assert at_authority(fdms, desk)["status"] == "Active"
    assert config["qrUrl"] == "https://fdmstest.zimra.co.zw"
    assert {"taxID": 517, "taxPercent": "15.5"}.items() <= config["applicableTaxes"][-1].items()


@pytest.mark.parametrize("call", ["GetConfig", "GetStatus"])
async def test_certificate_is_kept_when_fdms_fails_right_after_it(
    fdms: Simulator, authority: Fdms, call: str
) -> None:
    fdms.arm("down", call)

    desk = await new_desk(fdms, authority)

    assert (await desk.deliver(desk.sale())).authority_number == "1"
    assert await closes(fdms, desk)


async def test_device_that_comes_back_goes_on_where_fdms_is(fdms: Simulator, desk: Desk) -> None:
    retired = await retire(desk)
    await used_elsewhere(desk)

    desk.device = await registered(desk.authority, retired)

    assert (await desk.deliver(a_minute_later(desk.sale()))).authority_number == "3"
    assert await closes(fdms, desk)


@pytest.mark.parametrize("call", ["GetConfig", "GetStatus"])
async def test_device_that_comes_back_while_fdms_fails_waits_for_its_numbers(
    fdms: Simulator, desk: Desk, call: str
) -> None:
    retired = await retire(desk)
    await used_elsewhere(desk)
    fdms.arm("down", call, times=2)

    desk.device = await registered(desk.authority, retired)

    with pytest.raises(NotNow):
        await desk.attempt(desk.sale())
    assert (await desk.deliver(a_minute_later(desk.sale()))).authority_number == "3"
    assert await closes(fdms, desk)


async def test_device_of_another_taxpayer_is_refused(fdms: Simulator, authority: Fdms) -> None:
    with pytest.raises(AuthorityRefused, match="2000999999"):
        await new_desk(fdms, authority, tin="2000999999")


async def test_wrong_activation_key_is_refused(fdms: Simulator, authority: Fdms) -> None:
    fdms.sell(36001)
    given = {"device_id": "36001", "serial_no": "SN36001", "activation_key": "AAAAAAAA"}

    with pytest.raises(AuthorityRefused, match="Activation key"):
        await authority.register(given, OUTLET, "sandbox")


async def test_malformed_facts_are_refused_by_name(authority: Fdms) -> None:
    with pytest.raises(InvalidParameter) as refused:
        await authority.register({"device_id": "x", "pin": "1"}, OUTLET, "sandbox")

    assert [error["pointer"] for error in refused.value.errors] == [
        "/device_id",
        "/serial_no",
        "/activation_key",
        "/pin",
    ]


async def test_device_without_its_certificate_is_nobody(fdms: Simulator, desk: Desk) -> None:
    answer = fdms.http.get(
        f"/Device/v1/{desk.device.device_id}/GetStatus",
        headers={"DeviceModelName": "A", "DeviceModelVersion": "1"},
    )

    assert answer.status_code == 401
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["operationID"] == answer.headers["operationId"]


async def test_certificate_of_one_device_opens_no_other(
    fdms: Simulator, authority: Fdms, desk: Desk
) -> None:
    other = await new_desk(fdms, authority)
    mine = Identity.open(desk.device.credentials)
    stolen = replace(mine, device_id=int(other.device.device_id))
    desk.device = replace(desk.device, credentials=stolen.seal())

    with pytest.raises(DeviceRefused, match="DEV04"):
        await desk.deliver(desk.sale())


async def test_certificate_is_renewed_a_month_early_for_the_same_key(
    fdms: Simulator, authority: Fdms
) -> None:
    fdms.settings(certificate_days=20)
    desk = await new_desk(fdms, authority)
    await desk.deliver(desk.sale())
    fdms.settings(certificate_days=365)

    looked = await authority.check(desk.device, datetime.now(UTC))

    assert looked.credentials is not None
    assert looked.expires_at is not None
    assert looked.expires_at > datetime.now(UTC) + timedelta(days=300)
    before, after = Identity.open(desk.device.credentials), Identity.open(looked.credentials)
    assert (after.key, after.certificate != before.certificate) == (before.key, True)
    desk.device = replace(desk.device, credentials=looked.credentials)
    await desk.deliver(desk.sale())
    assert troubles(fdms, desk) == []


async def test_certificate_that_is_not_renewed_is_told_to_a_person(
    fdms: Simulator, authority: Fdms
) -> None:
    fdms.settings(certificate_days=20)
    desk = await new_desk(fdms, authority)
    fdms.arm("down", "IssueCertificate")

    looked = await authority.check(desk.device, datetime.now(UTC))

    assert [finding.kind for finding in looked.findings] == ["authority_token_expiring"]
    assert looked.credentials is None


async def test_rate_that_the_device_no_longer_has_is_told_to_a_person(
    fdms: Simulator, authority: Fdms, desk: Desk
) -> None:
    fdms.sell(int(desk.device.device_id), taxes=[{"tax_id": 1, "percent": None, **_ANY}])

    looked = await authority.check(desk.device, datetime.now(UTC))

    [finding] = looked.findings
    assert (finding.kind, sorted(finding.details)) == ("authority_rates_differ", ["2", "517"])


async def test_fresh_certificate_stays(authority: Fdms, desk: Desk) -> None:
    looked = await authority.check(desk.device, datetime.now(UTC))

    assert looked.credentials is None
    assert looked.state is not None
    assert set(looked.state) == {"config"}  # the book belongs to the documents alone


# --- receipts


async def test_first_receipt_opens_the_day_and_has_the_authoritys_qr(
    fdms: Simulator, desk: Desk
) -> None:
    taken = await desk.deliver(desk.sale())

    number = int(desk.device.device_id)
    assert taken.qr is not None
    assert taken.qr.startswith(f"https://fdmstest.zimra.co.zw/{number:010d}")
    assert taken.qr[-16:].upper() == taken.code.replace("-", "")
    assert (taken.authority_number, taken.counters["fiscal_day"]) == ("1", 1)
    (day,) = at_authority(fdms, desk)["days"]
    assert (day["status"], day["receipts"]) == ("FiscalDayOpened", [1])
    assert troubles(fdms, desk) == []


async def test_receipts_name_each_other_and_every_kind_is_taken(
    fdms: Simulator, desk: Desk
) -> None:
    client = {"classification": "company", "name": "Acme", "tin": "2000999999"}
    exclusive = {"price_mode": "exclusive"}
    first = await desk.deliver(desk.sale())
    await desk.deliver(desk.sale("26.57", client=client, **exclusive))
    await desk.deliver(desk.sale(payments=mixed("10.00", "13.00")))
    await desk.deliver(desk.credit(first, "11.50", quantity="1"))

    assert troubles(fdms, desk) == []
    assert await closes(fdms, desk)


def mixed(cash: str, wallet: str) -> list[Json]:
    return [
        {"method": "cash", "amount": cash, "currency": "ZWG"},
        {"method": "mobile_money", "provider": "ecocash", "amount": wallet, "currency": "ZWG"},
    ]


def troubles(fdms: Simulator, desk: Desk) -> list[Json]:
    """What keeps the day from closing. Yellow does not: a burst is dated ahead of the clock."""
    found = at_authority(fdms, desk)["findings"]
    return [row for row in found if row["validationErrorColor"] != "Yellow"]


async def closes(fdms: Simulator, desk: Desk) -> bool:
    """The day, with counters that are the authority's own."""
    ours = {
        tuple("" if part is None else f"{part}" for part in counter_key(row)): f"{row.value}"
        for row in (desk.book.day.counters if desk.book.day else ())
    }
    await desk.close()
    day = at_authority(fdms, desk)["days"][-1]
    told = {tuple(row[:-1]): row[-1] for row in day["counters"]}
    return bool(day["status"] == "FiscalDayClosed" and told == ours and desk.book.day is None)


def counter_key(row: Any) -> tuple[Any, ...]:
    return (row.kind, row.currency, row.tax_id, row.percent, row.money_type)


async def test_debit_note_adds_to_its_invoice(fdms: Simulator, desk: Desk) -> None:
    first = await desk.deliver(desk.sale())
    facts = {"invoice_type": "debit_note", "original_fiscal_number": "TST-1", "notes": "Delivery"}
    await desk.deliver(desk.sealed(canonical("11.50", quantity="1", **facts), first))

    assert troubles(fdms, desk) == []
    kinds = {row[0]: row[-1] for row in at_authority(fdms, desk)["days"][0]["counters"]}
    assert (kinds["DebitNoteByTax"], kinds["BalanceByMoneyType"]) == ("11.50", "34.50")
    assert await closes(fdms, desk)


@pytest.mark.parametrize("fault", ["lost_answer", "hang_up", "down"])
async def test_silence_is_followed_by_the_very_same_receipt(
    fdms: Simulator, desk: Desk, fault: str
) -> None:
    await desk.deliver(desk.sale())
    fdms.arm(fault, "SubmitReceipt")
    document = desk.sale()
    with pytest.raises(Unknown):
        await desk.attempt(document)
    noted = desk.progress["body"]

    taken = await desk.attempt(document)

    assert taken.authority_number == "2"
    assert desk.book.last_global_no == 2
    assert json.loads(noted)["receipt"]["receiptGlobalNo"] == 2
    assert at_authority(fdms, desk)["days"][0]["receipts"] == [1, 2]


async def test_silence_outlives_what_the_daily_look_finds_meanwhile(
    fdms: Simulator, desk: Desk
) -> None:
    fdms.arm("lost_answer", "SubmitReceipt")
    document = desk.sale()
    with pytest.raises(Unknown):
        await desk.attempt(document)
    desk._merge({"config": {**desk.device.state["config"], "applicableTaxes": []}})

    taken = await desk.attempt(document)

    assert (taken.authority_number, desk.book.last_global_no) == ("1", 1)
    assert await closes(fdms, desk)


async def test_late_answer_is_a_silence_too(fdms: Simulator, desk: Desk) -> None:
    fdms.arm("stall", "SubmitReceipt", seconds=STALL_S)
    document = desk.sale()
    with pytest.raises(Unknown):
        await desk.attempt(document)

    assert (await desk.attempt(document)).authority_number == "1"
    assert await closes(fdms, desk)


async def test_lost_answer_of_the_opening_opens_one_day(fdms: Simulator, desk: Desk) -> None:
    fdms.arm("lost_answer", "OpenDay")
    document = desk.sale()
    with pytest.raises(Unknown):
        await desk.attempt(document)

    await desk.attempt(document)

    assert [day["number"] for day in at_authority(fdms, desk)["days"]] == [1]
    assert await closes(fdms, desk)


async def test_day_that_another_document_began_to_open_is_opened_by_the_next(
    fdms: Simulator, desk: Desk
) -> None:
    fdms.arm("lost_answer", "OpenDay")
    with pytest.raises(Unknown):
        await desk.attempt(desk.sale())
    desk.progress = {}  # that document was given up

    await desk.deliver(desk.sale())

    assert await closes(fdms, desk)  # the day's signature has the date of the opening


async def test_forged_answer_is_not_believed(fdms: Simulator, desk: Desk) -> None:
    fdms.arm("forged", "SubmitReceipt")
    document = desk.sale()
    with pytest.raises(Unknown, match="not signed by FDMS"):
        await desk.attempt(document)

    assert (await desk.attempt(document)).authority_number == "1"


async def test_refused_receipt_leaves_its_number_to_the_next(fdms: Simulator, desk: Desk) -> None:
    fdms.arm("reject", "SubmitReceipt", code="RCPT02")
    with pytest.raises(Rejected, match="RCPT02"):
        await desk.attempt(desk.sale())
    desk.progress = {}

    assert (await desk.deliver(desk.sale())).authority_number == "1"
    assert await closes(fdms, desk)


async def test_slow_down_is_obeyed(fdms: Simulator, desk: Desk) -> None:
    fdms.arm("throttle", "SubmitReceipt")
    document = desk.sale()
    with pytest.raises(NotNow):
        await desk.attempt(document)

    assert (await desk.attempt(document)).authority_number == "1"


async def test_blocked_device_is_told_to_a_person(fdms: Simulator, desk: Desk) -> None:
    fdms.sell(int(desk.device.device_id), status="Blocked")

    with pytest.raises(DeviceRefused, match="DEV01"):
        await desk.attempt(desk.sale())


async def test_red_receipt_keeps_its_number_and_is_rejected(
    fdms: Simulator, authority: Fdms, desk: Desk
) -> None:
    taxes = desk.device.state["config"]["applicableTaxes"]
    first = await desk.deliver(desk.sale())
    # The taxpayer loses the tax meanwhile; we have not looked since.
    fdms.sell(int(desk.device.device_id), taxes=[{"tax_id": 1, "percent": None, **_ANY}])
    with pytest.raises(Rejected, match="RCPT025"):
        await desk.attempt(desk.sale())
    desk.progress = {}
    assert desk.book.last_global_no == 2
    fdms.sell(int(desk.device.device_id), taxes=[_theirs(row) for row in taxes])

    assert (await desk.deliver(desk.credit(first))).authority_number == "3"
    for _ in range(3):
        with pytest.raises(NotNow, match="ReceiptsWithValidationErrors"):
            await desk.close()
    with pytest.raises(Rejected, match="ReceiptsWithValidationErrors"):
        await desk.close()


_ANY = {"name": "Exempt", "valid_from": "2023-01-01"}


def _theirs(row: Json) -> Json:
    return {
        "tax_id": row["taxID"],
        "percent": row.get("taxPercent"),
        "name": row["taxName"],
        "valid_from": row["validFrom"][:10],
        "valid_till": row["validTill"][:10] if "validTill" in row else None,
    }


async def test_credit_of_an_unknown_original_is_never_sent(fdms: Simulator, desk: Desk) -> None:
    payload = desk.credit(Acceptance("x", None, counters={"receipt_id": 1, "date": "2026"})).payload

    with pytest.raises(Rejected, match="RCPT032"):
        await desk.attempt(desk.sealed(dict(payload)))

    assert at_authority(fdms, desk)["days"] == []


async def test_burst_waits_when_it_is_ten_minutes_ahead(desk: Desk) -> None:
    await desk.deliver(desk.sale())
    late = f"{datetime.now(UTC) + timedelta(hours=2, minutes=11):%Y-%m-%dT%H:%M:%S}"
    state = dict(desk.device.state)
    state["book"] = {**state["book"], "last_date": late}
    desk.device = replace(desk.device, state=state)

    with pytest.raises(NotNow) as waits:
        await desk.attempt(desk.sale())

    assert 55 <= (waits.value.retry_after_s or 0) <= 65


async def test_no_connection_is_known_to_have_sent_nothing(fdms: Simulator, desk: Desk) -> None:
    nowhere = Gateway("https://127.0.0.1:9", Wire(HttpTransport()), Identities(str(fdms.root_file)))
    desk.authority = Fdms({"sandbox": nowhere})

    with pytest.raises(Unreachable):
        await desk.attempt(desk.sale())

    await desk.authority.aclose()


async def test_server_that_nobody_vouches_for_gets_nothing(fdms: Simulator, desk: Desk) -> None:
    strange = Gateway(fdms.url, Wire(HttpTransport()), Identities())
    desk.authority = Fdms({"sandbox": strange})

    with pytest.raises(Unreachable):
        await desk.attempt(desk.sale())

    await desk.authority.aclose()


# --- the close of a day


async def test_next_day_starts_its_counter_and_its_chain_anew(fdms: Simulator, desk: Desk) -> None:
    await desk.deliver(desk.sale())
    await desk.close()
    taken = await desk.deliver(desk.sale())

    assert (taken.counters["fiscal_day"], taken.counters["receipt_counter"]) == (2, 1)
    assert taken.authority_number == "2"
    assert await closes(fdms, desk)


async def test_day_without_receipts_of_a_tax_has_no_row_for_it(fdms: Simulator, desk: Desk) -> None:
    first = await desk.deliver(desk.sale())
    await desk.deliver(desk.credit(first))

    day = at_authority(fdms, desk)["days"][0]
    assert [row[0] for row in day["counters"]] == [
        "CreditNoteByTax",
        "CreditNoteTaxByTax",
        "SaleByTax",
        "SaleTaxByTax",
    ]  # the balance by money type came to zero
    assert await closes(fdms, desk)


async def test_close_that_fails_once_is_asked_for_again(fdms: Simulator, desk: Desk) -> None:
    await desk.deliver(desk.sale())
    fdms.arm("close_fails", "CloseDay", code="InternalError")
    with pytest.raises(NotNow, match="InternalError"):
        await desk.close()

    await desk.close()

    assert at_authority(fdms, desk)["days"][0]["status"] == "FiscalDayClosed"


async def test_lost_answer_of_the_close_is_found_closed(fdms: Simulator, desk: Desk) -> None:
    await desk.deliver(desk.sale())
    fdms.arm("lost_answer", "CloseDay")
    with pytest.raises(Unknown):
        await desk.close()

    assert (await desk.close()).code == "1"
    assert fdms.device(int(desk.device.device_id))["days"][0]["closed"]


async def test_closing_with_nothing_open_changes_nothing(desk: Desk) -> None:
    assert (await desk.close()).code == "0"


async def test_day_that_zimra_closed_by_hand_is_followed_by_the_next(
    fdms: Simulator, desk: Desk
) -> None:
    await desk.deliver(desk.sale())
    kept = desk.device
    await desk.close()
    desk.device = kept  # as if nobody had told us
    document = desk.sale()
    with pytest.raises(NotNow, match="closed there"):
        await desk.attempt(document)

    taken = await desk.deliver(document)

    assert (taken.counters["fiscal_day"], taken.authority_number) == (2, "2")


# --- the simulator judges for itself


async def test_receipts_after_a_missing_one_are_grey_until_it_arrives(
    fdms: Simulator, desk: Desk
) -> None:
    await desk.deliver(desk.sale())
    fdms.arm("hang_up", "SubmitReceipt")
    missing = desk.sale()
    with pytest.raises(Unknown):
        await desk.attempt(missing)
    noted, before = desk.progress, desk.device
    body = json.loads(noted["body"])["receipt"]
    # A careless device goes on with the next number.
    state = dict(before.state)
    day = {**state["book"]["day"], "receipts": 2, "last_hash": noted["hash"]}
    state["book"] = {**state["book"], "last_global_no": 2, "last_date": body["receiptDate"]}
    state["book"]["day"] = day
    desk.device, desk.progress = replace(before, state=state), {}
    await desk.deliver(desk.sale())
    grey = [row for row in at_authority(fdms, desk)["findings"] if row["global_no"] == 3]
    assert {row["validationErrorColor"] for row in grey} == {"Grey", "Yellow"}

    desk.device, desk.progress = before, noted
    await desk.attempt(missing)

    colors = {row["validationErrorColor"] for row in at_authority(fdms, desk)["findings"]}
    assert colors == {"Yellow"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"receiptTotal": 24}, "RCPT019"),
        ({"receiptCounter": 7}, "RCPT011"),
        ({"receiptCurrency": "XXX"}, "RCPT010"),
        ({"receiptDate": "2020-01-01T00:00:00"}, "RCPT030"),
        ({"receiptTaxes": []}, "RCPT017"),
        ({"receiptLines": []}, "RCPT016"),
        ({"receiptPayments": []}, "RCPT018"),
        ({"receiptNotes": None, "receiptType": "CreditNote"}, "RCPT015"),
        ({"creditDebitNote": {"receiptID": 1}}, "RCPT029"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_simulator_finds_what_is_wrong_with_a_receipt(
    fdms: Simulator, desk: Desk, changes: Json, code: str
) -> None:
    await desk.deliver(desk.sale())

    assert code in await _found_in(fdms, desk, changes)


async def test_simulator_finds_a_number_used_twice(fdms: Simulator, desk: Desk) -> None:
    first = desk.sale()
    await desk.deliver(first)

    assert "RCPT013" in await _found_in(fdms, desk, {"invoiceNo": first.fiscal_number})


async def test_simulator_knows_no_original_of_another_taxpayer(
    fdms: Simulator, authority: Fdms, desk: Desk
) -> None:
    stranger = await new_desk(fdms, authority)
    theirs_no = (await stranger.deliver(stranger.sale())).authority_number
    fdms.sell(int(stranger.device.device_id), tin="2000999999")
    await desk.deliver(desk.sale())

    note = {"deviceID": int(stranger.device.device_id), "receiptGlobalNo": int(theirs_no or 0)}
    changes = {"receiptType": "CreditNote", "receiptNotes": "x", "creditDebitNote": note}
    found = await _found_in(fdms, desk, changes)

    assert "RCPT032" in found


async def _found_in(fdms: Simulator, desk: Desk, changes: Json) -> list[str]:
    """The codes of a receipt that was changed and signed anew."""
    fdms.arm("hang_up", "SubmitReceipt")
    with pytest.raises(Unknown):
        await desk.attempt(desk.sale())
    identity, body = Identity.open(desk.device.credentials), exact_json.read(desk.progress["body"])
    changed = {**body["receipt"], **changes}
    signed = Receipt.model_validate(changed)
    previous = desk.book.day.last_hash if desk.book.day else None
    text = theirs.receipt(identity.device_id, signed, previous)
    changed["receiptDeviceSignature"] = DeviceKey.read(identity.key).sign(text).json()
    used = desk.authority._gateways["sandbox"]
    answer = await used.tell(identity, "SubmitReceipt", {"receipt": changed})
    return [row["validationErrorCode"] for row in answer["validationErrors"]]


async def test_simulator_refuses_a_signature_of_raw_r_and_s(fdms: Simulator, desk: Desk) -> None:
    await desk.deliver(desk.sale())
    fdms.arm("hang_up", "SubmitReceipt")
    with pytest.raises(Unknown):
        await desk.attempt(desk.sale())
    body = exact_json.read(desk.progress["body"])
    body["receipt"]["receiptDeviceSignature"]["signature"] = "A" * 86 + "=="
    identity, used = Identity.open(desk.device.credentials), desk.authority._gateways["sandbox"]

    answer = await used.tell(identity, "SubmitReceipt", body)

    assert "RCPT020" in [row["validationErrorCode"] for row in answer["validationErrors"]]


async def test_simulator_takes_devices_with_rsa_keys(fdms: Simulator, desk: Desk) -> None:
    used, number = desk.authority._gateways["sandbox"], next(_devices)
    fdms.sell(number)
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name(f"SN{number}", number))])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, SHA256())
    issued = await used.public(
        f"{number}/RegisterDevice",
        {
            "activationKey": "12axc178",  # whatever its case
            "certificateRequest": asked.public_bytes(Encoding.PEM).decode(),
        },
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    identity = Identity(number, f"SN{number}", issued["certificate"], private)
    await used.tell(identity, "OpenDay", {"fiscalDayOpened": f"{datetime.now(HARARE):{FORMAT}}"})
    content = content_of(
        desk.sale().payload, "RSA-1", Taxpayer.read(desk.device.state["config"]), "2026-11-21"
    )
    place = Place(number, 1, 1, f"{datetime.now(HARARE):{FORMAT}}", None)
    text = texts.receipt_text(content, place)
    signed = base64.b64encode(key.sign(text.encode(), PKCS1v15(), SHA256())).decode()

    answer = await used.tell(
        identity,
        "SubmitReceipt",
        receipt_json(content, place, DeviceSignature(texts.hash_of(text), signed)),
    )

    assert answer["receiptID"] > 0
    assert "validationErrors" not in answer


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"receiptCounter": 5}, "MissingReceipts"),
        ({"fiscalDayCounters": []}, "BadCertificateSignature"),
    ],
)
async def test_simulator_fails_a_close_that_does_not_add_up(
    fdms: Simulator, desk: Desk, change: Json, error: str
) -> None:
    await desk.deliver(desk.sale())

    assert await _close_with(fdms, desk, change) == error


async def test_simulator_fails_a_close_with_other_counters(fdms: Simulator, desk: Desk) -> None:
    await desk.deliver(desk.sale())
    day = desk.book.day
    assert day is not None
    other = [replace(row, value=row.value + 1) for row in day.counters]
    identity = Identity.open(desk.device.credentials)
    text = texts.day_text(identity.device_id, day.number, day.opened_at[:10], other)
    change = {
        "fiscalDayCounters": [row.json() for row in other],
        "fiscalDayDeviceSignature": DeviceKey.read(identity.key).sign(text).json(),
    }

    assert await _close_with(fdms, desk, change) == "CountersMismatch"


async def _close_with(fdms: Simulator, desk: Desk, change: Json) -> str:
    """What becomes of a close whose body was changed."""
    identity, day = Identity.open(desk.device.credentials), desk.book.day
    assert day is not None
    text = texts.day_text(identity.device_id, day.number, day.opened_at[:10], day.counters)
    body = {
        "fiscalDayNo": day.number,
        "fiscalDayCounters": [row.json() for row in day.counters],
        "fiscalDayDeviceSignature": DeviceKey.read(identity.key).sign(text).json(),
        "receiptCounter": day.receipts,
    } | change
    used = desk.authority._gateways["sandbox"]
    await used.tell(identity, "CloseDay", body)
    return str((await used.ask(identity, "GetStatus"))["fiscalDayClosingErrorCode"])


async def test_simulator_wants_to_know_the_model(fdms: Simulator) -> None:
    answer = fdms.http.post("/Public/v1/1/RegisterDevice", json={})

    assert answer.status_code == 400
    assert "DeviceModelName" in answer.json()["detail"]


async def test_restart_forgets_nothing(tmp_path: Path) -> None:
    with simulator(tmp_path) as first:
        first.sell(42)
    with simulator(tmp_path) as second:
        assert second.device(42)["status"] == "Sold"
