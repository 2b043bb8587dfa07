"""An outlet that sells, and closes its days: the SQL calls that the functions make for it."""

import json
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from typing import Any, Final

from shared.canonical import canonical_bytes, canonical_hash
from shared.fiscal.document import Document
from shared.fiscal.engine import price
from tests.support.days import begin_in_one_day
from tests.support.sql import Api, Books, Headers, Row, digest

_codes: Final = count(1)
COUNTRIES: Final = {
    "CD": ("308123456", "Africa/Kinshasa", "CD-2026-01", "CDF"),
    "KE": ("A123456789B", "Africa/Nairobi", "KE-2023-07", "KES"),
    "ZW": ("1234567890", "Africa/Harare", "ZW-2025-12", "ZWG"),
}


def line(unit_price: str = "1000.00", quantity: str = "1", **members: Any) -> Row:
    """One line of a document."""
    return {
        "code": "CONS-001",
        "description": "Consulting",
        "kind": "service",
        "quantity": quantity,
        "unit_price": unit_price,
    } | members


@dataclass(frozen=True)
class Till:
    """One outlet, and one secret key with every scope."""

    api: Api
    books: Books
    country: str = "CD"
    tenant_id: str = field(default_factory=lambda: f"tn_{uuid.uuid4().hex}")
    code: str = field(default_factory=lambda: f"T{next(_codes):05d}")

    def open(self, cut_off_hour: int = 0) -> "Till":
        """Register the taxpayer and open the outlet."""
        self.books.run(
            "insert into public.tenants (tenant_id, name, country, status, plan)"
            " values (%s, 'Acacia', 'KE', 'active', 'unlimited')",
            self.tenant_id,
        )
        self.books.run(
            "insert into public.api_keys (key_id, tenant_id, environment, kind, name, key_hash,"
            " last4, scopes, created_by) values"
            " (public.new_id('key'), %s, 'sandbox', 'secret', 'test', %s, '0000', '{*}', 'test')",
            self.tenant_id,
            digest(self.tenant_id),
        )
        tin, zone, _, _ = COUNTRIES[self.country]
        begin_in_one_day(zone)
        self.ask(
            "fiscal.put_merchant",
            "fn_merchants",
            jurisdiction=self.country,
            legal_name="Acacia Books",
            tin=tin,
            vat_status="registered",
            registration_number=None,
            address=None,
        )
        self.ask(
            "fiscal.create_outlet",
            "fn_merchants",
            outlet_code=self.code,
            name="Gombe",
            time_zone=zone,
            cut_off_hour=cut_off_hour,
            address=None,
        )
        return self

    @property
    def headers(self) -> Headers:
        return {"x-stalela-key-hash": digest(self.tenant_id)}

    @property
    def outlet_id(self) -> str:
        query = "select outlet_id from fiscal.outlets where outlet_code = %s"
        return str(self.books.value(query, self.code))

    def ask(self, function: str, role: str, /, **arguments: Any) -> Row:
        """The body that an API function answers. Raises Refused."""
        answer = self.api.call(role, self.headers, function, **arguments)
        return dict(json.loads(answer["body"]))

    def document(self, *lines: Row, currency: str | None = None, **members: Any) -> Document:
        """A document of these lines, paid in cash, authored now."""
        tin, _, manifest, own = COUNTRIES[self.country]
        items = [
            {"line_no": number} | one for number, one in enumerate(lines or (line(),), start=1)
        ]
        currency = currency or own
        fx = {"rate": "2826.00", "source": "declared", "as_of": "2026-03-02T12:00:00Z"}
        written = {
            "schema_version": "1.0",
            "jurisdiction": self.country,
            "merchant_tin": tin,
            "outlet_id": self.outlet_id,
            "pos_terminal_id": "pos-1",
            "cashier_id": "cashier-1",
            "invoice_type": "sale",
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "tax_group_manifest_version": manifest,
            "price_mode": "inclusive",  # a document then comes to the sum of its lines
            "client": {"classification": "individual"},
            "items": items,
            "totals": {"currency": currency},
        }
        written |= ({"fx": fx} if currency != own else {}) | members
        return priced_into(written)

    def seal(self, document: Document | None = None, api: Api | None = None) -> Row:
        """Number and chain it; the invoice, whose signature nobody makes here."""
        priced = price(document or self.document())
        minor = 10**priced.scale
        sealing = (api or self.api).call(
            "fn_invoices",
            self.headers,
            "fiscal.seal",
            idempotency_key=str(uuid.uuid4()),
            body_hash=uuid.uuid4().hex,
            payload=canonical_bytes(priced.canonical).decode(),
            canonical_payload_hash=canonical_hash(priced.canonical),
            tax_summary=[*priced.tax_summary()],
            total_minor=int(priced.total * minor),
            tax_minor=int(priced.total_tax * minor),
        )
        number = sealing["work"]["fiscal_number"]
        stands = (api or self.api).call(
            "fn_invoices", self.headers, "fiscal.numbered_invoice", fiscal_number=number
        )
        return dict(json.loads(stands["body"]))

    def credit(self, sale: Row, *lines: Row, **members: Any) -> Row:
        """Credit these lines of a sale."""
        members |= {
            "invoice_type": "credit_note",
            "original_fiscal_number": sale["fiscal_number"],
            "credit_reason": "returned_goods",
            "currency": sale["document"]["totals"]["currency"],
        }
        return self.seal(self.document(*lines, **members))

    def close(self, day: date | None = None, api: Api | None = None, key: str | None = None) -> Row:
        """Close the business day on request; the report."""
        answer = (api or self.api).call(
            "fn_reports",
            self.headers,
            "fiscal.close_business_day",
            idempotency_key=key or str(uuid.uuid4()),
            body_hash="same",
            outlet_id=self.outlet_id,
            business_date=day,
        )
        return dict(json.loads(answer["body"]))

    def another_day(self) -> None:
        """What was reported was reported a day earlier, so that today is open again."""
        with self.books.connection.transaction():
            self.books.run("set local session_replication_role = replica")
            for days in (-1000, 999):  # in two steps, because each row must be unique at once
                self.books.run(
                    "update fiscal.reports set business_date = business_date + %s"
                    " where outlet_id = %s",
                    days,
                    self.outlet_id,
                )
            self.books.run(
                "update fiscal.open_days set business_date = business_date - 1,"
                " due_at = due_at - interval '1 day' where outlet_id = %s",
                self.outlet_id,
            )

    def end_day_now(self) -> None:
        """Wait for the next second, and let it be midnight where the outlet is."""
        while self.close_due_days():
            """Those of outlets whose day ended since their test."""
        self.wait_until(self.midnight_in(1))
        self.books.run(
            "update fiscal.open_days as d set business_date = z.today - 1,"
            " due_at = fiscal.day_end(z.outlet, z.today - 1)"
            " from (select o as outlet, fiscal.business_date(o, clock_timestamp()) as today"
            "       from fiscal.outlets as o where o.outlet_id = %s) as z"
            " where d.outlet_id = %s",
            self.outlet_id,
            self.outlet_id,
        )

    def midnight_in(self, seconds: int) -> datetime:
        """Move the outlet to where it is midnight so soon."""
        midnight = self.books.value(
            "select date_trunc('second', clock_timestamp()) + make_interval(secs => %s)", seconds
        )
        assert isinstance(midnight, datetime)
        # A POSIX zone reads west of Greenwich as positive.
        zone = f"<X>{midnight:%H:%M:%S}"
        self.books.run(
            "update fiscal.outlets set time_zone = %s where outlet_id = %s", zone, self.outlet_id
        )
        return midnight

    def wait_until(self, at: datetime) -> None:
        """By the clock of the database."""
        self.books.run("select pg_sleep(extract(epoch from %s - clock_timestamp())::float)", at)

    def close_due_days(self) -> int:
        """Run the cron task; how many days it closed, of any outlet."""
        return int(self.books.value("select fiscal.close_due_days()"))

    def reports(self) -> list[Row]:
        """The Zs, oldest first, as sealed."""
        query = "select body from fiscal.reports where outlet_id = %s order by report_no"
        return [json.loads(body) for body in self.books.column(query, self.outlet_id)]

    def periodic(self) -> Row:
        """The sum of all its Zs."""
        return self.ask(
            "fiscal.periodic_report",
            "fn_reports",
            outlet_id=self.outlet_id,
            first_date=date(2020, 1, 1),
            last_date=date(2099, 12, 31),
        )

    def chain(self) -> list[Row]:
        """The outlet's ledger."""
        query = "select * from fiscal.fiscal_ledger where outlet_id = %s order by entry_no"
        return self.books.rows(query, self.outlet_id)

    @property
    def open_day(self) -> date:
        """The business day it is in."""
        query = "select business_date from fiscal.open_days where outlet_id = %s"
        found = self.books.value(query, self.outlet_id)
        assert isinstance(found, date)
        return found


def priced_into(written: Row) -> Document:
    """The document with one cash payment of what it comes to, unless it names its payments."""
    total = sum(Decimal(one["quantity"]) * Decimal(one["unit_price"]) for one in written["items"])
    paid = {"method": "cash", "amount": f"{total}", "currency": written["totals"]["currency"]}
    return Document.model_validate({"payments": [paid]} | written)
