"""A sealed document as a receipt of FDMS: same lines, same taxes, same total, its own words.

Credit notes are magnitudes here and negative there. What FDMS would mark red is refused before a
number is taken: a day that holds one red receipt can be closed by ZIMRA alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from shared.authority.base import sync_rows
from shared.authority.zw.taxes import ApplicableTax, NoSuchTax, Taxpayer, tax_of
from shared.authority.zw.wire import Content, MoneyType, Payment, ReceiptLine, ReceiptTax
from shared.fiscal.decimals import EXACT, ZERO, parse, rounded
from shared.fiscal.rules import Manifest, jurisdiction

_SCALE: Final = 2  # of every currency of FDMS
_TIN_LENGTH: Final = 10
_NAME_LENGTH: Final = 200
_MONEY_TYPES: Final = {
    row["method"]: MoneyType(row["authority_code"]) for row in sync_rows("zw", "payment_methods")
}
_REASONS: Final = {
    "returned_goods": "Goods returned",
    "correction": "Correction",
    "cancellation": "Cancellation",
    "rebate": "Rebate",
    "other": "Credit",
}


class WouldBeRed(Exception):
    """FDMS would mark the receipt red with `code`; it must not be sent."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class Original:
    """The receipt that a note corrects."""

    receipt_id: int
    date: str


def content_of(
    document: Mapping[str, Any],
    fiscal_number: str,
    taxpayer: Taxpayer,
    on: str,
    original: Original | None = None,
) -> Content:
    """The receipt of a canonical document. on: its local day. Raises WouldBeRed.

    The fiscal number is its invoiceNo: a merchant's own reference is unique in one outlet only.
    """
    receipt_type = _type_of(document)
    corrected = None if receipt_type == "FiscalInvoice" else _checked(original, on)
    sign = Decimal(-1) if receipt_type == "CreditNote" else Decimal(1)
    # A note is taxed as the invoice was which it corrects, whatever the rate is now.
    taxes = _taxes_by_group(document, taxpayer, corrected.date[:10] if corrected else on)
    lines = tuple(
        line for item in document["items"] for line in _lines(item, taxes, sign, taxpayer)
    )
    total = sign * parse(document["totals"]["total"])
    return Content(
        receipt_type=receipt_type,
        currency=document["totals"]["currency"],
        invoice_no=fiscal_number,
        is_tax_inclusive=document["price_mode"] == "inclusive",
        lines=lines,
        taxes=tuple(_receipt_taxes(document, taxes, sign)),
        payments=_payments(document, total),
        total=total,
        buyer=_buyer(document["client"]),
        notes=_notes(document, receipt_type),
        original_receipt_id=corrected.receipt_id if corrected else None,
    )


def _type_of(document: Mapping[str, Any]) -> str:
    kind = jurisdiction("ZW").invoice_types[document["invoice_type"]].authority_code
    assert kind is not None, "every type of Zimbabwe is a type of FDMS"
    return kind


def _checked(original: Original | None, on: str) -> Original:
    if original is None:
        raise WouldBeRed("RCPT032", "the original invoice is not a receipt that FDMS has taken")
    year, rest = original.date[:4], original.date[4:10]
    if f"{int(year) + 1}{rest}" < on:
        raise WouldBeRed("RCPT033", "the original invoice is older than 12 months")
    return original


def _manifest(document: Mapping[str, Any]) -> Manifest:
    return jurisdiction("ZW").manifests[document["tax_group_manifest_version"]]


def _taxes_by_group(
    document: Mapping[str, Any], taxpayer: Taxpayer, on: str
) -> dict[str, ApplicableTax]:
    groups = _manifest(document).groups
    try:
        return {
            row["code"]: tax_of(groups[row["code"]], taxpayer.taxes, on)
            for row in document["tax_groups"]
        }
    except NoSuchTax as unknown:
        raise WouldBeRed("RCPT025", str(unknown)) from unknown


def _lines(
    item: Mapping[str, Any],
    taxes: Mapping[str, ApplicableTax],
    sign: Decimal,
    taxpayer: Taxpayer,
) -> Iterator[ReceiptLine]:
    tax = taxes[item["tax_group"]]
    name, hs_code = item["description"][:_NAME_LENGTH], item.get("hs_code")
    _check_hs_code(item, tax, taxpayer)
    price, quantity = parse(item["unit_price"]), parse(item["quantity"])
    if price == 0:
        raise WouldBeRed("RCPT022", f"line {item['line_no']}: a price of zero")
    gross = rounded(EXACT.multiply(price, quantity), _SCALE)
    by = (tax.tax_id, tax.percent, hs_code)
    yield ReceiptLine("Sale", name, sign * price, quantity, sign * gross, *by)
    discount = gross - parse(item["line_total"])  # tax is per group here: the line's total is net
    if discount:
        yield ReceiptLine("Discount", name, -sign * discount, Decimal(1), -sign * discount, *by)


def _check_hs_code(item: Mapping[str, Any], tax: ApplicableTax, taxpayer: Taxpayer) -> None:
    code, line = item.get("hs_code"), f"line {item['line_no']}"
    if code is None:
        if taxpayer.is_vat_payer:
            raise WouldBeRed("RCPT047", f"{line}: a VAT payer gives the HS code of what it sells")
        return
    lengths = (8,) if taxpayer.is_vat_payer and not tax.percent else (4, 8)
    if len(code) not in lengths:
        wanted = " or ".join(map(str, lengths))
        raise WouldBeRed("RCPT048", f"{line}: the HS code has {len(code)} digits, not {wanted}")


def _receipt_taxes(
    document: Mapping[str, Any], taxes: Mapping[str, ApplicableTax], sign: Decimal
) -> Iterator[ReceiptTax]:
    for row in document["tax_groups"]:
        tax, amount = taxes[row["code"]], parse(row["tax_amount"])
        gross = EXACT.add(parse(row["base_amount"]), amount)
        yield ReceiptTax(tax.tax_id, tax.percent, sign * amount, sign * gross)


def _payments(document: Mapping[str, Any], total: Decimal) -> tuple[Payment, ...]:
    """In the currency of the receipt, converted and rounded as when it was sealed."""
    currency = document["totals"]["currency"]
    sign = Decimal(-1) if total < 0 else Decimal(1)
    found = []
    for row in document["payments"]:
        amount = parse(row["amount"])
        if row["currency"] != currency:
            amount = rounded(EXACT.multiply(amount, parse(row["fx_rate"])), _SCALE)
        found.append(Payment(_MONEY_TYPES[row["method"]], sign * amount))
    assert sum((row.amount for row in found), ZERO) == total, "sealed documents are paid exactly"
    return tuple(found)


def _buyer(client: Mapping[str, Any]) -> dict[str, Any] | None:
    """Name and TIN go together: FDMS takes no buyer without a Zimbabwean TIN of ten digits."""
    tin, name = client.get("tin", ""), client.get("name")
    if name is None or not (len(tin) == _TIN_LENGTH and tin.isdecimal()):
        return None
    buyer: dict[str, Any] = {"buyerRegisterName": name, "buyerTIN": tin}
    contacts = {"phoneNo": client.get("phone"), "email": client.get("email")}
    if known := {key: value for key, value in contacts.items() if value and len(value) <= 100}:
        buyer["buyerContacts"] = known
    return buyer


def _notes(document: Mapping[str, Any], receipt_type: str) -> str | None:
    notes: str | None = document.get("notes")
    if notes is None and receipt_type != "FiscalInvoice":
        return _REASONS[document.get("credit_reason", "other")]
    return notes
