"""What a fiscal device of Zimbabwe signs, byte for byte: the manual's and accepted examples."""

import base64
from decimal import Decimal

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from shared.authority.zw.counters import total
from shared.authority.zw.texts import (
    day_text,
    hash_of,
    printed_code,
    qr_text,
    receipt_text,
    verification_code,
)
from shared.authority.zw.wire import Content, Counter, MoneyType, Place, ReceiptTax

ABC = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
CREDITED = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="
MANUAL = "hNVJXP/ACOiE8McD3pKsDlqBXpuaUqQOfPnMyfZWI9k="
SIGNATURE = (
    "MEQCIEFD5hrfUyoV791H3W5fbW5BNVT60Dx0q29Mxd3zz8NWAiBYnQRRTG/bQzOhMht7tQ6n"
    "P8etJqYBUfGtHLSdUb/DFA=="
)
SPKI = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEh8nmP/AQlfEVE+L+RYJYxRXBO1SA+zPqCud2+U7mjL9y"
    "Y4saoLZv1m4PfuwhWwdQlhdUKzDOMKINMYOyXnmdpA=="
)


def receipt(kind: str, currency: str, total: str, *taxes: ReceiptTax) -> Content:
    return Content(kind, currency, "INV-1", True, (), taxes, (), Decimal(total))


def tax(tax_id: int, code: str, percent: str | None, amount: str, gross: str) -> ReceiptTax:
    rate = None if percent is None else Decimal(percent)
    return ReceiptTax(tax_id, rate, Decimal(amount), Decimal(gross), code)


RECEIPTS = {
    "first of a day": (
        receipt("FiscalInvoice", "USD", "115.00", tax(517, "", "15", "15.00", "115.00")),
        Place(37367, 24, 1, "2026-09-06T12:18:39", None),
        "37367FISCALINVOICEUSD242026-09-06T12:18:391150015.00150011500",
        "CvrXmTts5VuLcDDKK2tTRd73GMGm9Lewsn/2z2MtTj8=",
    ),
    "chained, three taxes": (
        receipt(
            "FiscalInvoice",
            "USD",
            "36.75",
            tax(3, "C", None, "0.00", "21.75"),
            tax(1, "A", "15", "0.65", "5.00"),
            tax(2, "B", "0", "0.00", "10.00"),
        ),
        Place(37367, 25, 2, "2026-09-06T12:19:01", ABC),
        "37367FISCALINVOICEUSD252026-09-06T12:19:013675A15.0065500B0.0001000C02175" + ABC,
        "OgvIEx2O+adUZtasac15ZGG4GYyTNGR5ILx8pK50Ds8=",
    ),
    "credit note": (
        receipt("CreditNote", "USD", "115.00", tax(1, "A", "15", "15.00", "115.00")),
        Place(37367, 27, 3, "2026-09-06T14:30:15", CREDITED),
        "37367CREDITNOTEUSD272026-09-06T14:30:1511500A15.00150011500" + CREDITED,
        "Y/ocyc3KWm9ZP+Q+VqpVpt0UIepKON1MXJu9GGOR61s=",
    ),
    "credit note 2 of the manual, negative": (
        receipt(
            "CreditNote",
            "USD",
            "-40.35",
            tax(1, "", None, "0.00", "-7.00"),
            tax(2, "", "0", "0.00", "-10.00"),
            tax(3, "", "14.5", "-3.00", "-23.00"),
        ),
        Place(322, 85, 2, "2020-09-19T09:23:07", MANUAL),
        "322CREDITNOTEUSD852020-09-19T09:23:07-40350-7000.000-100014.50-300-2300" + MANUAL,
        "F9/QB0vhxQlEF2nk+oebwP8V+qBcNlOFvoTeE/1QxPc=",
    ),
    "invoice 1 of the manual": (
        receipt(
            "FiscalInvoice",
            "ZWL",
            "9450.00",
            tax(1, "A", None, "0.00", "2500.00"),
            tax(2, "B", "0", "0.00", "3500.00"),
            tax(3, "C", "15", "150.00", "1150.00"),
            tax(3, "D", "15", "300.00", "2300.00"),
        ),
        Place(321, 432, 2, "2019-09-19T15:43:12", MANUAL),
        "321FISCALINVOICEZWL4322019-09-19T15:43:12945000A0250000B0.000350000"
        "C15.0015000115000D15.0030000230000" + MANUAL,
        "eHAAOVqxrRVRliVOsik4sONXJ10nckqCWIhPyoMyguM=",
    ),
}

DAY = [
    Counter("BalanceByMoneyType", "USD", Decimal("1.00"), money_type=MoneyType.OTHER),
    Counter("BalanceByMoneyType", "USD", Decimal("2.00"), money_type=MoneyType.CASH),
    Counter("BalanceByMoneyType", "USD", Decimal("0.00"), money_type=MoneyType.COUPON),
    Counter("BalanceByMoneyType", "USD", Decimal("3.00"), money_type=MoneyType.CARD),
    Counter("SaleByTax", "USD", Decimal("6.00"), tax_id=3),
    Counter("SaleByTax", "USD", Decimal("0.00"), tax_id=1, percent=Decimal(15)),
]
DAY_TEXT = (
    "37367202026-09-07SALEBYTAXUSD600BALANCEBYMONEYTYPEUSDCASH200BALANCEBYMONEYTYPEUSDCARD300"
    "BALANCEBYMONEYTYPEUSDOTHER100"
)


@pytest.mark.parametrize("example", RECEIPTS.values(), ids=RECEIPTS)
def test_receipt_is_signed_over_this_text(example: tuple[Content, Place, str, str]) -> None:
    content, place, text, hashed = example

    assert receipt_text(content, place) == text
    assert hash_of(text) == hashed


def test_day_is_signed_with_money_types_in_their_own_order() -> None:
    text = day_text(37367, 20, "2026-09-07", DAY)

    assert text == DAY_TEXT
    assert hash_of(text) == "AFH+wt7em555KkxN0MeE76rA0+uV3z+gHeOh3leXpKY="


def test_counters_are_by_kind_then_currency_then_tax() -> None:
    rows = [
        Counter("CreditNoteByTax", "USD", Decimal("-1.00"), tax_id=1),
        Counter("SaleByTax", "ZWG", Decimal("1.00"), tax_id=1),
        Counter("SaleByTax", "USD", Decimal("1.00"), tax_id=517, percent=Decimal("15.5")),
        Counter("SaleByTax", "USD", Decimal("1.00"), tax_id=2, percent=Decimal(0)),
        Counter("SaleByTax", "USD", Decimal("2.50"), tax_id=2, percent=Decimal(0)),
    ]

    assert day_text(1, 1, "2026-01-01", total(rows)) == (
        "112026-01-01SALEBYTAXUSD0.00350SALEBYTAXUSD15.50100SALEBYTAXZWG100CREDITNOTEBYTAXUSD-100"
    )


def test_accepted_signature_is_der_over_the_text_itself() -> None:
    key = load_der_public_key(base64.b64decode(SPKI))
    text = RECEIPTS["first of a day"][2]

    assert isinstance(key, EllipticCurvePublicKey)
    key.verify(base64.b64decode(SIGNATURE), text.encode(), ECDSA(SHA256()))


def test_qr_holds_device_day_number_and_the_start_of_the_signatures_hash() -> None:
    place = RECEIPTS["first of a day"][1]
    code = verification_code(SIGNATURE)

    assert qr_text("https://fdmstest.zimra.co.zw", place, code) == (
        "https://fdmstest.zimra.co.zw/00000373670609202600000000241ffffbc7516cdf86"
    )


def test_qr_of_the_manual() -> None:
    place = Place(321, 1112223331, 1, "2023-04-03T10:00:00", None)
    text = qr_text("https://invoice.zimra.co.zw/", place, "4C8BE27663330417")

    assert text == "https://invoice.zimra.co.zw/00000003210304202311122233314C8BE27663330417"
    assert printed_code("4c8be27663330417") == "4C8B-E276-6333-0417"
