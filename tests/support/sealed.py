"""Sealed documents without a database: priced by the engine, as an adapter is given them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from shared.authority.base import Acceptance, Outlet, SealedDocument
from shared.fiscal.credits import Original, Terms, credit_of
from shared.fiscal.decimals import rounded, shortest
from shared.fiscal.document import Document
from shared.fiscal.engine import price

Json = dict[str, Any]

KINSHASA = Outlet(
    outlet_id="out_1",
    outlet_code="KIN001",
    name="Gombe",
    address="12 avenue du Commerce",
    time_zone="Africa/Kinshasa",
    tin="308123456",
    legal_name="Acacia Books",
)


def congolese(**members: Any) -> Json:
    """A sale at home of one consulting hour for 1000.00 CDF before VAT."""
    return {
        "schema_version": "1.0",
        "jurisdiction": "CD",
        "merchant_tin": "308123456",
        "outlet_id": "out_1",
        "pos_terminal_id": "pos-1",
        "cashier_id": "cashier-1",
        "invoice_type": "sale",
        "timestamp": "2026-11-21T08:00:00Z",
        "tax_group_manifest_version": "CD-2026-01",
        "price_mode": "exclusive",
        "client": {"classification": "individual"},
        "items": [line()],
        "totals": {"currency": "CDF"},
        "payments": [{"method": "cash", "amount": "1160.00", "currency": "CDF"}],
    } | members


def line(number: int = 1, **members: Any) -> Json:
    """A line of a document."""
    return {
        "line_no": number,
        "code": "CONS-001",
        "description": "Consulting",
        "kind": "service",
        "quantity": "1",
        "unit_price": "1000.00",
    } | members


def sealed(
    written: Json, original: Acceptance | None = None, original_number: str | None = None
) -> SealedDocument:
    """The document as sealed: computed by the engine, numbered 1."""
    return SealedDocument(
        invoice_id="inv_1",
        fiscal_number="TST-KIN001-000001",
        sequence=1,
        sealed_at="2026-11-21T08:00:01Z",
        auth_code="K56Y-BV6M-60QQ-5NM4",
        payload=price(Document.model_validate(written)).canonical,
        outlet=KINSHASA,
        environment="sandbox",
        original=original,
        original_number=original_number,
    )


def credits_in_parts(original: Json, shares: Iterable[Decimal]) -> Iterator[Json]:
    """Credits of a document until nothing is left of it: each a share of what is, then the rest.

    Ends where sealing refuses the next one, because more would be credited than was sold.
    """
    left = {item["line_no"]: Decimal(item["quantity"]) for item in original["items"]}
    most, now = Decimal(original["totals"]["total"]), datetime(2026, 11, 21, 9, tzinfo=UTC)
    given = list[Json]()
    for share in (*shares, Decimal(1)):
        parts = {number: rounded(quantity * share, 6) for number, quantity in left.items()}
        quantities = {number: shortest(part) for number, part in parts.items() if part}
        terms = Terms("correction", "pos-1", "cashier-1", quantities=quantities)
        so_far = Original("TST-KIN001-000001", original, tuple(given))
        payload = price(credit_of(so_far, terms, now)).canonical
        most -= Decimal(payload["totals"]["total"])
        if most < 0:
            return
        yield payload
        given.append(payload)
        left = {number: quantity - parts[number] for number, quantity in left.items()}
