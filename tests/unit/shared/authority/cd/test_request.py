"""What a sealed document becomes at the DGI, judged by rules that share no code with ours."""

from decimal import Decimal
from typing import Any

import pytest

from scripts.stack.emcf import rules
from scripts.stack.emcf.rules import Refused, examine
from shared.authority.base import Acceptance, Blocked
from shared.authority.cd.request import Expected, build
from shared.authority.wire import from_json, to_json
from shared.errors import TaxGroupInvalid
from shared.fiscal.rules import jurisdiction
from tests.support.sealed import congolese, line, sealed

Json = dict[str, Any]
NIF = "308123456"
FACTS = {"nif": NIF, "isf": "SFE-0042", "nim": "CD00000001", "token": "…"}
ACCEPTED = Acceptance("X537-E4DB-AJUU-HHXN-FWIS-FEKJ", None)
EMBASSY = {"classification": "embassy", "name": "Ambassade", "exemption_ref": "EX-77"}


def pay(amount: str, **members: str) -> list[Json]:
    return [{"method": "cash", "amount": amount, "currency": "CDF"} | members]


def sent(written: Json, original: Acceptance | None = None) -> tuple[Json, Expected]:
    """The request as the authority reads it, once it has computed the same as we expect."""
    request, expected = build(sealed(written, original, "TST-KIN001-000000"), FACTS)
    body = from_json(to_json(request))
    theirs = examine(body, NIF)
    assert (theirs.total, theirs.vat) == (expected.total, expected.vat)
    return body, expected


def test_sale_keeps_price_quantity_and_total() -> None:
    body, expected = sent(congolese())

    [item] = body["items"]
    assert (body["type"], body["mode"], body["rn"]) == ("FV", "ht", "TST-KIN001-000001")
    assert (item["type"], item["taxGroup"], item["price"], item["quantity"]) == (
        "SER",
        "B",
        Decimal("1000.00"),
        1,
    )
    assert expected == Expected(Decimal("1160.00"), Decimal("160.00"))
    assert body["client"] == {"type": "PP"}
    assert body["payment"] == [
        {
            "name": "ESPECES",
            "amount": Decimal("1160.00"),
            "currencyCode": "CDF",
            "currencyRate": 1,
        }
    ]


def test_line_that_no_price_of_two_decimals_makes_goes_as_one() -> None:
    items = [line(quantity="3", unit_price="33.333", kind="goods")]

    body, expected = sent(congolese(items=items, payments=pay("116.00")))

    [item] = body["items"]
    assert (item["price"], item["quantity"]) == (Decimal("100.00"), 1)
    assert item["name"] == "Consulting (3 x 33.333)"
    assert expected.total == Decimal("116.00")


def test_discount_shows_the_price_before_it() -> None:
    items = [line(quantity="2", unit_price="100.00", discount_percent="10")]

    body, _ = sent(congolese(items=items, payments=pay("208.80")))

    [item] = body["items"]
    assert (item["originalPrice"], item["price"]) == (Decimal("100.00"), Decimal("90.00"))


def test_excise_is_a_levy_beside_its_base_and_the_total_stays() -> None:
    items = [line(kind="goods", tax_group="TG11")]

    body, expected = sent(congolese(items=items, payments=pay("1300.00")))

    base, levy = body["items"]
    assert body["mode"] == "ttc"
    assert (base["taxGroup"], base["price"]) == ("B", Decimal("1000.00"))
    assert (levy["type"], levy["taxGroup"], levy["price"]) == ("TAX", "L", Decimal("300.00"))
    assert expected == Expected(Decimal("1300.00"), Decimal("137.93"))


@pytest.mark.parametrize(
    ("ours", "theirs", "rate"), [("TG08", "C", "0.05"), ("TG01", "H", "0.00"), ("TG02", "P", None)]
)
def test_article_goes_under_the_group_it_names(ours: str, theirs: str, rate: str | None) -> None:
    items = [line(kind="goods", tax_group=ours, authority_tax_group=theirs)]
    total = {"0.05": "1050.00", "0.00": "1000.00", None: "1160.00"}[rate]
    request, expected = build(sealed(congolese(items=items, payments=pay(total))), FACTS)

    there = examine(from_json(to_json(request)), NIF)

    assert request["items"][0]["taxGroup"] == theirs
    # 16% were sealed and P has 1% there: what it computes is not what was sealed.
    assert (there.vat == expected.vat) == (rate is not None)


def test_group_the_authority_does_not_have_is_refused_before_sealing() -> None:
    with pytest.raises(TaxGroupInvalid) as refused:
        sealed(congolese(items=[line(authority_tax_group="Z")]))

    assert refused.value.errors[0]["pointer"] == "/items/0/authority_tax_group"


def test_fuel_is_its_pre_tax_amount_and_its_specific_vat() -> None:
    items = [line(kind="goods", tax_group="TG10")]

    body, expected = sent(congolese(items=items, payments=pay("1250.00")))

    assert [(item["taxGroup"], item["price"]) for item in body["items"]] == [
        ("M", Decimal("1000.00")),
        ("N", Decimal("250.00")),
    ]
    assert expected == Expected(Decimal("1250.00"), Decimal("250.00"))


def test_embassy_goes_under_the_derogatory_regime_with_its_reference() -> None:
    body, _ = sent(congolese(client=EMBASSY, payments=pay("1000.00")))

    assert (body["items"][0]["taxGroup"], body["client"]["type"]) == ("D", "AO")
    assert body["cmta"] == "EX-77"


def test_dollars_go_in_francs_with_their_rate() -> None:
    fx = {"rate": "2501.37", "source": "authority", "as_of": "2026-11-21T00:00:00Z"}
    items = [line(unit_price="9.99"), line(2, unit_price="0.33")]
    paid = [
        {"method": "mobile_money", "amount": "10.00", "currency": "USD"},
        {"method": "cash", "amount": "1.97", "currency": "USD"},
    ]

    body, expected = sent(congolese(items=items, totals={"currency": "USD"}, fx=fx, payments=paid))

    assert (body["curCode"], body["curRate"]) == ("USD", Decimal("2501.37"))
    assert (body["mode"], body["items"][0]["price"]) == ("ttc", Decimal("28990.88"))  # 11.59 x
    assert sum(payment["amount"] for payment in body["payment"]) == expected.total
    assert examine(body, NIF).cur_total == Decimal("11.97")


def test_total_in_dollars_is_kept_where_vat_on_francs_would_make_another() -> None:
    fx = {"rate": "2000.00", "source": "authority", "as_of": "2026-11-21T00:00:00Z"}
    items = [line(unit_price="0.01"), line(2, unit_price="0.09")]  # 11 cents; 232 francs are 12
    paid = [{"method": "cash", "amount": "0.11", "currency": "USD"}]

    body, expected = sent(congolese(items=items, totals={"currency": "USD"}, fx=fx, payments=paid))

    assert expected.total == Decimal("220.00")
    assert examine(body, NIF).cur_total == Decimal("0.11")


def test_discount_in_dollars_is_taken_off_a_price_with_its_vat() -> None:
    fx = {"rate": "2000.00", "source": "authority", "as_of": "2026-11-21T00:00:00Z"}
    items = [line(unit_price="100.00", discount_percent="10")]
    paid = [{"method": "cash", "amount": "104.40", "currency": "USD"}]

    body, _ = sent(congolese(items=items, totals={"currency": "USD"}, fx=fx, payments=paid))

    (item,) = body["items"]
    assert item["originalPrice"] == Decimal("232000.00")  # 116 dollars
    assert item["price"] == Decimal("208800.00")


def test_export_is_group_e() -> None:
    client = {"classification": "company", "name": "Acme", "tin": "1", "country": "ZM"}
    written = congolese(invoice_type="export", client=client, payments=pay("1000.00"))

    body, _ = sent(written)

    assert (body["type"], body["items"][0]["taxGroup"]) == ("EV", "E")


@pytest.mark.parametrize(
    ("reason", "reference", "kind"),
    [
        ("returned_goods", "X537E4DBAJUUHHXNFWISFEKJ", "RAM"),
        ("cancellation", "X537E4DBAJUUHHXNFWISFEKJ", "RAN"),
        ("other", "X537E4DBAJUUHHXNFWISFEKJ", "COR"),
        ("rebate", "RRR", "RRR"),
    ],
)
def test_credit_names_what_it_credits(reason: str, reference: str, kind: str) -> None:
    written = congolese(
        invoice_type="credit_note", original_fiscal_number="TST-1", credit_reason=reason
    )

    body, _ = sent(written, ACCEPTED)

    assert (body["type"], body["reference"], body["referenceType"]) == ("FA", reference, kind)


def test_credit_of_what_never_was_there_is_blocked() -> None:
    written = congolese(
        invoice_type="credit_note", original_fiscal_number="TST-1", credit_reason="correction"
    )

    with pytest.raises(Blocked) as blocked:
        build(sealed(written), FACTS)

    assert blocked.value.code == "authority_original_missing"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"items": [line(tax_group="TG08")], "payments": pay("1050.00")}, "line 1: TG08"),
        ({"timestamp": "2026-02-01T08:00:00Z"}, "2026-02-01"),
    ],
)
def test_what_the_dgi_has_no_word_for_is_blocked(change: Json, words: str) -> None:
    with pytest.raises(Blocked) as blocked:
        build(sealed(congolese(**change)), FACTS)

    assert blocked.value.code == "authority_mapping_missing"
    assert words in blocked.value.message


def test_a_rate_that_is_another_one_there_shows_in_the_totals() -> None:
    """TG04 is sealed with 9% and its group C has 5% there: such a document is not confirmed."""
    items = [line(kind="goods", category="essential")]
    request, expected = build(sealed(congolese(items=items, payments=pay("1090.00"))), FACTS)

    theirs = examine(from_json(to_json(request)) | {"payment": pay_there(2000)}, NIF)

    assert (expected.vat, theirs.vat) == (Decimal("90.00"), Decimal("50.00"))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"nif": "another"}, "2"),
        ({"type": "XX"}, "3"),
        ({"items": []}, "8"),
        ({"payment": []}, "7"),
        ({"type": "FA"}, "4"),
        ({"client": {"type": "PM"}}, "13"),
    ],
)
def test_the_simulator_refuses_what_the_dgi_refuses(change: Json, code: str) -> None:
    body, _ = sent(congolese())

    with pytest.raises(Refused) as refused:
        examine(body | change, NIF)

    assert refused.value.code == code


def test_every_group_we_know_has_the_rate_that_the_simulator_has() -> None:
    ours = jurisdiction("CD").manifests["CD-DGI-2026-03"].groups

    assert {name: group.rate and int(group.rate * 100) for name, group in ours.items()} == {
        name: rate if rate else None if rate is None else Decimal(0)
        for name, rate in rules.RATES.items()
    }


def pay_there(amount: int) -> list[Json]:
    return [{"name": "ESPECES", "amount": amount}]
