"""What FDMS is sent, as its published interface says: no unknown members, no other types."""

import json
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MONEY_TYPES = ("Cash", "Card", "MobileWallet", "Coupon", "Credit", "BankTransfer", "Other")
COUNTER_TYPES = (
    "SaleByTax",
    "SaleTaxByTax",
    "CreditNoteByTax",
    "CreditNoteTaxByTax",
    "DebitNoteByTax",
    "DebitNoteTaxByTax",
    "BalanceByMoneyType",
)
LocalTime = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$")]
MoneyType = Literal["Cash", "Card", "MobileWallet", "Coupon", "Credit", "BankTransfer", "Other"]
Cents = Annotated[Decimal, Field(max_digits=21, decimal_places=2)]
Exact = Annotated[Decimal, Field(max_digits=25, decimal_places=6)]
Percent = Annotated[Decimal, Field(ge=0, le=100, decimal_places=2)]
Model = TypeVar("Model", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Signature(_Part):
    """Hash of the signed text, and the signature over the text; both base64."""

    hash: Annotated[str, StringConstraints(max_length=44)]
    signature: Annotated[str, StringConstraints(max_length=344)]


class Contacts(_Part):
    """A buyer's."""

    phone: Annotated[str | None, Field(alias="phoneNo", max_length=20)] = None
    email: Annotated[str | None, Field(max_length=100)] = None


class Address(_Part):
    """A buyer's."""

    province: Annotated[str | None, Field(max_length=100)] = None
    city: Annotated[str | None, Field(max_length=100)] = None
    street: Annotated[str | None, Field(max_length=100)] = None
    house_no: Annotated[str | None, Field(alias="houseNo", max_length=250)] = None
    district: Annotated[str | None, Field(max_length=100)] = None


class Buyer(_Part):
    """Who the invoice is for."""

    name: Annotated[str | None, Field(alias="buyerRegisterName", max_length=250)] = None
    trade_name: Annotated[str | None, Field(alias="buyerTradeName", max_length=250)] = None
    vat_number: Annotated[str | None, Field(alias="vatNumber", min_length=9, max_length=9)] = None
    tin: Annotated[str | None, Field(alias="buyerTIN", min_length=10, max_length=10)] = None
    contacts: Annotated[Contacts | None, Field(alias="buyerContacts")] = None
    address: Annotated[Address | None, Field(alias="buyerAddress")] = None


class Note(_Part):
    """The receipt that a note corrects: by its id, or by device, number and day."""

    receipt_id: Annotated[int | None, Field(alias="receiptID")] = None
    device_id: Annotated[int | None, Field(alias="deviceID")] = None
    global_no: Annotated[int | None, Field(alias="receiptGlobalNo")] = None
    day_no: Annotated[int | None, Field(alias="fiscalDayNo")] = None


class Line(_Part):
    """A sale or a discount."""

    kind: Annotated[Literal["Sale", "Discount"], Field(alias="receiptLineType")]
    number: Annotated[int, Field(alias="receiptLineNo", ge=1)]
    hs_code: Annotated[str | None, Field(alias="receiptLineHSCode", max_length=8)] = None
    name: Annotated[str, Field(alias="receiptLineName", min_length=1, max_length=200)]
    price: Annotated[Exact | None, Field(alias="receiptLinePrice")] = None
    quantity: Annotated[Exact, Field(alias="receiptLineQuantity")]
    total: Annotated[Cents, Field(alias="receiptLineTotal")]
    tax_code: Annotated[str, Field(alias="taxCode", max_length=3)] = ""
    percent: Annotated[Percent | None, Field(alias="taxPercent")] = None
    tax_id: Annotated[int, Field(alias="taxID")]


class Tax(_Part):
    """The lines of one tax."""

    code: Annotated[str, Field(alias="taxCode", max_length=3)] = ""
    percent: Annotated[Percent | None, Field(alias="taxPercent")] = None
    tax_id: Annotated[int, Field(alias="taxID")]
    amount: Annotated[Cents, Field(alias="taxAmount")]
    gross: Annotated[Cents, Field(alias="salesAmountWithTax")]


class Payment(_Part):
    """By one kind of money."""

    money_type: Annotated[MoneyType, Field(alias="moneyTypeCode")]
    amount: Annotated[Cents, Field(alias="paymentAmount")]


class Receipt(_Part):
    """An invoice, a credit note or a debit note."""

    kind: Annotated[Literal["FiscalInvoice", "CreditNote", "DebitNote"], Field(alias="receiptType")]
    currency: Annotated[str, Field(alias="receiptCurrency", min_length=3, max_length=3)]
    counter: Annotated[int, Field(alias="receiptCounter", ge=1)]
    global_no: Annotated[int, Field(alias="receiptGlobalNo", ge=1)]
    invoice_no: Annotated[str, Field(alias="invoiceNo", min_length=1, max_length=50)]
    buyer: Annotated[Buyer | None, Field(alias="buyerData")] = None
    notes: Annotated[str | None, Field(alias="receiptNotes", max_length=500)] = None
    date: Annotated[LocalTime, Field(alias="receiptDate")]
    note: Annotated[Note | None, Field(alias="creditDebitNote")] = None
    is_inclusive: Annotated[bool, Field(alias="receiptLinesTaxInclusive")]
    lines: Annotated[list[Line], Field(alias="receiptLines")]
    taxes: Annotated[list[Tax], Field(alias="receiptTaxes")]
    payments: Annotated[list[Payment], Field(alias="receiptPayments")]
    total: Annotated[Cents, Field(alias="receiptTotal")]
    print_form: Annotated[Literal["Receipt48", "InvoiceA4"], Field(alias="receiptPrintForm")] = (
        "Receipt48"
    )
    signature: Annotated[Signature, Field(alias="receiptDeviceSignature")]


class Counter(_Part):
    """A counter of a fiscal day."""

    kind: Annotated[
        Literal[
            "SaleByTax",
            "SaleTaxByTax",
            "CreditNoteByTax",
            "CreditNoteTaxByTax",
            "DebitNoteByTax",
            "DebitNoteTaxByTax",
            "BalanceByMoneyType",
        ],
        Field(alias="fiscalCounterType"),
    ]
    currency: Annotated[str, Field(alias="fiscalCounterCurrency", min_length=3, max_length=3)]
    percent: Annotated[Percent | None, Field(alias="fiscalCounterTaxPercent")] = None
    tax_id: Annotated[int | None, Field(alias="fiscalCounterTaxID")] = None
    money_type: Annotated[MoneyType | None, Field(alias="fiscalCounterMoneyType")] = None
    value: Annotated[Cents, Field(alias="fiscalCounterValue")]


class SubmitReceipt(_Part):
    """The body of SubmitReceipt."""

    receipt: Receipt


class OpenDay(_Part):
    """The body of OpenDay."""

    day_no: Annotated[int | None, Field(alias="fiscalDayNo")] = None
    opened: Annotated[LocalTime, Field(alias="fiscalDayOpened")]


class CloseDay(_Part):
    """The body of CloseDay."""

    day_no: Annotated[int, Field(alias="fiscalDayNo")]
    counters: Annotated[list[Counter], Field(alias="fiscalDayCounters")]
    signature: Annotated[Signature, Field(alias="fiscalDayDeviceSignature")]
    receipts: Annotated[int, Field(alias="receiptCounter", ge=0)]


class Verify(_Part):
    """The body of VerifyTaxpayerInformation."""

    activation_key: Annotated[str, Field(alias="activationKey", min_length=1, max_length=8)]
    serial_no: Annotated[str, Field(alias="deviceSerialNo", min_length=1, max_length=20)]


class Register(_Part):
    """The body of RegisterDevice."""

    activation_key: Annotated[str, Field(alias="activationKey", max_length=8)]
    request: Annotated[str, Field(alias="certificateRequest", min_length=1)]


class Issue(_Part):
    """The body of IssueCertificate."""

    request: Annotated[str, Field(alias="certificateRequest", min_length=1)]


def parse(model: type[Model], body: bytes) -> Model:
    """ValueError (a pydantic one has every field) when the body is not one."""
    return model.model_validate(json.loads(body, parse_float=Decimal))


def numbers(value: Any) -> Any:
    """Decimals as the JSON numbers of an answer; theirs are doubles."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: numbers(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [numbers(member) for member in value]
    return value
