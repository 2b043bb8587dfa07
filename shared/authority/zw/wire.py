"""What FDMS (Fiscal Device Gateway API v7.2) is sent: receipts, taxes, payments, counters.

Amounts are decimals here and numbers on the wire, written digit for digit (exact_json.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, TypeAlias

# The order in which counters of a fiscal day are written, which is not the alphabet's.
COUNTER_KINDS: Final = (
    "SaleByTax",
    "SaleTaxByTax",
    "CreditNoteByTax",
    "CreditNoteTaxByTax",
    "DebitNoteByTax",
    "DebitNoteTaxByTax",
    "BalanceByMoneyType",
)
Json: TypeAlias = Mapping[str, Any]


class MoneyType(StrEnum):
    """How a receipt is paid; counters follow this order."""

    CASH = "Cash"
    CARD = "Card"
    MOBILE_WALLET = "MobileWallet"
    COUPON = "Coupon"
    CREDIT = "Credit"
    BANK_TRANSFER = "BankTransfer"
    OTHER = "Other"


@dataclass(frozen=True, slots=True)
class ReceiptTax:
    """A row of receiptTaxes. percent: None for exempt. code: A, B …, empty when not used."""

    tax_id: int
    percent: Decimal | None
    amount: Decimal
    gross: Decimal
    code: str = ""

    def json(self) -> dict[str, Any]:
        return _present(
            taxCode=self.code or None,
            taxPercent=self.percent,
            taxID=self.tax_id,
            taxAmount=self.amount,
            salesAmountWithTax=self.gross,
        )


@dataclass(frozen=True, slots=True)
class ReceiptLine:
    """A sale or a discount. A credit note turns the signs of price and total."""

    kind: str
    name: str
    price: Decimal
    quantity: Decimal
    total: Decimal
    tax_id: int
    percent: Decimal | None
    hs_code: str | None = None

    def json(self, number: int) -> dict[str, Any]:
        return _present(
            receiptLineType=self.kind,
            receiptLineNo=number,
            receiptLineHSCode=self.hs_code,
            receiptLineName=self.name,
            receiptLinePrice=self.price,
            receiptLineQuantity=self.quantity,
            receiptLineTotal=self.total,
            taxPercent=self.percent,
            taxID=self.tax_id,
        )


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of receiptPayments, in the currency of the receipt."""

    money_type: MoneyType
    amount: Decimal

    def json(self) -> dict[str, Any]:
        return {"moneyTypeCode": self.money_type.value, "paymentAmount": self.amount}


@dataclass(frozen=True, slots=True)
class Content:
    """Everything of a receipt that follows from the document alone."""

    receipt_type: str
    currency: str
    invoice_no: str
    is_tax_inclusive: bool
    lines: tuple[ReceiptLine, ...]
    taxes: tuple[ReceiptTax, ...]
    payments: tuple[Payment, ...]
    total: Decimal
    buyer: Json | None = None
    notes: str | None = None
    original_receipt_id: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a receipt stands: its numbers, its second, and the hash before it.

    date: local time of Zimbabwe, YYYY-MM-DDTHH:mm:ss. previous_hash: None for a day's first.
    """

    device_id: int
    global_no: int
    counter: int
    date: str
    previous_hash: str | None


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter of a fiscal day: by tax (percent None: exempt), or by money type."""

    kind: str
    currency: str
    value: Decimal
    tax_id: int | None = None
    percent: Decimal | None = None
    money_type: MoneyType | None = None

    def json(self) -> dict[str, Any]:
        return _present(
            fiscalCounterType=self.kind,
            fiscalCounterCurrency=self.currency,
            fiscalCounterTaxPercent=self.percent,
            fiscalCounterTaxID=self.tax_id,
            fiscalCounterMoneyType=self.money_type.value if self.money_type else None,
            fiscalCounterValue=self.value,
        )


@dataclass(frozen=True, slots=True)
class DeviceSignature:
    """hash: SHA-256 of the text. signature: over the text, ES256 as DER. Both base64."""

    hash: str
    signature: str

    def json(self) -> dict[str, Any]:
        return {"hash": self.hash, "signature": self.signature}


def receipt_json(content: Content, place: Place, signature: DeviceSignature) -> dict[str, Any]:
    """The body of SubmitReceipt."""
    note = content.original_receipt_id
    return {
        "receipt": _present(
            receiptType=content.receipt_type,
            receiptCurrency=content.currency,
            receiptCounter=place.counter,
            receiptGlobalNo=place.global_no,
            invoiceNo=content.invoice_no,
            buyerData=content.buyer,
            receiptNotes=content.notes,
            receiptDate=place.date,
            creditDebitNote={"receiptID": note} if note is not None else None,
            receiptLinesTaxInclusive=content.is_tax_inclusive,
            receiptLines=[line.json(number) for number, line in enumerate(content.lines, 1)],
            receiptTaxes=[tax.json() for tax in content.taxes],
            receiptPayments=[payment.json() for payment in content.payments],
            receiptTotal=content.total,
            receiptPrintForm="Receipt48",
            receiptDeviceSignature=signature.json(),
        )
    }


def _present(**members: object) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
