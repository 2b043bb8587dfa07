"""Facts of a signed invoice, as the database gives them to who prints."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from shared.fiscal.document import Document
from shared.fiscal.engine import price

Json = dict[str, Any]


@pytest.fixture
def facts(invoice: Callable[..., Json]) -> Callable[..., Json]:
    """What fiscal.printable says of an invoice; keywords as for `invoice`."""

    def make(*items: Json, environment: str = "production", **members: Any) -> Json:
        document = price(Document.model_validate(invoice(*items, **members))).canonical
        resource = {
            "id": "inv_01kaj3vq1nfr5r3e2n9v4d8yzx",
            "fiscal_number": "STL-KIN001-000001",
            "sequence": 1,
            "sealed": {
                "fiscal_authority_id": "stalela-cd-01",
                "sealed_at": "2026-02-17T04:00:02Z",
                "auth_code": "K56Y-BV6M-60QQ-5NM4",
            },
            "document": document,
            "credited_amount": "0.00",
            "environment": environment,
            "authority": None,
        }
        merchant = {
            "legal_name": "Librairie de l'Équateur",
            "address": "45, boulevard du 30 Juin",
            "registration_number": "CD/KIN/RCCM/12-A-00417",
        }
        outlet = {"name": "Gombe", "address": None, "time_zone": "Africa/Kinshasa"}
        return {"resource": json.dumps(resource), "merchant": merchant, "outlet": outlet}

    return make
