"""Sealed documents as receipts of FDMS."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.authority import exact_json
from shared.authority.zw import wire
from shared.authority.zw.content import Original, WouldBeRed, content_of
from shared.authority.zw.counters import of_receipt
from shared.authority.zw.keys import DeviceKey, common_name
from shared.authority.zw.taxes import Taxpayer
from shared.authority.zw.wire import Content, Counter, MoneyType, Place
from shared.fiscal.document import Document
from shared.fiscal.engine import price

Json = dict[str, Any]
CONFIG = {
    "vatNumber": "123456789",
    "applicableTaxes": [
        {"taxID": 1, "taxName": "Exempt", "validFrom": "2023-01-01T00:00:00"},
        {"taxID": 2, "taxPercent": 0, "taxName": "Zero rate", "validFrom": "2023-01-01T00:00:00"},
        {
            "taxID": 516,
            "taxPercent": Decimal("15"),
            "taxName": "Standard",
            "validFrom": "2023-01-01T00:00:00",
            "validTill": "2025-12-14T00:00:00",
        },
        {
            "taxID": 517,
            "taxPercent": Decimal("15.5"),
            "taxName": "Standard",
            "validFrom": "2025-12-15T00:00:00",
        },
    ],
}
VAT_PAYER = Taxpayer.read(CONFIG)
DAY = "2026-03-02"
ORIGINAL = Original(77, "2026-03-01T10:00:00")


def item(line_no: int = 1, **members: Any) -> Json:
    return {
        "line_no": line_no,
        "code": "A",
        "description": "Maize meal",
        "kind": "goods",
        "quantity": "2",
        "unit_price": "11.50",
        "hs_code": "11022000",
    } | members


def canonical(*items: Json, paid: str = "23.00", mode: str = "inclusive", **members: Any) -> Json:
    """A document of Zimbabwe as it is sealed, paid in cash."""
    made = {
        "schema_version": "1.0",
        "jurisdiction": "ZW",
        "merchant_tin": "2000123456",
        "outlet_id": "out_1",
        "pos_terminal_id": "pos-1",
        "cashier_id": "c-1",
        "invoice_type": "sale",
        "timestamp": "2026-03-02T08:00:00Z",
        "tax_group_manifest_version": "ZW-2025-12",
        "price_mode": mode,
        "client": {"classification": "individual"},
        "items": list(items or [item()]),
        "totals": {"currency": "ZWG"},
        "payments": [{"method": "cash", "amount": paid, "currency": "ZWG"}],
    } | members
    return price(Document.model_validate(made)).canonical


def receipt(document: Json, taxpayer: Taxpayer = VAT_PAYER) -> Content:
    return content_of(document, "TST-A-000001", taxpayer, DAY)


def credit(*items: Json, **members: Any) -> Json:
    facts = {
        "invoice_type": "credit_note",
        "original_fiscal_number": "TST-A-000001",
        "credit_reason": "returned_goods",
    }
    return canonical(*items, **facts, **members)


def test_inclusive_sale_has_its_tax_inside() -> None:
    made = receipt(canonical())

    assert (made.is_tax_inclusive, made.total) == (True, Decimal("23.00"))
    (row,) = made.taxes
    assert (row.tax_id, row.percent, row.amount, row.gross) == (
        517,
        Decimal("15.5"),
        Decimal("3.09"),
        Decimal("23.00"),
    )


@pytest.mark.parametrize(
    ("items", "tax", "gross"),
    [
        ([item()], "3.00", "23.00"),
        (
            [item(quantity="1", unit_price="0.30"), item(2, quantity="1", unit_price="0.20")],
            "0.07",
            "0.50",
        ),
    ],
    ids=["2 x 11.50", "0.30 + 0.20"],
)
def test_tax_of_15_percent_is_computed_on_the_group(
    items: list[Json], tax: str, gross: str
) -> None:
    before = {"timestamp": "2025-03-02T08:00:00Z", "tax_group_manifest_version": "ZW-2023-01"}
    made = content_of(canonical(*items, paid=gross, **before), "N", VAT_PAYER, "2025-03-02")

    assert [(row.tax_id, row.amount, row.gross) for row in made.taxes] == [
        (516, Decimal(tax), Decimal(gross))
    ]


def test_discount_is_a_line_of_its_own() -> None:
    made = receipt(canonical(item(discount_amount="0.55"), paid="25.93", mode="exclusive"))

    assert [(line.kind, line.price, line.quantity, line.total) for line in made.lines] == [
        ("Sale", Decimal("11.50"), Decimal(2), Decimal("23.00")),
        ("Discount", Decimal("-0.55"), Decimal(1), Decimal("-0.55")),
    ]
    assert made.total == Decimal("25.93")  # 22.45 and 15.5 %


def test_credit_note_is_negative_and_names_its_receipt() -> None:
    made = content_of(
        credit(item(discount_percent="10"), paid="20.70"), "N", VAT_PAYER, DAY, ORIGINAL
    )

    assert made.receipt_type == "CreditNote"
    assert (made.total, made.payments[0].amount) == (Decimal("-20.70"), Decimal("-20.70"))
    assert [(line.price, line.total) for line in made.lines] == [
        (Decimal("-11.50"), Decimal("-23.00")),
        (Decimal("2.30"), Decimal("2.30")),
    ]
    assert (made.original_receipt_id, made.notes) == (77, "Goods returned")


def test_credit_note_lowers_the_balance_and_has_counters_of_its_own() -> None:
    made = content_of(credit(), "N", VAT_PAYER, DAY, ORIGINAL)

    rate = Decimal("15.5")
    assert of_receipt(made) == [
        Counter("CreditNoteByTax", "ZWG", Decimal("-23.00"), 517, rate),
        Counter("CreditNoteTaxByTax", "ZWG", Decimal("-3.09"), 517, rate),
        Counter("BalanceByMoneyType", "ZWG", Decimal("-23.00"), money_type=MoneyType.CASH),
    ]


def test_exempt_sale_has_no_percent() -> None:
    body = wire.receipt_json(
        receipt(canonical(item(category="exempt"))),
        Place(42, 1, 1, "2026-03-02T10:00:00", None),
        DeviceKey.generate().sign("text"),
    )

    assert body["receipt"]["receiptTaxes"] == [
        {"taxID": 1, "taxAmount": Decimal("0.00"), "salesAmountWithTax": Decimal("23.00")}
    ]


def test_buyer_with_a_tin_is_named() -> None:
    client = {"classification": "company", "name": "Acme", "tin": "2000999999", "email": "a@b.zw"}

    assert receipt(canonical(client=client)).buyer == {
        "buyerRegisterName": "Acme",
        "buyerTIN": "2000999999",
        "buyerContacts": {"email": "a@b.zw"},
    }


@pytest.mark.parametrize(
    ("document", "original", "code"),
    [
        (canonical(item(hs_code="110220")), None, "RCPT048"),
        (canonical({k: v for k, v in item().items() if k != "hs_code"}), None, "RCPT047"),
        (canonical(item(category="zero_rated", hs_code="1102")), None, "RCPT048"),
        (canonical(item(tax_group="514")), None, "RCPT025"),
        (canonical(item(), item(2, unit_price="0")), None, "RCPT022"),
        (credit(), None, "RCPT032"),
        (credit(), Original(1, "2025-03-01T23:59:59"), "RCPT033"),
    ],
    ids=["HS of 6", "no HS", "short HS at 0 %", "no such tax", "free", "no original", "old"],
)
def test_what_would_be_red_is_never_sent(
    document: Json, original: Original | None, code: str
) -> None:
    with pytest.raises(WouldBeRed) as refused:
        content_of(document, "N", VAT_PAYER, DAY, original)

    assert refused.value.code == code


@given(cents=st.integers(1, 10**9), rate=st.sampled_from(["15", "15.5", "5"]))
def test_engine_and_fdms_round_inclusive_tax_alike(cents: int, rate: str) -> None:
    gross, percent = Decimal(cents) / 100, Decimal(rate)
    theirs = (gross * percent / (100 + percent)).quantize(Decimal("0.01"), "ROUND_HALF_UP")
    base = (gross / (1 + percent / 100)).quantize(Decimal("0.01"), "ROUND_HALF_UP")

    assert gross - base == theirs


def test_amounts_are_written_digit_for_digit() -> None:
    text = exact_json.write({"a": Decimal("2.50"), "b": [Decimal("-0.10"), 7], "é": 'say "yes"'})

    assert text == '{"a":2.50,"b":[-0.10,7],"\\u00e9":"say \\"yes\\""}'
    assert exact_json.read(text)["a"] == Decimal("2.50")


def test_certificate_request_names_serial_number_and_padded_device() -> None:
    assert common_name("SN0001", 42) == "ZIMRA-SN0001-0000000042"
