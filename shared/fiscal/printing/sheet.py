"""What stands on a document, in its order and in its language; paper and screens only lay it out.

The order is that of the fiscal reference: seller, number and authority, time, code, lines with the
letter of their group, totals of groups, payments, the authority's own block, QR, legend.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from shared.fiscal.printing.elements import Elements
from shared.fiscal.printing.figures import number, percentage, utc_text
from shared.fiscal.printing.wording import PROVIDERS, WORDS, Words
from shared.fiscal.rules import Jurisdiction, jurisdiction

Json = Mapping[str, Any]
Pair = tuple[str, str]

# A longer one would make the column of quantities unreadable: it goes with the name, which wraps.
_SHORT_UNIT: Final = 10


@dataclass(frozen=True, slots=True)
class Printable:
    """What a document is printed from: the facts, and which print this is.

    document: the canonical invoice. elements: None for what is never sealed (proforma, training).
    marks: written across the document, such as DUPLICATA 2.
    """

    document: Json
    merchant: Json
    outlet: Json
    elements: Elements | None
    marks: tuple[str, ...]
    words: Words
    authority: tuple[Pair, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One article. letter: of its tax group."""

    name: str
    code: str
    quantity: str
    unit_price: str
    discount: str
    amount: str
    letter: str


@dataclass(frozen=True, slots=True)
class GroupRow:
    """The base and the tax of one group."""

    letter: str
    name: str
    base: str
    tax: str


@dataclass(frozen=True, slots=True)
class Sheet:
    """A document ready to lay out: text alone, nothing to compute."""

    words: Words
    title: str
    marks: tuple[str, ...]
    seller: str
    seller_lines: tuple[str, ...]
    facts: tuple[Pair, ...]
    security: tuple[Pair, ...]
    buyer: str
    buyer_lines: tuple[Pair, ...]
    amount_label: str
    lines: tuple[Line, ...]
    groups: tuple[GroupRow, ...]
    totals: tuple[Pair, ...]
    total: Pair
    conversions: tuple[Pair, ...]
    payments: tuple[Pair, ...]
    authority: tuple[Pair, ...]
    notes: str
    qr: str


def sheet_of(printable: Printable) -> Sheet:
    """Everything that is printed, as text."""
    document, words = printable.document, printable.words
    rules = jurisdiction(document["jurisdiction"])
    totals, elements = document["totals"], printable.elements
    currency = totals["currency"]
    exclusive = document["price_mode"] == "exclusive"
    return Sheet(
        words=words,
        title=words.titles[document["invoice_type"]],
        marks=printable.marks,
        seller=printable.merchant["legal_name"],
        seller_lines=tuple(_seller(printable, rules)),
        facts=tuple(_facts(printable)),
        security=tuple(_security(elements, words)),
        buyer=document["client"].get("name", ""),
        buyer_lines=tuple(_buyer(document, rules, words)),
        amount_label=words.amount_exclusive if exclusive else words.amount_inclusive,
        lines=tuple(_lines(document, rules, words)),
        groups=tuple(_groups(document, rules, words)),
        totals=(
            (words.subtotal, number(totals["subtotal"], words)),
            (words.total_tax, number(totals["total_tax"], words)),
        ),
        total=(f"{words.total} {currency}", number(totals["total"], words)),
        conversions=tuple(_conversions(document, words)),
        payments=tuple(_payments(document, words)),
        authority=printable.authority,
        notes=document.get("notes", ""),
        qr=elements.qr_text if elements else "",
    )


def words_of(language: str | None, document: Json) -> Words:
    """The words of a language, or of the usual one of the document's country."""
    return WORDS[language or jurisdiction(document["jurisdiction"]).languages[0]]


def _seller(printable: Printable, rules: Jurisdiction) -> Iterator[str]:
    merchant, outlet, words = printable.merchant, printable.outlet, printable.words
    if merchant["address"]:
        yield merchant["address"]
    yield f"{rules.tin_name} {printable.document['merchant_tin']}"
    if merchant["registration_number"]:
        yield f"{words.registration} {merchant['registration_number']}"
    yield " · ".join(part for part in (outlet["name"], outlet["address"]) if part)


def _facts(printable: Printable) -> Iterator[Pair]:
    document, words, zone = printable.document, printable.words, printable.outlet["time_zone"]
    at = _instant(document["timestamp"]).astimezone(ZoneInfo(zone))
    city = zone.rpartition("/")[2].replace("_", " ")
    yield words.date, f"{at:%d/%m/%Y %H:%M} ({city})"
    for label, member in (
        (words.reference, "invoice_ref"),
        (words.original, "original_fiscal_number"),
        (words.certificate, "export_certificate_ref"),
    ):
        if member in document:
            yield label, document[member]
    if "credit_reason" in document:
        yield words.reason, words.reasons[document["credit_reason"]]
    yield words.cashier, document["cashier_id"]
    yield words.terminal, document["pos_terminal_id"]


def _security(elements: Elements | None, words: Words) -> Iterator[Pair]:
    if elements:
        yield words.number, elements.fiscal_number
        yield words.authority, elements.fiscal_authority_id
        yield words.sealed, utc_text(elements.sealed_at)
        yield words.code, elements.auth_code


def _buyer(document: Json, rules: Jurisdiction, words: Words) -> Iterator[Pair]:
    client = document["client"]
    for label, member in (
        (rules.tin_name, "tin"),
        (words.registration, "registration_number"),
        (words.exemption, "exemption_ref"),
        (words.address, "address"),
    ):
        if member in client:
            yield label, client[member]


def _lines(document: Json, rules: Jurisdiction, words: Words) -> Iterator[Line]:
    is_exclusive = document["price_mode"] == "exclusive"
    for item in document["items"]:
        net = item.get("line_base", item["line_total"]) if is_exclusive else item["line_total"]
        discount = ""
        if "discount_percent" in item:
            discount = f"-{number(item['discount_percent'], words)}{words.percent}"
        elif "discount_amount" in item:
            discount = f"-{number(item['discount_amount'], words)}"
        unit = item.get("unit", "")
        beside_quantity = unit if len(unit) <= _SHORT_UNIT else ""
        yield Line(
            name=f"{item['description']} ({unit})"
            if unit != beside_quantity
            else item["description"],
            code=item["code"],
            quantity=f"{number(item['quantity'], words)} {beside_quantity}".rstrip(),
            unit_price=number(item["unit_price"], words),
            discount=discount,
            amount=number(net, words),
            letter=_letter(document, item["tax_group"], rules),
        )


def _groups(document: Json, rules: Jurisdiction, words: Words) -> Iterator[GroupRow]:
    manifest = rules.manifests[document["tax_group_manifest_version"]]
    for row in document["tax_groups"]:
        treatment = words.treatments[manifest.groups[row["code"]].treatment]
        letter = _letter(document, row["code"], rules)
        ours = "" if letter == row["code"] else f" ({row['code']})"  # letters may stand for several
        yield GroupRow(
            letter=letter,
            name=f"{treatment} {percentage(row['rate'], words)}{ours}",
            base=number(row["base_amount"], words),
            tax=number(row["tax_amount"], words),
        )


def _conversions(document: Json, words: Words) -> Iterator[Pair]:
    """The tax in the currency in which it is declared, and the rate between the two."""
    totals = document["totals"]
    if "tax_currency" in totals:
        ours, theirs = totals["currency"], totals["tax_currency"]
        yield words.rate, f"1 {ours} = {number(totals['fx_rate'], words)} {theirs}"
        yield f"{words.tax_in} {theirs}", number(totals["tax_in_reporting_currency"], words)


def _payments(document: Json, words: Words) -> Iterator[Pair]:
    for payment in document["payments"]:
        provider = payment.get("provider")
        method = words.methods[payment["method"]]
        name = f"{method} ({PROVIDERS.get(provider, provider)})" if provider else method
        yield name, f"{number(payment['amount'], words)} {payment['currency']}"


def _letter(document: Json, group: str, rules: Jurisdiction) -> str:
    at = _instant(document["timestamp"])
    return rules.letter(document["tax_group_manifest_version"], group, at)


def _instant(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
