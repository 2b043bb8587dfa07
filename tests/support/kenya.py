"""Sealed Kenyan documents, made by the real engine."""

import re
from typing import Any

from shared.authority.base import Acceptance, Outlet, SealedDocument
from shared.errors import InvoiceRuleBroken
from shared.fiscal.document import Document
from shared.fiscal.engine import price

PIN = "P051234567Q"
OUTLET = Outlet("out_1", "NBO001", "Shop", None, "Africa/Nairobi", PIN, "Shop Ltd")


def sealed(
    items: list[dict[str, Any]],
    number: int = 1,
    original: Acceptance | None = None,
    currency: str = "KES",
    methods: tuple[str, ...] = ("cash",),
    **members: Any,
) -> SealedDocument:
    """A sealed sale of these items; `members` are those of the invoice."""
    draft = {
        "schema_version": "1.0",
        "jurisdiction": "KE",
        "merchant_tin": PIN,
        "outlet_id": "out_1",
        "pos_terminal_id": "pos-1",
        "cashier_id": "cashier-1",
        "invoice_type": "sale",
        "timestamp": "2026-02-17T04:00:00Z",
        "tax_group_manifest_version": "KE-2023-07",
        "price_mode": "inclusive",
        "client": {"classification": "individual"},
        "totals": {"currency": currency},
        **members,
        "items": [
            {
                "line_no": at,
                "code": "A1",
                "description": "Sugar",
                "kind": "goods",
                "quantity": "1",
                "tax_group": "B",
                **item,
            }
            for at, item in enumerate(items, 1)
        ],
    }
    total, first, *others = _total(draft), *methods
    draft["payments"] = [
        {"method": first, "currency": currency, "amount": total},
        *({"method": other, "currency": currency, "amount": "0.00"} for other in others),
    ]
    return SealedDocument(
        invoice_id=f"inv_{number}",
        fiscal_number=f"TST-NBO001-{number:06d}",
        sequence=number,
        sealed_at="2026-02-17T21:30:05Z",
        auth_code="K56Y-BV6M-60QQ-5NM4",
        payload=price(Document.model_validate(draft)).canonical,
        outlet=OUTLET,
        environment="sandbox",
        original=original,
        original_number=draft.get("original_fiscal_number"),
    )


def _total(draft: dict[str, Any]) -> str:
    """What the document comes to: the engine says so when the payments do not fit."""
    currency = draft["totals"]["currency"]
    nothing = [{"method": "cash", "currency": currency, "amount": "0.00"}]
    try:
        priced = price(Document.model_validate(draft | {"payments": nothing}))
    except InvoiceRuleBroken as refused:
        found = re.search(r"the invoice to ([0-9.]+)", refused.message)
        if found is None:
            raise
        return found[1]
    return str(priced.canonical["totals"]["total"])
