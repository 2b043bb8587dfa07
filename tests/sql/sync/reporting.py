"""Outlets that report to an authority, reduced to their SQL; no authority is asked anything."""

from itertools import count
from typing import Any

from tests.support.sql import Api, Books, Row

_numbers = count(1)
ROLE = "fn_authority_sync"


class Reporting:
    """A taxpayer who agreed, with an outlet and its device, and workers that claim its rows."""

    def __init__(self, books: Books, api: Api, jurisdiction: str) -> None:
        self.books, self.api, self.jurisdiction = books, api, jurisdiction
        self.tenant_id = str(books.value("select public.new_id('tn')"))
        books.run(
            "insert into public.tenants (tenant_id, name, country, status, plan)"
            " values (%s, 'Acacia Books', 'KE', 'active', 'unlimited')",
            self.tenant_id,
        )
        self.merchant_id = f"mrc_{next(_numbers)}"
        books.run(
            "insert into fiscal.merchants (merchant_id, tenant_id, environment, jurisdiction,"
            " legal_name, tin, vat_status) values (%s, %s, 'sandbox', %s, 'A', '1', 'registered')",
            self.merchant_id,
            self.tenant_id,
            jurisdiction,
        )
        books.run(
            "insert into sync.consents (tenant_id, environment, is_given, changed_by)"
            " values (%s, 'sandbox', true, 'test')",
            self.tenant_id,
        )
        self.outlet_id, self.device_id = self.add_outlet()

    def add_outlet(self) -> tuple[str, str]:
        """Another outlet of the same taxpayer, with a device."""
        number = next(_numbers)
        outlet_id, device_id = f"out_{number}", f"dev_{number}"
        self.books.run(
            "insert into fiscal.outlets (outlet_id, merchant_id, tenant_id, environment,"
            " outlet_code, name, time_zone, fiscal_authority_id)"
            " values (%s, %s, %s, 'sandbox', %s, 'Gombe', 'Africa/Kinshasa', 'stalela-test')",
            outlet_id,
            self.merchant_id,
            self.tenant_id,
            f"OUT{number}",
        )
        self.books.run(
            "insert into sync.authority_devices (device_id, tenant_id, environment, outlet_id,"
            " jurisdiction, authority_ref, sealed, key_version, masked, created_by)"
            " values (%s, %s, 'sandbox', %s, %s, %s, 'sealed', 1, '{}', 'test')",
            device_id,
            self.tenant_id,
            outlet_id,
            self.jurisdiction,
            f"ref-{number}",
        )
        return outlet_id, device_id

    def number(self, *, original: str | None = None, outlet_id: str | None = None) -> str:
        """A numbered document that waits for its signature; its id."""
        number = next(_numbers)
        self.books.run(
            "insert into fiscal.invoices (invoice_id, tenant_id, environment, merchant_id,"
            " outlet_id, status, invoice_type, fiscal_number, sequence, payload,"
            " canonical_payload_hash, tax_summary, currency, total_minor, tax_minor,"
            " original_invoice_id, created_by, cashier_id) values (%s, %s, 'sandbox', %s, %s,"
            " 'pending_signature', 'sale', %s, %s, '{}', 'hash', '[]', 'KES', 100, 0, %s, 'test',"
            " 'till')",
            f"inv_{number}",
            self.tenant_id,
            self.merchant_id,
            outlet_id or self.outlet_id,
            f"F-{number}",
            number,
            original,
        )
        return f"inv_{number}"

    def sign(self, invoice_id: str) -> str:
        """The document has its signature."""
        self.books.run(
            "update fiscal.invoices set status = 'fiscalized' where invoice_id = %s", invoice_id
        )
        return invoice_id

    def sealed(self, **facts: Any) -> str:
        """A numbered and signed document; its id."""
        return self.sign(self.number(**facts))

    def claim(self, max_rows: int = 50, api: Api | None = None) -> list[Row]:
        """What a worker gets of this taxpayer; of others it takes nothing."""
        items = (api or self.api).call_set(ROLE, {}, "sync.claim", max_rows=max_rows)
        assert all(item["device"]["tenant_id"] == self.tenant_id for item in items)
        return items

    def claimed(self, max_rows: int = 50) -> list[str]:
        """The ids of the documents a worker gets."""
        return [item["subject"] for item in self.claim(max_rows)]

    def conclude(self, item: Row, outcome: str = "accepted", **facts: Any) -> str:
        """How the attempt ended; the row's status afterwards."""
        acceptance = {"code": f"C-{item['subject']}", "counters": {}, "raw": ""}
        arguments = {
            "sync_id": item["sync_id"],
            "attempt": item["attempt"],
            "device_id": item["device"]["device_id"],
            "outcome": outcome,
            "code": None if outcome == "accepted" else "authority_mapping_missing",
            "message": None if outcome == "accepted" else "why",
            "retry_after_s": None,
            "exchanges": [],
            "acceptance": acceptance if outcome == "accepted" else None,
        }
        return str(self.api.call(ROLE, {}, "sync.record_attempt", **(arguments | facts)))

    def note(self, item: Row, progress: Row) -> None:
        self.api.call(
            ROLE,
            {},
            "sync.note_progress",
            sync_id=item["sync_id"],
            attempt=item["attempt"],
            progress=progress,
            device_id=item["device"]["device_id"],
            device_state=None,
        )

    def rows(self) -> int:
        """How many documents of this taxpayer are in the queue."""
        query = "select count(*) from sync.authority_sync_queue where tenant_id = %s"
        return int(self.books.value(query, self.tenant_id))

    def state(self) -> Row:
        """What the device remembers."""
        query = "select state from sync.authority_devices where device_id = %s"
        return dict(self.books.value(query, self.device_id))

    def codes(self) -> list[str]:
        """What the authority issued for this taxpayer."""
        query = "select code from fiscal.authority_elements where tenant_id = %s order by code"
        return list(self.books.column(query, self.tenant_id))

    def row(self, invoice_id: str) -> Row:
        return self.books.row(
            "select sync_id, status, progress, quick_attempts from sync.authority_sync_queue"
            " where invoice_id = %s",
            invoice_id,
        )

    def expire_leases(self) -> None:
        self.books.run(
            "update sync.authority_sync_queue set lease_until = now() where status = 'SUBMITTED'"
        )

    def make_due(self) -> None:
        self.books.run(
            "update sync.authority_sync_queue set next_attempt_at = now()"
            " where status in ('PENDING', 'RETRY') and next_attempt_at < 'infinity'"
        )
        self.books.run("update sync.authority_devices set held_until = now()")

    def alerts(self) -> list[str]:
        query = (
            "select kind from public.alerts where tenant_id = %s and status = 'open' order by kind"
        )
        return list(self.books.column(query, self.tenant_id))
