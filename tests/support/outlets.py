"""An outlet that seals invoices, speaking the public API as a till does."""

from datetime import UTC, date, datetime
from itertools import count
from typing import Any

import httpx
import jwt

from tests.support.days import begin_in_one_day
from tests.support.house import House, Merchant
from tests.support.simulator import Json

_codes = count(1)


class Outlet:
    """An outlet of a new Congolese taxpayer, selling through terminals."""

    jurisdiction, tin, zone = "CD", "308123456", "Africa/Kinshasa"

    def __init__(self, house: House, merchant: Merchant | None = None) -> None:
        begin_in_one_day(self.zone)
        self.house, self.merchant = house, merchant or house.merchant()
        self.code = f"T{next(_codes):05d}"
        taxpayer = {
            "legal_name": "Acacia Books",
            "jurisdiction": self.jurisdiction,
            "tin": self.tin,
        }
        self.merchant.api.put("/merchants/fiscal", json=taxpayer).raise_for_status()
        place = {"outlet_code": self.code, "name": "Till", "time_zone": self.zone}
        made = self.merchant.api.post("/merchants/outlets", json=place).raise_for_status()
        self.outlet_id = made.json()["id"]

    def year(self) -> Json:
        """The year in which it sold first, as reports are asked for: from, to."""
        year = self.first_day().year
        return {"from": f"{year}-01-01", "to": f"{year}-12-31"}

    def first_day(self) -> date:
        """The business day of its first document; today when there is none."""
        return date.fromisoformat(
            self.house.books.value(
                "select (coalesce(min(sealed_at::timestamptz), now()) at time zone %s)::date::text"
                " from fiscal.fiscal_ledger where outlet_id = %s",
                self.zone,
                self.outlet_id,
            )
        )

    def document(self, total: str = "1160.00", price: str = "1000.00", **members: Any) -> Json:
        """A sale of one service."""
        item = {
            "line_no": 1,
            "code": "CONS-001",
            "description": "Consulting",
            "kind": "service",
            "quantity": "1",
            "unit_price": price,
        }
        return {
            "schema_version": "1.0",
            "jurisdiction": "CD",
            "merchant_tin": "308123456",
            "outlet_id": self.outlet_id,
            "pos_terminal_id": "pos-1",
            "cashier_id": "cashier-1",
            "invoice_type": "sale",
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "tax_group_manifest_version": "CD-2026-01",
            "price_mode": "exclusive",
            "client": {"classification": "individual"},
            "items": [item],
            "totals": {"currency": "CDF"},
            "payments": [{"method": "cash", "amount": total, "currency": "CDF"}],
        } | members

    def seal(self, document: Json | None = None, key: str | None = None) -> httpx.Response:
        return self.merchant.post("/invoices", document or self.document(), key)

    def sealed(self, **members: Any) -> Json:
        answer = self.seal(self.document(**members))
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def cashier(self, label: str = "cashier-1") -> httpx.Client:
        """A person who signs in as a cashier of this outlet alone."""
        token = self.merchant.token("cashier")
        claims = jwt.decode(token, options={"verify_signature": False})
        self.house.books.run(
            "update public.memberships set outlet_id = %s where tenant_id = %s and user_id = %s",
            self.outlet_id,
            self.merchant.tenant_id,
            claims["sub"],
        )
        named = {"kind": "cashier", "label": label, "name": label, "user_id": claims["sub"]}
        path = f"/merchants/outlets/{self.outlet_id}/operators"
        self.merchant.api.put(path, json=named).raise_for_status()
        return self.house.client(token)

    def chain(self) -> list[Json]:
        """Every entry of the ledger: its words, its signature and, of documents, the status."""
        return self.house.books.rows(
            "select l.*, coalesce(i.payload, r.body) as payload, i.status,"
            " s.signature, s.key_id, s.auth_code, o.fiscal_authority_id"
            " from fiscal.fiscal_ledger as l"
            " join fiscal.outlets as o using (outlet_id)"
            " left join fiscal.invoices as i on i.invoice_id = l.invoice_id"
            " left join signing.key_rotations as r on r.fiscal_number = l.fiscal_number"
            " left join fiscal.signatures as s on s.fiscal_number = l.fiscal_number"
            " where l.outlet_id = %s order by l.entry_no",
            self.outlet_id,
        )
