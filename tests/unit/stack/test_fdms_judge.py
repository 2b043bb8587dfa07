"""The FDMS simulator's judgement of a receipt: every validation error of the manual, by itself."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from scripts.stack.fdms.judge import ApplicableTax, Context, judge
from scripts.stack.fdms.wire import Receipt

Json = dict[str, Any]
LINE: Json = {
    "receiptLineType": "Sale",
    "receiptLineNo": 1,
    "receiptLineHSCode": "11022000",
    "receiptLineName": "Maize meal",
    "receiptLinePrice": "11.50",
    "receiptLineQuantity": "2",
    "receiptLineTotal": "23.00",
    "taxPercent": "15.5",
    "taxID": 517,
}
TAX: Json = {"taxPercent": "15.5", "taxID": 517, "taxAmount": "3.09", "salesAmountWithTax": "23.00"}
PAID: Json = {"moneyTypeCode": "Cash", "paymentAmount": "23.00"}
SALE: Json = {
    "receiptType": "FiscalInvoice",
    "receiptCurrency": "ZWG",
    "receiptCounter": 1,
    "receiptGlobalNo": 1,
    "invoiceNo": "A-1",
    "receiptDate": "2026-03-02T10:00:00",
    "receiptLinesTaxInclusive": True,
    "receiptLines": [LINE],
    "receiptTaxes": [TAX],
    "receiptPayments": [PAID],
    "receiptTotal": "23.00",
    "receiptDeviceSignature": {"hash": "", "signature": ""},
}
CREDIT: Json = SALE | {
    "receiptType": "CreditNote",
    "receiptNotes": "Returned",
    "creditDebitNote": {"receiptID": 1},
    "receiptLines": [LINE | {"receiptLinePrice": "-11.50", "receiptLineTotal": "-23.00"}],
    "receiptTaxes": [TAX | {"taxAmount": "-3.09", "salesAmountWithTax": "-23.00"}],
    "receiptPayments": [PAID | {"paymentAmount": "-23.00"}],
    "receiptTotal": "-23.00",
}
EXCLUSIVE: Json = SALE | {
    "receiptLinesTaxInclusive": False,
    "receiptTaxes": [TAX | {"taxAmount": "3.57", "salesAmountWithTax": "26.57"}],
    "receiptPayments": [PAID | {"paymentAmount": "26.57"}],
    "receiptTotal": "26.57",
}


@dataclass(frozen=True)
class Known:
    receipt: Receipt


def known(**changes: Any) -> Known:
    return Known(Receipt.model_validate(SALE | changes))


CONTEXT = Context(
    device_id=42,
    certificates=(),
    taxes=(
        ApplicableTax(1, None, "Exempt", "2023-01-01", None, is_vat=False),
        ApplicableTax(517, Decimal("15.5"), "Standard", "2025-12-15", None, is_vat=True),
    ),
    is_vat_payer=True,
    day_opened="2026-03-02T08:00:00",
    day_hours=24,
    now=datetime(2026, 3, 2, 12, 0, 0),  # noqa: DTZ001  local by definition
    is_first=True,
    previous=None,
    previous_same_day=False,
    invoice_no_used=False,
    original=None,
    credited=Decimal(0),
)
NOTED = replace(CONTEXT, original=known())


def codes(receipt: Json, context: Context = CONTEXT) -> dict[str, str]:
    """Code to colour; the signature, which nobody made here, left out."""
    found = judge(Receipt.model_validate(receipt), context)
    return {row.code: row.color for row in found if row.code != "RCPT020"}


@pytest.mark.parametrize(
    ("receipt", "context"),
    [(SALE, CONTEXT), (EXCLUSIVE, CONTEXT), (CREDIT, NOTED)],
    ids=["inclusive", "exclusive", "credit"],
)
def test_good_receipt_is_without_findings(receipt: Json, context: Context) -> None:
    assert codes(receipt, context) == {}


def with_line(**changes: Any) -> Json:
    return SALE | {"receiptLines": [LINE | changes]}


def with_tax(**changes: Any) -> Json:
    return SALE | {"receiptTaxes": [TAX | changes]}


WRONG: dict[str, tuple[Json, Context]] = {
    "RCPT010": (SALE | {"receiptCurrency": "KES"}, CONTEXT),
    "RCPT011": (SALE | {"receiptCounter": 2}, CONTEXT),
    "RCPT012": (SALE | {"receiptGlobalNo": 3}, replace(CONTEXT, previous=known(), is_first=False)),
    "RCPT013": (SALE, replace(CONTEXT, invoice_no_used=True)),
    "RCPT014": (SALE, replace(CONTEXT, day_opened="2026-03-02T11:00:00")),
    "RCPT015": (CREDIT | {"creditDebitNote": None}, NOTED),
    "RCPT016": (SALE | {"receiptLines": []}, CONTEXT),
    "RCPT017": (SALE | {"receiptTaxes": []}, CONTEXT),
    "RCPT018": (SALE | {"receiptPayments": []}, CONTEXT),
    "RCPT019": (SALE | {"receiptTotal": "24.00"}, CONTEXT),
    "RCPT021": (SALE, replace(CONTEXT, is_vat_payer=False)),
    "RCPT022": (with_line(receiptLinePrice="-11.50"), CONTEXT),
    "RCPT023": (with_line(receiptLineQuantity="-2"), CONTEXT),
    "RCPT024": (with_line(receiptLineTotal="23.01"), CONTEXT),
    "RCPT025": (with_line(taxID=9), CONTEXT),
    "RCPT026": (with_tax(taxAmount="3.10"), CONTEXT),
    "RCPT027": (with_tax(salesAmountWithTax="23.01"), CONTEXT),
    "RCPT028": (SALE | {"receiptPayments": [PAID | {"paymentAmount": "-1"}]}, CONTEXT),
    "RCPT029": (SALE | {"creditDebitNote": {"receiptID": 1}}, CONTEXT),
    "RCPT030": (SALE, replace(CONTEXT, previous=known(), is_first=False)),
    "RCPT031": (SALE | {"receiptDate": "2026-03-02T12:00:01"}, CONTEXT),
    "RCPT032": (CREDIT, CONTEXT),
    "RCPT033": (CREDIT, replace(NOTED, original=known(receiptDate="2025-02-28T10:00:00"))),
    "RCPT034": (CREDIT | {"receiptNotes": None}, NOTED),
    "RCPT035": (CREDIT, replace(NOTED, credited=Decimal("0.01"))),
    "RCPT036": (CREDIT, replace(NOTED, original=known(receiptTaxes=[TAX | {"taxID": 1}]))),
    "RCPT037": (EXCLUSIVE | {"receiptTotal": "26.58"}, CONTEXT),
    "RCPT038": (with_tax(salesAmountWithTax="22.00"), CONTEXT),
    "RCPT039": (SALE | {"receiptPayments": [PAID, PAID]}, CONTEXT),
    "RCPT040": (SALE | {"receiptTotal": "-23.00"}, CONTEXT),
    "RCPT041": (SALE, replace(CONTEXT, day_opened="2026-03-01T09:00:00")),
    "RCPT042": (CREDIT, replace(NOTED, original=known(receiptCurrency="USD"))),
    "RCPT043": (SALE | {"buyerData": {"buyerRegisterName": "Acme"}}, CONTEXT),
    "RCPT047": (with_line(receiptLineHSCode=None), CONTEXT),
    "RCPT048": (with_line(receiptLineHSCode="110220"), CONTEXT),
}


@pytest.mark.parametrize("code", WRONG)
def test_what_is_wrong_is_found_in_its_colour(code: str) -> None:
    yellow = {"RCPT014", "RCPT031", "RCPT041"}

    assert codes(*WRONG[code])[code] == ("Yellow" if code in yellow else "Red")


def test_without_the_receipt_before_nothing_of_the_sequence_is_judged() -> None:
    found = codes(SALE | {"receiptGlobalNo": 3}, replace(CONTEXT, is_first=False))

    assert found == {"RCPT011": "Grey", "RCPT012": "Grey", "RCPT030": "Grey"}


def test_signature_is_by_a_certificate_of_the_device() -> None:
    found = judge(Receipt.model_validate(SALE), CONTEXT)

    assert [row.code for row in found] == ["RCPT020"]
