"""Every type of document in every country, and what corrects what; many documents at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.support.house import House, at_once, new_key, own_house
from tests.support.outlets import Outlet

Json = dict[str, Any]
ABROAD = {"classification": "company", "name": "Brussels Coffee", "tin": "BE0123", "country": "BE"}
TILL = {"pos_terminal_id": "pos-9", "cashier_id": "cashier-9"}


class Congolese(Outlet):
    """Sells a service of 1000.00 at 16 %."""

    manifest, currency, total = "CD-2026-01", "CDF", "1160.00"

    def document(self, total: str = "", price: str = "1000.00", **members: Any) -> Json:
        """Of a kind that follows from `members`: an export is without tax."""
        is_export = "export" in str(members.get("invoice_type"))
        amount = total or ("1000.00" if is_export else self.total)
        place = {
            "jurisdiction": self.jurisdiction,
            "merchant_tin": self.tin,
            "tax_group_manifest_version": self.manifest,
            "totals": {"currency": self.currency},
            "payments": [{"method": "cash", "amount": amount, "currency": self.currency}],
        }
        if is_export:
            place["client"] = ABROAD
        return super().document(price=price) | place | members


class Zimbabwean(Congolese):
    jurisdiction, tin, zone = "ZW", "1234567890", "Africa/Harare"
    manifest, currency, total = "ZW-2025-12", "ZWG", "1155.00"


class Kenyan(Congolese):
    jurisdiction, tin, zone = "KE", "P051234567X", "Africa/Nairobi"
    manifest, currency, total = "KE-2023-07", "KES", "1160.00"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    with own_house(
        "corrections", functions=("invoices", "merchants"), invoice_key_file=str(key)
    ) as house:
        yield house


@pytest.fixture
def outlet(house: House) -> Congolese:
    return Congolese(house)


# --- types


@pytest.mark.parametrize(
    ("country", "first", "second"),
    [
        (Congolese, "sale", "credit_note"),
        (Congolese, "advance", "sale"),
        (Congolese, "advance", "credit_note"),
        (Congolese, "export", "export_credit"),
        (Congolese, "export_advance", "export"),
        (Congolese, "export_advance", "export_credit"),
        (Zimbabwean, "sale", "credit_note"),
        (Zimbabwean, "sale", "debit_note"),
        (Zimbabwean, "advance", "sale"),
        (Zimbabwean, "export", "export_credit"),
        (Kenyan, "sale", "credit_note"),
        (Kenyan, "advance", "sale"),
        (Kenyan, "export", "export_credit"),
    ],
)
def test_document_refers_to_the_one_before(
    country: type[Congolese], first: str, second: str, house: House
) -> None:
    outlet = country(house)
    original = outlet.sealed(invoice_type=first)
    reference = {"original_fiscal_number": original["fiscal_number"]}
    if "credit" in second:
        reference["credit_reason"] = "correction"

    follower = outlet.sealed(invoice_type=second, **reference)

    api = outlet.merchant.api
    again = api.get(f"/invoices/{original['id']}").json()
    chain = api.get("/invoices", params={"original_invoice": original["id"]}).json()["data"]
    assert [row["id"] for row in chain] == [follower["id"]]
    assert follower["original_invoice"] == original["id"]
    credited = follower["document"]["totals"]["total"] if "credit" in second else "0.00"
    assert again["credited_amount"] == credited
    drawn = api.get(f"/invoices/{follower['id']}/receipt", params={"format": "text80"}).text
    assert original["fiscal_number"] in drawn


@pytest.mark.parametrize(
    ("country", "first", "second", "said"),
    [
        (
            Congolese,
            "sale",
            "export_credit",
            "names a document of type sale; export_credit may name export",
        ),
        (
            Congolese,
            "export",
            "credit_note",
            "names a document of type export; credit_note may name",
        ),
        (Congolese, "sale", "sale", "names a document of type sale; sale may name advance"),
        (Congolese, "sale", "debit_note", "must be one of sale, advance, credit_note"),
        (Congolese, "sale", "advance", "does not belong on advance"),
        (
            Zimbabwean,
            "export",
            "debit_note",
            "names a document of type export; debit_note may name",
        ),
    ],
)
def test_document_refers_to_nothing_else(
    country: type[Congolese], first: str, second: str, said: str, house: House
) -> None:
    outlet = country(house)
    original = outlet.sealed(invoice_type=first)
    reference = {"original_fiscal_number": original["fiscal_number"]}
    if "credit" in second:
        reference["credit_reason"] = "correction"

    refused = outlet.seal(outlet.document(invoice_type=second, **reference))

    assert refused.status_code == 422
    assert said in refused.json()["errors"][0]["detail"]


def test_balance_of_an_advance_may_be_credited_to_the_full(outlet: Congolese) -> None:
    advance = outlet.sealed(invoice_type="advance")
    sale = outlet.sealed(original_fiscal_number=advance["fiscal_number"])

    assert outlet.merchant.post(f"/invoices/{advance['id']}/void", TILL).status_code == 201
    assert outlet.merchant.post(f"/invoices/{sale['id']}/void", TILL).status_code == 201


@contextmanager
def years_late(house: House) -> Iterator[None]:
    """What was sold under an earlier manifest may be sealed now."""
    change = "update public.settings set value = %s::jsonb where key = 'fiscal.document_max_age_s'"
    kept = house.books.value("select public.setting('fiscal.document_max_age_s')::text")
    house.books.run(change, str(10 * 365 * 86_400))
    yield
    house.books.run(change, kept)


def test_correction_is_taxed_as_its_original(house: House) -> None:
    outlet = Zimbabwean(house)
    old = {"timestamp": "2025-11-21T08:00:00Z", "tax_group_manifest_version": "ZW-2023-01"}
    with years_late(house):
        sale = outlet.sealed(total="1150.00", **old)
    credit = {
        "invoice_type": "credit_note",
        "original_fiscal_number": sale["fiscal_number"],
        "credit_reason": "correction",
    }

    refused = outlet.seal(outlet.document(price="10.00", total="11.55", **credit))
    voided = outlet.merchant.post(f"/invoices/{sale['id']}/void", TILL)

    assert refused.json()["errors"] == [
        {
            "pointer": "/tax_group_manifest_version",
            "detail": "must be ZW-2023-01, as the original is",
        }
    ]
    assert voided.json()["document"]["totals"]["total"] == "1150.00"


def test_credit_is_converted_as_its_original(outlet: Congolese) -> None:
    sale = outlet.sealed(**in_dollars("2826.00"))
    credit = {
        "invoice_type": "credit_note",
        "original_fiscal_number": sale["fiscal_number"],
        "credit_reason": "correction",
    }

    refused = outlet.seal(outlet.document(**in_dollars("2900.00"), **credit))

    assert [error["pointer"] for error in refused.json()["errors"]] == ["/fx/rate"]
    assert outlet.seal(outlet.document(**in_dollars("2826"), **credit)).status_code == 201


def in_dollars(rate: str) -> Json:
    return {
        "totals": {"currency": "USD"},
        "fx": {"rate": rate, "source": "declared", "as_of": "2026-02-17T00:00:00Z"},
        "payments": [{"method": "cash", "amount": "1160.00", "currency": "USD"}],
    }


# --- void and refund


def test_void_credits_all_of_a_document_once(outlet: Congolese) -> None:
    sale, key = outlet.sealed(client=ABROAD), new_key()
    path = f"/invoices/{sale['id']}/void"

    first = outlet.merchant.post(path, TILL, key)
    replayed = outlet.merchant.post(path, TILL, key)
    again = outlet.merchant.post(path, TILL)

    assert (first.status_code, first.content) == (201, replayed.content)
    credit = first.json()["document"]
    assert (credit["invoice_type"], credit["credit_reason"]) == ("credit_note", "cancellation")
    assert (credit["client"], credit["totals"]) == (ABROAD, sale["document"]["totals"])
    assert credit["cashier_id"] == "cashier-9"
    assert (again.status_code, again.json()["code"]) == (422, "42276")


def test_key_of_a_void_is_of_that_document(outlet: Congolese) -> None:
    first, second, key = outlet.sealed(), outlet.sealed(), new_key()
    outlet.merchant.post(f"/invoices/{first['id']}/void", TILL, key)

    other = outlet.merchant.post(f"/invoices/{second['id']}/void", TILL, key)

    assert (other.status_code, other.json()["code"]) == (422, "42241")


def test_refund_credits_quantities_and_never_more_than_were_sold(outlet: Congolese) -> None:
    items = outlet.document()["items"]
    items[0] |= {"quantity": "3", "discount_amount": "100.00"}
    sale = outlet.sealed(total="3364.00", items=items)
    path = f"/invoices/{sale['id']}/refund"
    part = TILL | {"lines": [{"line_no": 1, "quantity": "2"}], "method": "cash"}

    refunds = at_once(3, lambda _: outlet.merchant.post(path, part))

    assert sorted(refund.status_code for refund in refunds) == [201, 422, 422]
    done = next(one.json()["document"] for one in refunds if one.status_code == 201)
    assert (done["items"][0]["quantity"], done["items"][0]["discount_amount"]) == ("2", "66.67")
    assert done["payments"][0] == {"method": "cash", "amount": "2242.66", "currency": "CDF"}
    rest = outlet.merchant.post(path, TILL | {"lines": [{"line_no": 1, "quantity": "1"}]})
    assert rest.json()["document"]["totals"]["total"] == "1121.34"
    credited = outlet.merchant.api.get(f"/invoices/{sale['id']}").json()["credited_amount"]
    assert credited == "3364.00"


@pytest.mark.parametrize(
    ("country", "line", "total", "parts"),
    [
        # Each part rounds its tax up; together they would come to a unit more than was sold.
        (Congolese, {"unit_price": "100.10"}, "348.35", ["116.12", "116.12", "116.10"]),
        (Zimbabwean, {"unit_price": "100.10"}, "346.85", ["115.62", "115.62", "115.60"]),
        (Kenyan, {"unit_price": "100.10"}, "348.35", ["116.12", "116.12", "116.10"]),
        (Congolese, {"unit_price": "0.04"}, "0.14", ["0.05", "0.05", "0.03"]),
        # Each part rounds its share of the discount down, to nothing.
        (Congolese, {"unit_price": "100.00", "discount_amount": "0.01"}, "347.99",
         ["116.00", "116.00", "115.99"]),
    ],
)  # fmt: skip
def test_refund_part_by_part_ends_within_what_was_sold(
    country: type[Congolese], line: Json, total: str, parts: list[str], house: House
) -> None:
    outlet = country(house)
    items = [outlet.document()["items"][0] | {"quantity": "3"} | line]
    sale = outlet.sealed(total=total, items=items)
    part = TILL | {"lines": [{"line_no": 1, "quantity": "1"}]}

    refunds = [outlet.merchant.post(f"/invoices/{sale['id']}/refund", part) for _ in range(4)]

    assert [refund.status_code for refund in refunds] == [201, 201, 201, 422]
    assert [refund.json()["document"]["totals"]["total"] for refund in refunds[:3]] == parts


def test_credit_is_within_each_tax_group_of_its_original(outlet: Congolese) -> None:
    taxed, bread = outlet.document()["items"][0], {"kind": "goods", "tax_group": "TG04"}
    sale = outlet.sealed(total="2250.00", items=[taxed, taxed | {"line_no": 2} | bread])

    def credit(items: list[Json], total: str) -> httpx.Response:
        reference = {"original_fiscal_number": sale["fiscal_number"], "credit_reason": "other"}
        return outlet.seal(
            outlet.document(total, invoice_type="credit_note", items=items, **reference)
        )

    too_much = credit([taxed | {"unit_price": "1000.01"}], "1160.01")
    two_of_one = credit([taxed | {"unit_price": "100.00", "quantity": "2"}], "232.00")
    all_of_one = credit([taxed], "1160.00")

    assert [answer.status_code for answer in (too_much, two_of_one, all_of_one)] == [422, 422, 201]
    assert "line 1: quantity credits 1 more" in two_of_one.json()["detail"]
    assert [answer.json()["errors"][0]["detail"] for answer in (too_much, two_of_one)] == [
        "credits 0.01 more of tax group TG03 than is left of what was sold: credit that much less",
        "credits 1 more of CONS-001 than is left of what was sold: credit that much less",
    ]


def test_refund_of_a_line_that_was_not_sold_is_refused(outlet: Congolese) -> None:
    sale = outlet.sealed()

    refused = outlet.merchant.post(
        f"/invoices/{sale['id']}/refund", TILL | {"lines": [{"line_no": 2, "quantity": "1"}]}
    )

    assert refused.json()["errors"] == [
        {"pointer": "/items", "detail": "the original has no line 2: it has 1 to 1"}
    ]


def test_credit_is_not_credited(outlet: Congolese) -> None:
    voided = outlet.merchant.post(f"/invoices/{outlet.sealed()['id']}/void", TILL).json()

    refused = outlet.merchant.post(f"/invoices/{voided['id']}/void", TILL)

    assert (refused.status_code, refused.json()["errors"][0]["detail"]) == (
        422,
        "a credit_note is not credited: name the document it corrects",
    )


# --- batches


def test_each_document_of_a_batch_answers_for_itself(outlet: Congolese) -> None:
    wrong = outlet.document(totals={"currency": "CDF", "total": "1.00"})
    batch = {"invoices": [outlet.document(), wrong, outlet.document(notes="third")]}
    key = new_key()

    answer = outlet.merchant.post("/invoices/batch", batch, key)
    again = outlet.merchant.post("/invoices/batch", batch, key)

    found = answer.json()["data"]
    assert answer.status_code == 200
    assert [item["status"] for item in found] == [201, 422, 201]
    assert [item["invoice"] and item["invoice"]["sequence"] for item in found] == [1, None, 2]
    assert found[1]["problem"]["code"] == "42273"
    sealed = [[item["invoice"] for item in one.json()["data"]] for one in (answer, again)]
    assert sealed[0] == sealed[1]
    assert len(outlet.chain()) == 2


def test_batch_of_a_hundred_takes_a_hundred_numbers(outlet: Congolese) -> None:
    batch = {"invoices": [outlet.document() for _ in range(100)]}

    found = outlet.merchant.post("/invoices/batch", batch).json()["data"]

    assert [item["invoice"]["sequence"] for item in found] == list(range(1, 101))
    assert all(item["invoice"]["sealed"] for item in found)
    refused = outlet.merchant.post("/invoices/batch", {"invoices": batch["invoices"] * 2})
    assert refused.status_code == 400
