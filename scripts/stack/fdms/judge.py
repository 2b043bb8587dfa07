"""What FDMS finds in a receipt it has taken: validation errors with their colours.

Red and grey keep a day from closing, yellow does not. Grey: an earlier receipt is missing, so this
one cannot be judged; it is judged again when that one arrives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Protocol

from scripts.stack.fdms import texts
from scripts.stack.fdms.ca import is_signed
from scripts.stack.fdms.wire import Line, Receipt, Tax

CURRENCIES = ("USD", "ZWG", "ZAR", "BWP", "GBP", "EUR")
FORMAT = "%Y-%m-%dT%H:%M:%S"
RED, GREY, YELLOW = "Red", "Grey", "Yellow"
ZERO = Decimal(0)
WORDS = {
    "RCPT010": "Wrong currency code is used",
    "RCPT011": "Receipt counter is not sequential",
    "RCPT012": "Receipt global number is not sequential",
    "RCPT013": "Invoice number is not unique",
    "RCPT014": "Receipt date is earlier than fiscal day opening date",
    "RCPT015": "Credited/debited invoice data is not provided",
    "RCPT016": "No receipt lines provided",
    "RCPT017": "Taxes information is not provided",
    "RCPT018": "Payment information is not provided",
    "RCPT019": "Invoice total amount is not equal to sum of all invoice lines",
    "RCPT020": "Invoice signature is not valid",
    "RCPT021": "VAT tax is used in invoice while taxpayer is not VAT taxpayer",
    "RCPT022": "Invoice line price has the wrong sign",
    "RCPT023": "Invoice line quantity must be positive",
    "RCPT024": "Invoice line total is not equal to unit price * quantity",
    "RCPT025": "Invalid tax is used",
    "RCPT026": "Incorrectly calculated tax amount",
    "RCPT027": "Incorrectly calculated total sales amount (including tax)",
    "RCPT028": "Payment amount has the wrong sign",
    "RCPT029": "Credited/debited invoice information provided for regular invoice",
    "RCPT030": "Invoice date is earlier than previously submitted receipt date",
    "RCPT031": "Invoice is submitted with the future date",
    "RCPT032": "Credit / debit note refers to non-existing invoice",
    "RCPT033": "Credited/debited invoice is issued more than 12 months ago",
    "RCPT034": "Note for credit/debit note is not provided",
    "RCPT035": "Total credit note amount exceeds original invoice amount",
    "RCPT036": "Credit/debit note uses other taxes than are used in the original invoice",
    "RCPT037": "Invoice total amount is not equal to sum of all invoice lines and taxes applied",
    "RCPT038": "Invoice total amount is not equal to sum of sales amounts in tax table",
    "RCPT039": "Invoice total amount is not equal to sum of all payment amounts",
    "RCPT040": "Invoice total amount has the wrong sign",
    "RCPT041": "Invoice is issued after fiscal day end",
    "RCPT042": "Credit/debit note uses other currency than is used in the original invoice",
    "RCPT043": "Mandatory buyer data fields are not provided",
    "RCPT047": "HS code must be sent if taxpayer is a VAT payer",
    "RCPT048": "HS code length is not the one that the tax needs",
}
YELLOWS = ("RCPT014", "RCPT031", "RCPT041")


@dataclass(frozen=True, slots=True)
class Finding:
    """One validation error."""

    code: str
    color: str

    def json(self) -> dict[str, str]:
        return {
            "validationErrorCode": self.code,
            "validationErrorColor": self.color,
            "validationErrorDescription": WORDS[self.code],
        }


@dataclass(frozen=True, slots=True)
class ApplicableTax:
    """A tax of the taxpayer. percent None: exempt."""

    tax_id: int
    percent: Decimal | None
    name: str
    valid_from: str
    valid_till: str | None
    is_vat: bool


@dataclass(frozen=True, slots=True)
class Context:
    """What a receipt is compared with. previous: None when it is missing.

    credited: what earlier notes took from the original, as a positive amount.
    """

    device_id: int
    certificates: Sequence[str]
    taxes: Sequence[ApplicableTax]
    is_vat_payer: bool
    day_opened: str
    day_hours: int
    now: datetime
    is_first: bool
    previous: "Known | None"
    previous_same_day: bool
    invoice_no_used: bool
    original: "Known | None"
    credited: Decimal


class Known(Protocol):
    """A receipt that was taken."""

    @property
    def receipt(self) -> Receipt: ...


def judge(sent: Receipt, about: Context) -> list[Finding]:
    """All validation errors, in the order of their codes."""
    red = {
        *_facts(sent, about),
        *_lines(sent, about),
        *_taxes(sent, about),
        *_sums(sent),
        *_note(sent, about),
    }
    found = {Finding(code, YELLOW if code in YELLOWS else RED) for code in red}
    found |= set(_sequence(sent, about))
    return sorted(found, key=lambda finding: (finding.code, finding.color))


def _sequence(sent: Receipt, about: Context) -> Iterator[Finding]:
    """Needs the receipt before."""
    if about.previous is None and not about.is_first:
        for code in ("RCPT011", "RCPT012", "RCPT020", "RCPT030"):
            yield Finding(code, GREY)
        return
    before = about.previous.receipt if about.previous else None
    same_day = before is not None and about.previous_same_day
    if sent.counter != (before.counter + 1 if before and same_day else 1):
        yield Finding("RCPT011", RED)
    if before and sent.global_no != before.global_no + 1:
        yield Finding("RCPT012", RED)
    if before and sent.date <= before.date:
        yield Finding("RCPT030", RED)
    text = texts.receipt(
        about.device_id, sent, before.signature.hash if before and same_day else None
    )
    signed = any(is_signed(one, text, sent.signature.signature) for one in about.certificates)
    if not signed or sent.signature.hash != texts.digest(text):
        yield Finding("RCPT020", RED)


def _facts(sent: Receipt, about: Context) -> Iterator[str]:
    date = datetime.strptime(sent.date, FORMAT)  # noqa: DTZ007  local by definition
    opened = datetime.strptime(about.day_opened, FORMAT)  # noqa: DTZ007
    if sent.currency not in CURRENCIES:
        yield "RCPT010"
    if about.invoice_no_used:
        yield "RCPT013"
    if date < opened:
        yield "RCPT014"
    if date > about.now:
        yield "RCPT031"
    if date > opened + timedelta(hours=about.day_hours):
        yield "RCPT041"
    if sent.buyer and not (sent.buyer.name and sent.buyer.tin):
        yield "RCPT043"


def _lines(sent: Receipt, about: Context) -> Iterator[str]:
    if not sent.lines:
        yield "RCPT016"
    for line in sent.lines:
        negative = (sent.kind == "CreditNote") != (line.kind == "Discount")
        if line.price is not None:
            if line.price == 0 or (line.price < 0) != negative:
                yield "RCPT022"
            if _round(line.price * line.quantity) != line.total:
                yield "RCPT024"
        if line.quantity <= 0:
            yield "RCPT023"
        yield from _hs_code(line, about.is_vat_payer)


def _hs_code(line: Line, is_vat_payer: bool) -> Iterator[str]:
    if line.hs_code is None:
        if is_vat_payer:
            yield "RCPT047"
        return
    lengths = (8,) if is_vat_payer and not line.percent else (4, 8)
    if len(line.hs_code) not in lengths or not line.hs_code.isdecimal():
        yield "RCPT048"


def _taxes(sent: Receipt, about: Context) -> Iterator[str]:
    if not sent.taxes:
        yield "RCPT017"
    rows: list[Line | Tax] = [*sent.lines, *sent.taxes]
    for row in rows:
        known = _known(row, sent, about)
        if known is None:
            yield "RCPT025"
        elif known.is_vat and not about.is_vat_payer:
            yield "RCPT021"
    for tax in sent.taxes:
        lines = [
            one for one in sent.lines if (one.tax_id, one.percent) == (tax.tax_id, tax.percent)
        ]
        net, percent = sum((one.total for one in lines), ZERO), tax.percent or ZERO
        below = 100 + percent if sent.is_inclusive else Decimal(100)
        if _round(net * percent / below) != tax.amount:
            yield "RCPT026"
        if (net if sent.is_inclusive else net + tax.amount) != tax.gross:
            yield "RCPT027"


def _known(row: Line | Tax, sent: Receipt, about: Context) -> ApplicableTax | None:
    on = sent.date[:10] if about.original is None else about.original.receipt.date[:10]
    for tax in about.taxes:
        if (
            tax.tax_id == row.tax_id
            and tax.percent == row.percent
            and tax.valid_from <= on
            and (tax.valid_till is None or on <= tax.valid_till)
        ):
            return tax
    return None


def _sums(sent: Receipt) -> Iterator[str]:
    lines = sum((line.total for line in sent.lines), ZERO)
    if sent.is_inclusive and sent.total != lines:
        yield "RCPT019"
    if not sent.is_inclusive and sent.total != lines + sum((t.amount for t in sent.taxes), ZERO):
        yield "RCPT037"
    if sent.total != sum((tax.gross for tax in sent.taxes), ZERO):
        yield "RCPT038"
    if not sent.payments:
        yield "RCPT018"
    if sent.total != sum((payment.amount for payment in sent.payments), ZERO):
        yield "RCPT039"
    sign = -1 if sent.kind == "CreditNote" else 1
    if any(payment.amount * sign < 0 for payment in sent.payments):
        yield "RCPT028"
    if sent.total * sign < 0:
        yield "RCPT040"


def _note(sent: Receipt, about: Context) -> Iterator[str]:
    if sent.kind == "FiscalInvoice":
        if sent.note is not None:
            yield "RCPT029"
        return
    if not sent.notes:
        yield "RCPT034"
    if sent.note is None:
        yield "RCPT015"
        return
    if about.original is None:
        yield "RCPT032"
        return
    original = about.original.receipt
    issued = datetime.strptime(original.date, FORMAT)  # noqa: DTZ007  local by definition
    noted = datetime.strptime(sent.date, FORMAT)  # noqa: DTZ007
    if noted > issued + timedelta(days=366):
        yield "RCPT033"
    if sent.kind == "CreditNote" and about.credited - sent.total > original.total:
        yield "RCPT035"
    if not {(t.tax_id, t.percent) for t in sent.taxes} <= {
        (t.tax_id, t.percent) for t in original.taxes
    }:
        yield "RCPT036"
    if sent.currency != original.currency:
        yield "RCPT042"


def _round(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"), ROUND_HALF_UP)
