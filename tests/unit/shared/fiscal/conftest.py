from collections.abc import Callable
from typing import Any

import pytest

Json = dict[str, Any]


@pytest.fixture
def invoice() -> Callable[..., Json]:
    """A valid Congolese sale of one service; keywords replace members, `items` are shorthand."""

    def make(*items: Json, **members: Any) -> Json:
        lines = [
            {
                "line_no": number,
                "code": f"C-{number}",
                "description": "Article",
                "kind": "goods",
                "quantity": "1",
                "unit_price": "100000.00",
            }
            | item
            for number, item in enumerate(items or ({},), start=1)
        ]
        return {
            "schema_version": "1.0",
            "jurisdiction": "CD",
            "merchant_tin": "308123456",
            "outlet_id": "outlet-kin001",
            "pos_terminal_id": "pos-1",
            "cashier_id": "cashier-1",
            "invoice_type": "sale",
            "timestamp": "2026-02-17T04:00:00Z",
            "tax_group_manifest_version": "CD-2026-01",
            "price_mode": "exclusive",
            "client": {"classification": "individual"},
            "items": lines,
            "totals": {"currency": "CDF"},
            "payments": [{"method": "cash", "amount": "116000.00", "currency": "CDF"}],
        } | members

    return make
