from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import (
    ClassificationRuleBroken,
    InvoiceRuleBroken,
    ManifestNotInForce,
    StalelaError,
    TaxGroupInvalid,
    TotalsMismatch,
)
from shared.fiscal.document import Document
from shared.fiscal.engine import Priced, price

Json = dict[str, Any]
Make = Callable[..., Json]


def paid(amount: str, currency: str = "CDF", **more: str) -> list[Json]:
    return [{"method": "cash", "amount": amount, "currency": currency, **more}]


def priced(document: Json) -> Priced:
    return price(Document.model_validate(document))


def totals(document: Json) -> tuple[str, str, str]:
    found = priced(document).canonical["totals"]
    return found["subtotal"], found["total_tax"], found["total"]


def refusal(document: Json, kind: type[StalelaError]) -> tuple[str, str]:
    """Which field was refused, and why."""
    with pytest.raises(kind) as caught:
        priced(document)
    (error, *_) = caught.value.errors
    return error["pointer"], error["detail"]


# --- the reference's worked values


def test_standard_goods(invoice: Make) -> None:
    document = invoice(payments=paid("116000.00"))

    assert totals(document) == ("100000.00", "16000.00", "116000.00")


def test_reduced(invoice: Make) -> None:
    item = {"unit_price": "150000.00", "tax_group": "TG04"}

    assert totals(invoice(item, payments=paid("163500.00"))) == (
        "150000.00",
        "13500.00",
        "163500.00",
    )


def test_export_to_brussels(invoice: Make) -> None:
    document = invoice(
        {"unit_price": "200000.00"},
        invoice_type="export",
        client={"classification": "individual", "country": "BE"},
        payments=paid("200000.00"),
    )

    line = priced(document).canonical["items"][0]
    assert (line["tax_group"], line["tax_amount"], line["line_total"]) == (
        "TG07",
        "0.00",
        "200000.00",
    )


def test_half_a_cent_of_tax_goes_up(invoice: Make) -> None:
    item = {"unit_price": "0.10", "tax_group": "TG08"}

    assert totals(invoice(item, payments=paid("0.11"))) == ("0.10", "0.01", "0.11")


def test_what_lines_round_away_is_reported(invoice: Make) -> None:
    item = {"unit_price": "0.03"}

    canonical = priced(invoice(item, item, item, payments=paid("0.09"))).canonical

    assert [line["tax_amount"] for line in canonical["items"]] == ["0.00", "0.00", "0.00"]
    assert (canonical["tax_rounding_adjustment"], canonical["totals"]["total"]) == ("0.01", "0.09")


def test_inclusive_prices_and_a_discount(invoice: Make) -> None:
    document = invoice(
        {"quantity": "3", "unit_price": "99.99"},
        {"unit_price": "10.05", "discount_amount": "0.55"},
        price_mode="inclusive",
        payments=paid("309.47"),
    )

    canonical = priced(document).canonical

    lines = [(line["line_base"], line["tax_amount"]) for line in canonical["items"]]
    assert lines == [("258.59", "41.38"), ("8.19", "1.31")]
    assert (canonical["totals"]["total"], canonical["tax_rounding_adjustment"]) == (
        "309.47",
        "0.00",
    )


def test_tax_of_a_dollar_invoice_is_declared_in_francs(invoice: Make) -> None:
    document = invoice(
        {"kind": "service", "unit_price": "20.00"},
        totals={"currency": "USD"},
        fx={"rate": "2826.00", "source": "authority", "as_of": "2026-02-17T00:00:00Z"},
        payments=paid("23.20", "USD"),
    )

    found = priced(document).canonical["totals"]

    assert (found["total_tax"], found["total"]) == ("3.20", "23.20")
    assert (found["tax_currency"], found["tax_in_reporting_currency"]) == ("CDF", "9043.20")


@pytest.mark.parametrize(
    ("gross", "group", "base", "tax"),
    [
        ("5800.00", "B", "5000.00", "800.00"),
        ("5000.00", "B", "4310.34", "689.66"),
        ("216.00", "E", "200.00", "16.00"),
    ],
)
def test_kenyan_prices_include_tax(
    gross: str, group: str, base: str, tax: str, invoice: Make
) -> None:
    document = invoice(
        {"unit_price": gross, "tax_group": group},
        jurisdiction="KE",
        merchant_tin="P051234567Q",
        tax_group_manifest_version="KE-2023-07",
        price_mode="inclusive",
        totals={"currency": "KES"},
        payments=paid(gross, "KES"),
    )

    assert totals(document) == (base, tax, gross)


@pytest.mark.parametrize(
    ("lines", "gross", "tax"),
    [([("2", "11.50")], "23.00", "3.00"), ([("1", "0.30"), ("1", "0.20")], "0.50", "0.07")],
)
def test_zimbabwe_rounds_once_per_group(
    lines: list[tuple[str, str]], gross: str, tax: str, invoice: Make
) -> None:
    document = invoice(
        *({"quantity": quantity, "unit_price": each} for quantity, each in lines),
        jurisdiction="ZW",
        merchant_tin="2000123456",
        timestamp="2025-06-01T08:00:00Z",
        tax_group_manifest_version="ZW-2023-01",
        price_mode="inclusive",
        totals={"currency": "USD"},
        fx={"rate": "26.80", "source": "authority", "as_of": "2025-06-01T00:00:00Z"},
        payments=paid(gross, "USD"),
    )

    canonical = priced(document).canonical

    assert (canonical["totals"]["total_tax"], canonical["totals"]["total"]) == (tax, gross)
    assert canonical["tax_groups"][0]["tax_amount"] == tax
    assert "tax_amount" not in canonical["items"][0]


# --- which group


@pytest.mark.parametrize(
    ("item", "group"),
    [
        ({"kind": "goods"}, "TG02"),
        ({"kind": "service"}, "TG03"),
        ({"category": "essential"}, "TG04"),
        ({"category": "fuel"}, "TG10"),
        ({"category": "digital", "kind": "service"}, "TG14"),
        ({"tax_group": "TG05"}, "TG05"),
    ],
)
def test_line_gets_the_group_of_its_article(item: Json, group: str, invoice: Make) -> None:
    document = Document.model_validate(
        invoice(item | {"unit_price": "0.00"}, payments=paid("0.00"))
    )

    canonical = price(document).canonical

    assert canonical["items"][0]["tax_group"] == group
    assert "category" not in canonical["items"][0]


def test_embassy_pays_no_tax_unless_the_authority_says_so(invoice: Make) -> None:
    embassy = {"classification": "Embassy", "name": "Embassy of Norway", "exemption_ref": "MAE-7"}

    exempt = invoice(client=embassy, payments=paid("100000.00"))
    taxed = invoice(client=embassy, tax_override_reason="DGI 2026/14")

    assert totals(exempt) == ("100000.00", "0.00", "100000.00")
    assert totals(taxed) == ("100000.00", "16000.00", "116000.00")
    assert refusal(invoice({"tax_group": "TG02"}, client=embassy), TaxGroupInvalid) == (
        "/items/0/tax_group",
        "must be TG01: the buyer is an embassy, and there is no tax_override_reason",
    )


@pytest.mark.parametrize(
    ("item", "pointer", "detail"),
    [
        ({"tax_group": "TG99"}, "/items/0/tax_group", "TG99 is not a group of CD-2026-01"),
        ({"tax_group": "TG07"}, "/items/0/tax_group", "TG07 is for buyers abroad"),
        ({"category": "magic"}, "/items/0/tax_group", "one of"),
        ({"kind": "levy"}, "/items/0/tax_group", "one of"),
    ],
)
def test_group_that_cannot_be(item: Json, pointer: str, detail: str, invoice: Make) -> None:
    where, why = refusal(invoice(item), TaxGroupInvalid)

    assert (where, why[: len(detail)]) == (pointer, detail)


# --- refusals


def test_client_that_lacks_an_identifier_is_told_all_of_them(invoice: Make) -> None:
    with pytest.raises(ClassificationRuleBroken) as caught:
        priced(invoice(client={"classification": "CommercialIndividual", "name": "Mbuyi"}))

    assert [error["pointer"] for error in caught.value.errors] == [
        "/client/tin",
        "/client/id_document",
    ]


def test_unknown_classification(invoice: Make) -> None:
    where, why = refusal(invoice(client={"classification": "GUEST"}), ClassificationRuleBroken)

    assert (where, why) == (
        "/client/classification",
        "must be one of individual, company, commercial_individual, professional, embassy in CD",
    )


@pytest.mark.parametrize(
    ("members", "pointer", "detail"),
    [
        ({"jurisdiction": "FR"}, "/jurisdiction", "must be one of CD, KE, ZW"),
        ({"merchant_tin": "12"}, "/merchant_tin", "is not a NIF: it must match ^[A-Z0-9]{6,15}$"),
        (
            {"client": {"classification": "company", "name": "Acme", "tin": "12 34"}},
            "/client/tin",
            "is not a NIF: it must match ^[A-Z0-9]{6,15}$; name the country of a buyer",
        ),
        ({"invoice_type": "debit_note"}, "/invoice_type", "must be one of sale, advance,"),
        ({"invoice_type": "credit_note"}, "/original_fiscal_number", "is required for credit_note"),
        (
            {"invoice_type": "credit_note", "original_fiscal_number": "STL-1"},
            "/credit_reason",
            "is required for credit_note",
        ),
        ({"credit_reason": "rebate"}, "/credit_reason", "does not belong on sale"),
        ({"invoice_type": "export"}, "/client/country", "must be another country than CD"),
        ({"totals": {"currency": "KES"}}, "/totals/currency", "must be one of CDF, USD in CD"),
        ({"totals": {"currency": "USD"}}, "/fx", "is required with USD: tax is declared in CDF"),
        (
            {"fx": {"rate": "1.00", "source": "declared", "as_of": "2026-02-17T00:00:00Z"}},
            "/fx",
            "does not belong on an invoice in CDF",
        ),
        ({"payments": paid("115999.99")}, "/payments", "come to 115999.99 and the invoice to 116"),
        ({"payments": paid("40.00", "USD")}, "/payments/0/fx_rate", "is needed for a payment in"),
        ({"payments": paid("1.001", "USD")}, "/payments/0/amount", "USD has 2 decimals"),
    ],
)
def test_document_that_breaks_a_rule(
    members: Json, pointer: str, detail: str, invoice: Make
) -> None:
    where, why = refusal(invoice(**members), InvoiceRuleBroken)

    assert (where, why[: len(detail)]) == (pointer, detail)


@pytest.mark.parametrize(
    ("item", "pointer", "detail"),
    [
        ({"line_no": 2}, "/items/0/line_no", "is 2 where 1 comes next"),
        (
            {"discount_amount": "1.00", "discount_percent": "1"},
            "/items/0/discount_percent",
            "stands beside discount_amount: give one of them",
        ),
        ({"discount_amount": "1.001"}, "/items/0/discount_amount", "has at most 2 decimals"),
        (
            {"discount_amount": "100000.01"},
            "/items/0/discount_amount",
            "is 100000.01, more than the line's 100000.00",
        ),
    ],
)
def test_line_that_breaks_a_rule(item: Json, pointer: str, detail: str, invoice: Make) -> None:
    assert refusal(invoice(item), InvoiceRuleBroken) == (pointer, detail)


def test_declared_values_that_differ_are_named_with_ours(invoice: Make) -> None:
    document = invoice(
        {"tax_amount": "16000.01"},
        totals={"currency": "CDF", "total": "116000.00", "total_tax": "16000.01"},
        tax_groups=[
            {"code": "TG02", "rate": "0.16", "base_amount": "99999.99", "tax_amount": "16000.00"}
        ],
        tax_rounding_adjustment="0.01",
    )

    with pytest.raises(TotalsMismatch) as caught:
        priced(document)

    assert [(error["pointer"], error["detail"]) for error in caught.value.errors] == [
        ("/items/0/tax_amount", "is 16000.01 and comes to 16000.00 here"),
        ("/totals/total_tax", "is 16000.01 and comes to 16000.00 here"),
        ("/tax_groups/0/base_amount", "is 99999.99 and comes to 100000.00 here"),
        ("/tax_rounding_adjustment", "is 0.01 and comes to 0.00 here"),
    ]


def test_groups_declared_for_other_groups_differ(invoice: Make) -> None:
    group = {"code": "TG03", "rate": "0.16", "base_amount": "1.00", "tax_amount": "0.16"}

    assert refusal(invoice(tax_groups=[group]), TotalsMismatch) == (
        "/tax_groups",
        "has ['TG03'] and comes to ['TG02'] here",
    )


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        ({"tax_group_manifest_version": "CD-2025-01"}, "use CD-2026-01"),
        ({"tax_group_manifest_version": "CD-DGI-2026-03"}, "use CD-2026-01"),
        ({"timestamp": "2025-12-31T23:59:59Z"}, "no manifest covers this time"),
    ],
)
def test_manifest_of_another_time(members: Json, detail: str, invoice: Make) -> None:
    assert refusal(invoice(**members), ManifestNotInForce)[1] == detail


def test_rates_change_at_their_second(invoice: Make) -> None:
    def zimbabwe(timestamp: str, version: str) -> Json:
        return invoice(
            {"unit_price": "100.00"},
            jurisdiction="ZW",
            merchant_tin="2000123456",
            timestamp=timestamp,
            tax_group_manifest_version=version,
            totals={"currency": "ZWG"},
            payments=paid("115.00" if version == "ZW-2023-01" else "115.50", "ZWG"),
        )

    before = totals(zimbabwe("2025-12-14T23:59:59Z", "ZW-2023-01"))
    after = totals(zimbabwe("2025-12-15T00:00:00Z", "ZW-2025-12"))

    assert (before[1], after[1]) == ("15.00", "15.50")
    assert refusal(zimbabwe("2025-12-15T00:00:00Z", "ZW-2023-01"), ManifestNotInForce)[1] == (
        "use ZW-2025-12"
    )


# --- what is shown and what is hashed


def test_summary_has_every_group_and_the_hash_only_those_used(invoice: Make) -> None:
    document = priced(invoice())

    summary = document.tax_summary()

    assert [row["code"] for row in summary] == [f"TG{number:02d}" for number in range(1, 15)]
    assert [row["code"] for row in summary if row["base_amount"] != "0.00"] == ["TG02"]
    assert [row["code"] for row in document.canonical["tax_groups"]] == ["TG02"]
    assert "tax_summary" not in document.canonical


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (("3.000", "33.3300"), ("3", "33.33")),
        (("0.500", "500"), ("0.5", "500.00")),
        (("10", "0.125000"), ("10", "0.125")),
    ],
)
def test_equal_numbers_have_one_text(
    sent: tuple[str, str], kept: tuple[str, str], invoice: Make
) -> None:
    item = {"quantity": sent[0], "unit_price": sent[1], "tax_group": "TG01"}
    total = {"3": "99.99", "0.5": "250.00", "10": "1.25"}[kept[0]]

    line = priced(invoice(item, payments=paid(total))).canonical["items"][0]

    assert (line["quantity"], line["unit_price"]) == kept
