"""The Kenyan adapter against the simulator, over HTTP: told once, whatever happens on the way."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from scripts.stack.etims.testing import TaxOffice, tax_office
from shared.authority.base import (
    Acceptance,
    Device,
    DeviceRefused,
    Journal,
    NotNow,
    Rejected,
    SealedDocument,
    Undecided,
    Unknown,
    Unreachable,
)
from shared.authority.ke.etims import Etims
from shared.authority.wire import Wire
from shared.errors import AuthorityRefused, AuthorityUnavailable, InvalidParameter
from shared.transport import Budgets, HttpTransport
from tests.support.kenya import OUTLET, sealed

SUGAR = [{"unit_price": "116.00"}]
FACTS = {"branch_id": "00", "device_serial": "dvc-1", "default_item_class": "5059690800"}


@dataclass
class Shop:
    """A registered branch, and what the queue would remember of it."""

    etims: Etims
    device: Device
    notes: list[Mapping[str, Any]] = field(default_factory=list)

    async def tell(
        self, document: SealedDocument, progress: Mapping[str, Any] | None = None
    ) -> Acceptance:
        """One attempt, as the worker makes it."""
        journal = Journal(progress or {}, self._keep)
        if progress:
            found = await self.etims.resume(document, self.device, journal)
            accepted = found or await self.etims.submit(
                document, self.device, Journal({}, self._keep)
            )
        else:
            accepted = await self.etims.submit(document, self.device, journal)
        self._merge(accepted.device_state)
        return accepted

    async def insist(self, document: SealedDocument) -> Acceptance:
        """Until it is accepted; each attempt resumes what the one before had noted."""
        for _ in range(6):
            try:
                return await self.tell(document, self.notes[-1] if self.notes else None)
            except (Unknown, NotNow):
                continue
        raise AssertionError("KRA never took it")

    async def _keep(
        self, progress: Mapping[str, Any], device_state: Mapping[str, Any] | None
    ) -> None:
        self.notes.append(progress)
        self._merge(device_state)

    def _merge(self, members: Mapping[str, Any] | None) -> None:
        self.device = replace(self.device, state={**self.device.state, **(members or {})})


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TaxOffice]:
    with tax_office(tmp_path_factory.mktemp("etims")) as running:
        yield running


@pytest.fixture
def kra(office: TaxOffice) -> TaxOffice:
    """KRA with empty books."""
    office.reset()
    return office


@pytest_asyncio.fixture
async def etims(kra: TaxOffice) -> AsyncIterator[Etims]:
    wire = Wire(HttpTransport(Budgets(connect_s=1, read_s=2, total_s=3)))
    made = Etims(wire, {"sandbox": kra.url, "production": kra.url})
    yield made
    await made.aclose()


async def registered(etims: Etims, branch: str = "00") -> Shop:
    registration = await etims.register(FACTS | {"branch_id": branch}, OUTLET, "sandbox")
    return Shop(
        etims,
        Device(
            "dev_1",
            OUTLET.outlet_id,
            "KE",
            "sandbox",
            OUTLET,
            registration.credentials,
            registration.state,
        ),
    )


def credit_of(accepted: Acceptance, price: str, number: int) -> SealedDocument:
    return sealed(
        [{"unit_price": price}],
        number=number,
        original=accepted,
        invoice_type="credit_note",
        original_fiscal_number="TST-NBO001-000001",
        credit_reason="returned_goods",
    )


async def test_a_sale_is_accepted_with_a_receipt_of_the_control_unit(
    etims: Etims, kra: TaxOffice
) -> None:
    shop = await registered(etims)

    accepted = await shop.tell(sealed(SUGAR))

    (sale,) = kra.books()
    assert sale["trdInvcNo"] == "TST-NBO001-000001"
    assert sale["totAmt"] == 116
    assert accepted.code == sale["rcptSign"]
    assert accepted.authority_number == "KRACU000000001/1"
    assert accepted.counters["receipt"] == "1/1 NS"
    assert accepted.qr is not None
    assert accepted.qr.endswith(f"P051234567Q00{sale['rcptSign']}")


async def test_a_credit_counts_apart_and_refers_to_the_sale(etims: Etims, kra: TaxOffice) -> None:
    shop = await registered(etims)
    sold = await shop.tell(sealed(SUGAR))

    credited = await shop.tell(credit_of(sold, "58.00", 2))

    assert credited.counters["receipt"] == "1/2 NC"
    assert [one["orgInvcNo"] for one in kra.books()] == [0, sold.counters["invoice_no"]]
    with pytest.raises(Rejected, match="more is credited"):
        await shop.tell(credit_of(sold, "58.01", 3))


async def test_credits_of_one_band_do_not_eat_what_was_sold_in_another(etims: Etims) -> None:
    shop = await registered(etims)
    sold = await shop.tell(
        sealed([{"unit_price": "116.00"}, {"unit_price": "100.00", "tax_group": "A"}])
    )
    await shop.tell(credit_of(sold, "116.00", 2))

    with pytest.raises(Rejected, match="more is credited in band B"):
        await shop.tell(credit_of(sold, "58.00", 3))


async def test_a_credit_of_what_kra_never_saw_is_rejected_and_holds_up_nobody(
    etims: Etims,
) -> None:
    shop = await registered(etims)
    never_told = replace(credit_of(Acceptance("x", None), "1.00", 1), original=None)

    with pytest.raises(Rejected, match="authority_original_missing"):
        await shop.tell(never_told)


@pytest.mark.parametrize("fault", ["lost_answer", "late", "unanswered", "down", "unknown_error"])
async def test_silence_is_resumed_and_never_told_twice(
    fault: str, etims: Etims, kra: TaxOffice
) -> None:
    shop = await registered(etims)
    first = await shop.tell(sealed(SUGAR))  # registers the article: the next request is the sale
    shop.notes.clear()
    kra.arm(fault)

    with pytest.raises(Unknown):
        await shop.tell(sealed(SUGAR, number=2))
    accepted = await shop.tell(sealed(SUGAR, number=2), shop.notes[-1])

    assert [one["trdInvcNo"] for one in kra.books()] == ["TST-NBO001-000001", "TST-NBO001-000002"]
    assert accepted.code == kra.books()[1]["rcptSign"]
    assert accepted.counters["invoice_no"] == first.counters["invoice_no"] + 1


async def test_a_number_somebody_else_used_is_stepped_over(etims: Etims, kra: TaxOffice) -> None:
    shop = await registered(etims)
    before = shop.device
    await shop.tell(sealed(SUGAR))
    shop.device = before  # as if another system had told the first sale

    accepted = await shop.tell(sealed(SUGAR, number=2))

    assert accepted.counters["invoice_no"] == 2
    assert len(kra.books()) == 2


async def test_the_same_document_with_another_total_is_for_a_person(
    etims: Etims, kra: TaxOffice
) -> None:
    shop = await registered(etims)
    before = shop.device
    await shop.tell(sealed(SUGAR))
    shop.device = before

    with pytest.raises(Undecided, match="ANOTHER_TOTAL"):
        await shop.tell(sealed([{"unit_price": "117.00"}]))
    assert len(kra.books()) == 1


async def test_numbers_of_somebody_else_are_passed_in_the_end(etims: Etims, kra: TaxOffice) -> None:
    shop = await registered(etims)
    before = shop.device
    for number in range(1, 24):
        await shop.tell(sealed(SUGAR, number=number))
    shop.device, document = before, sealed(SUGAR, number=24)

    with pytest.raises(Undecided, match="NUMBERS_TAKEN"):
        await shop.tell(document)
    accepted = await shop.tell(document, shop.notes[-1])

    assert accepted.counters["invoice_no"] == 24


async def test_an_article_of_a_rejected_sale_keeps_its_code(etims: Etims, kra: TaxOffice) -> None:
    shop = await registered(etims)
    await shop.tell(sealed(SUGAR))
    too_much = replace(
        credit_of(await shop.tell(sealed(SUGAR, number=2)), "999.00", 3),
        payload=sealed(
            [{"unit_price": "999.00", "code": "SALT"}],
            invoice_type="credit_note",
            original_fiscal_number="TST-NBO001-000002",
            credit_reason="correction",
        ).payload,
    )

    with pytest.raises(Rejected):
        await shop.tell(too_much)
    await shop.tell(sealed([{"unit_price": "5.00", "code": "TEA"}], number=4))

    assert [one["itemList"][0]["itemCd"][-1] for one in kra.books()] == ["1", "1", "3"]


async def test_what_the_daily_look_brings_turns_no_number_back(etims: Etims) -> None:
    shop = await registered(etims)
    looked = await etims.check(shop.device, datetime(2026, 11, 21, tzinfo=UTC))
    await shop.tell(sealed(SUGAR))

    shop._merge(looked.state)

    assert (await shop.tell(sealed(SUGAR, number=2))).counters["invoice_no"] == 2
    assert shop.device.state["items"].keys() == {"A1|2|U|B|5059690800"}


@pytest.mark.parametrize(("fault", "kind"), [("busy", NotNow), ("reject", Rejected)])
async def test_what_kra_says_is_what_it_means(
    fault: str, kind: type[Exception], etims: Etims, kra: TaxOffice
) -> None:
    shop = await registered(etims)
    await shop.tell(sealed(SUGAR))
    kra.arm(fault)

    with pytest.raises(kind):
        await shop.tell(sealed(SUGAR, number=2))
    assert len(kra.books()) == 1


async def test_registering_an_article_that_meets_silence_is_simply_repeated(
    etims: Etims, kra: TaxOffice
) -> None:
    shop = await registered(etims)
    kra.arm("unanswered")

    with pytest.raises(NotNow):
        await shop.tell(sealed(SUGAR))
    assert not any(shop.notes)  # nothing was begun that would have to be found out
    await shop.tell(sealed(SUGAR))
    assert len(kra.books()) == 1


async def test_a_stranger_is_refused(etims: Etims) -> None:
    shop = await registered(etims)
    shop.device = replace(
        shop.device, credentials=b'{"pin": "P051234567Q", "branch": "00", "key": "wrong"}'
    )

    with pytest.raises(DeviceRefused, match="901"):
        await shop.tell(sealed(SUGAR))


async def test_branches_of_one_pin_never_use_one_number(etims: Etims, kra: TaxOffice) -> None:
    head, branch = await registered(etims), await registered(etims, "03")

    one = await head.tell(sealed(SUGAR))
    other = await branch.tell(sealed(SUGAR, number=2))

    assert (one.counters["invoice_no"], other.counters["invoice_no"]) == (1, 300_000_001)
    assert len(kra.books()) == 2


async def test_a_device_is_installed_once(etims: Etims) -> None:
    await registered(etims)

    with pytest.raises(AuthorityRefused, match="902"):
        await registered(etims)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"branch_id": "1"}, "/branch_id"),
        ({"device_serial": ""}, "/device_serial"),
        ({"default_item_class": "food"}, "/default_item_class"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_wrong_facts_are_named(changes: dict[str, str], pointer: str, etims: Etims) -> None:
    with pytest.raises(InvalidParameter) as refused:
        await etims.register(FACTS | changes, OUTLET, "sandbox")

    assert [error["pointer"] for error in refused.value.errors] == [pointer]


async def test_registration_without_kra_says_so(etims: Etims, kra: TaxOffice) -> None:
    kra.arm("down")

    with pytest.raises(AuthorityUnavailable):
        await etims.register(FACTS, OUTLET, "sandbox")


async def test_rates_that_differ_are_found_and_change_nothing(etims: Etims, kra: TaxOffice) -> None:
    shop = await registered(etims)
    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert (await etims.check(shop.device, now)).findings == []

    kra.set_rates(B="14")
    (finding,) = (await etims.check(shop.device, now)).findings

    assert (finding.kind, finding.details) == (
        "authority_rates_differ",
        {"B": {"kra": "14", "ours": "16.00"}},
    )


async def test_nobody_there_means_nothing_was_sent(etims: Etims) -> None:
    shop = await registered(etims)
    wire = Wire(HttpTransport())
    absent = Etims(wire, {"sandbox": "http://127.0.0.1:9"})

    with pytest.raises(Unreachable):
        await absent.submit(sealed(SUGAR), shop.device, Journal({}, shop._keep))
    await absent.aclose()


async def test_a_day_of_five_hundred_with_credits_and_losses(etims: Etims, kra: TaxOffice) -> None:
    shop, sales = await registered(etims), list[Acceptance]()
    faults = ("lost_answer", "unanswered", "late", "busy", "down")

    for number in range(1, 501):
        shop.notes.clear()
        if number % 20 == 0:
            kra.arm(faults[number // 20 % len(faults)])
        if number % 10 == 0:
            await shop.insist(credit_of(sales[-1], "16.00", number))
        else:
            price = f"{100 + number}.{number % 100:02d}"
            sales.append(await shop.insist(sealed([{"unit_price": price}], number=number)))

    books = kra.books()
    assert sorted(one["trdInvcNo"] for one in books) == [
        f"TST-NBO001-{number:06d}" for number in range(1, 501)
    ]
    assert [one["invcNo"] for one in books] == list(range(1, 501))
    assert sum(one["rcptTyCd"] == "S" for one in books) == len(sales)
