"""The credit of a sealed document: all of it, or some quantities of its lines."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from shared.fiscal.checks import broken
from shared.fiscal.decimals import EXACT, parse, rounded, shortest
from shared.fiscal.document import Document, Item
from shared.fiscal.engine import Priced, PricedLine, unpaid
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


@dataclass(frozen=True, slots=True)
class Original:
    """A sealed document and, as they were sealed, the credits it has had."""

    fiscal_number: str
    document: Canonical
    credits: Sequence[Canonical] = ()


def credit_of(original: Original, terms: Terms, now: datetime) -> Document:
    """The document to seal. now: aware. Raises the 422s of the fiscal domain."""
    sold = original.document
    document: dict[str, Any] = {name: sold[name] for name in _KEPT if name in sold}
    document |= {
        "invoice_type": _type_of_credit(sold),
        "timestamp": f"{now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "pos_terminal_id": terms.pos_terminal_id,
        "cashier_id": terms.cashier_id,
        "original_fiscal_number": original.fiscal_number,
        "credit_reason": terms.reason,
        "items": _items(sold, terms.quantities),
        "totals": {"currency": sold["totals"]["currency"]},
        "payments": [_payment(sold, terms)],
    }
    if terms.invoice_ref is not None:
        document["invoice_ref"] = terms.invoice_ref
    if terms.notes is not None:
        document["notes"] = terms.notes
    priced = _within(original, unpaid(Document.model_validate(document)))
    (payment,) = priced.document.payments
    paid = payment.model_copy(update={"amount": priced.canonical["totals"]["total"]})
    return priced.document.model_copy(update={"payments": [paid]})


def _type_of_credit(original: Canonical) -> str:
    kinds = jurisdiction(original["jurisdiction"]).invoice_types.values()
    for kind in kinds:
        if kind.is_credit and original["invoice_type"] in kind.refers_to:
            return kind.code
    raise broken(
        "/original_fiscal_number",
        f"a {original['invoice_type']} is not credited: name the document it corrects",
    )


def _items(original: Canonical, quantities: Mapping[int, str] | None) -> list[dict[str, Any]]:
    sold = {item["line_no"]: item for item in original["items"]}
    wanted = quantities or {number: item["quantity"] for number, item in sold.items()}
    strange = next((number for number in wanted if number not in sold), None)
    if strange is not None:
        raise broken("/items", f"the original has no line {strange}: it has 1 to {len(sold)}")
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


def _payment(original: Canonical, terms: Terms) -> dict[str, Any]:
    """How the money goes back; how much is known once the credit is priced."""
    paid = {"method": terms.method, "amount": "0", "currency": original["totals"]["currency"]}
    if terms.method is None:
        first = original["payments"][0]
        paid |= {name: first[name] for name in ("method", "provider") if name in first}
    if terms.reference is not None:
        paid["reference"] = terms.reference
    return paid


def _within(original: Original, credit: Priced) -> Priced:
    """The credit, less the units by which its rounding takes a tax group above what is left of it.

    A line rounds its discount, its base and its tax, by half a unit each: whatever is more than
    that is no matter of rounding, and left for the database to refuse.
    """
    left, lines = _gross(original.document, credit.scale), Counter(_groups(credit.canonical))
    for earlier in original.credits:
        left.subtract(_gross(earlier, credit.scale))
        lines.update(_groups(earlier))
    while excess := _gross(credit.canonical, credit.scale) - left:
        items = list(credit.document.items)
        for code, units in excess.items():
            largest = max((one for one in credit.lines if one.group.code == code), key=_net)
            # What comes off the base takes its tax along.
            less = Decimal((units + 1) // 2).scaleb(-credit.scale)
            if units > 2 * lines[code] or less > largest.net:
                return credit
            items[largest.item.line_no - 1] = _discounted(largest, less)
        credit = unpaid(credit.document.model_copy(update={"items": items}))
    return credit


def _gross(document: Canonical, scale: int) -> Counter[str]:
    """What each tax group comes to with its tax, in the currency's smallest unit."""
    return Counter(
        {
            row["code"]: int((parse(row["base_amount"]) + parse(row["tax_amount"])).scaleb(scale))
            for row in document["tax_groups"]
        }
    )


def _groups(document: Canonical) -> Iterator[str]:
    return (item["tax_group"] for item in document["items"])


def _net(line: PricedLine) -> Decimal:
    return line.net


def _discounted(line: PricedLine, less: Decimal) -> Item:
    discount = {"discount_amount": f"{line.gross - line.net + less:f}", "discount_percent": None}
    return line.item.model_copy(update=discount)
