"""The credit of a sealed document: all of it, or some quantities of its lines."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from shared.fiscal.checks import broken
from shared.fiscal.decimals import EXACT, parse, rounded, shortest
from shared.fiscal.document import Document
from shared.fiscal.engine import unpaid
from shared.fiscal.rules import jurisdiction
from shared.money import scale_of

Canonical = Mapping[str, Any]
_COMPUTED: Final = ("tax_rate", "line_base", "tax_amount", "line_total")
# What a credit takes over as it is. Its time, its number and its payments are its own.
_KEPT: Final = (
    "schema_version", "jurisdiction", "merchant_tin", "outlet_id", "tax_group_manifest_version",
    "price_mode", "client", "export_certificate_ref", "tax_override_reason", "fx",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terms:
    """Who gives the credit, why and how. method None: as the original was paid."""

    reason: str
    pos_terminal_id: str
    cashier_id: str
    invoice_ref: str | None = None
    notes: str | None = None
    method: str | None = None
    reference: str | None = None
    quantities: Mapping[int, str] | None = None  # by line_no; None: every line, whole


def credit_of(original: Canonical, fiscal_number: str, terms: Terms, now: datetime) -> Document:
    """The document to seal. now: aware. Raises the 422s of the fiscal domain."""
    document: dict[str, Any] = {name: original[name] for name in _KEPT if name in original}
    document |= {
        "invoice_type": _type_of_credit(original),
        "timestamp": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "pos_terminal_id": terms.pos_terminal_id,
        "cashier_id": terms.cashier_id,
        "original_fiscal_number": fiscal_number,
        "credit_reason": terms.reason,
        "items": _items(original, terms.quantities),
        "totals": {"currency": original["totals"]["currency"]},
    }
    if terms.invoice_ref is not None:
        document["invoice_ref"] = terms.invoice_ref
    if terms.notes is not None:
        document["notes"] = terms.notes
    return Document.model_validate(document | {"payments": [_payment(document, original, terms)]})


def _type_of_credit(original: Canonical) -> str:
    kinds = jurisdiction(original["jurisdiction"]).invoice_types.values()
    for kind in kinds:
        if kind.is_credit and original["invoice_type"] in kind.refers_to:
            return kind.code
    raise broken("/original_fiscal_number", f"a {original['invoice_type']} is not credited")


def _items(original: Canonical, quantities: Mapping[int, str] | None) -> list[dict[str, Any]]:
    sold = {item["line_no"]: item for item in original["items"]}
    wanted = quantities or {number: item["quantity"] for number, item in sold.items()}
    strange = next((number for number in wanted if number not in sold), None)
    if strange is not None:
        raise broken("/items", f"the original has no line {strange}")
    scale = scale_of(original["totals"]["currency"])
    lines = (_line(sold[number], quantity, scale) for number, quantity in sorted(wanted.items()))
    return [line | {"line_no": number} for number, line in enumerate(lines, start=1)]


def _line(item: Canonical, quantity: str, scale: int) -> dict[str, Any]:
    line = {name: value for name, value in item.items() if name not in _COMPUTED}
    if "discount_amount" in line:
        share = EXACT.multiply(parse(line["discount_amount"]), parse(quantity))
        part = rounded(EXACT.divide(share, parse(item["quantity"])), scale)
        line["discount_amount"] = f"{part:f}"
    return line | {"quantity": shortest(parse(quantity))}


def _payment(document: dict[str, Any], original: Canonical, terms: Terms) -> dict[str, Any]:
    """How the money goes back: the whole of what the credit comes to."""
    currency = original["totals"]["currency"]
    paid = {"method": terms.method, "amount": "0", "currency": currency}
    if terms.method is None:
        first = original["payments"][0]
        paid |= {name: first[name] for name in ("method", "provider") if name in first}
    if terms.reference is not None:
        paid["reference"] = terms.reference
    priced = unpaid(Document.model_validate(document | {"payments": [paid]}))
    return paid | {"amount": priced.canonical["totals"]["total"]}
