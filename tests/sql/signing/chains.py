"""Chains as sealing and signing see them, reduced to their SQL; no key signs anything here."""

import json
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from hashlib import sha256
from itertools import count, product
from string import ascii_uppercase
from typing import Any

from scripts.stack.database import Database
from tests.support.sql import Api, Books, Row

_numbers = count(1)
_countries = map("".join, product("XY", ascii_uppercase))  # that nobody has rules for
ROLE = "fn_invoices"


class Chains:
    """A taxpayer with outlets, and the functions that sign, as the function's role calls them."""

    def __init__(self, database: Database, books: Books, api: Api) -> None:
        self.database, self.books, self.api = database, books, api
        number = next(_numbers)
        self.jurisdiction = next(_countries)
        self.tenant_id = books.value("select public.new_id('tn')")
        books.run(
            "insert into public.tenants (tenant_id, name, country, status, plan)"
            " values (%s, 'Acacia Books', 'KE', 'active', 'unlimited')",
            self.tenant_id,
        )
        books.run(
            "insert into tax.jurisdictions select (jsonb_populate_record(j, jsonb_build_object("
            "'jurisdiction', %s::text))).* from tax.jurisdictions as j where j.jurisdiction = 'CD'",
            self.jurisdiction,
        )
        books.run(
            "insert into fiscal.merchants (merchant_id, tenant_id, environment, jurisdiction,"
            " legal_name, tin, vat_status) values (%s, %s, 'sandbox', %s, 'A', '1', 'registered')",
            f"mrc_{number}",
            self.tenant_id,
            self.jurisdiction,
        )
        self.merchant_id = f"mrc_{number}"
        self.outlet = self.add_outlet()

    @contextmanager
    def elsewhere(self) -> "Iterator[Chains]":
        """The same taxpayer over connections of another instance."""
        with Books(self.database) as books, Api(self.database) as api:
            other = copy(self)
            other.books, other.api = books, api
            yield other

    def add_outlet(self) -> str:
        number = next(_numbers)
        self.books.run(
            "insert into fiscal.outlets (outlet_id, merchant_id, tenant_id, environment,"
            " outlet_code, name, time_zone, fiscal_authority_id)"
            " values (%s, %s, %s, 'sandbox', %s, 'Gombe', 'Africa/Kinshasa', 'stalela-test')",
            f"out_{number}",
            self.merchant_id,
            self.tenant_id,
            f"OUT{number}",
        )
        return f"out_{number}"

    # --- sealing

    def seal(self, outlet: str | None = None) -> str:
        """Append an entry as closing a day does; its fiscal number."""
        return str(
            self.books.value(
                "select (fiscal.append_entry(o, 'report_z', 'Z-' || o.outlet_code || '-' || n.next,"
                " n.next, %s, null)).fiscal_number"
                " from fiscal.outlets as o, lateral (select fiscal.lock_outlet(o.outlet_id)) as l,"
                " lateral (select fiscal.next_number(o.outlet_id, 'report_z') as next) as n"
                " where o.outlet_id = %s",
                sha256(b"words").hexdigest(),
                outlet or self.outlet,
            )
        )

    def entries(self, outlet: str | None = None) -> list[Row]:
        """The chain, each entry with the key that must sign it or did."""
        return self.books.rows(
            "select l.*, coalesce(s.key_id, q.key_id) as key_id from fiscal.fiscal_ledger as l"
            " left join fiscal.signatures as s using (fiscal_number)"
            " left join signing.signing_queue as q using (fiscal_number)"
            " where l.outlet_id = %s order by l.entry_no",
            outlet or self.outlet,
        )

    # --- signing

    def call(self, function: str, _headers: Any = None, **arguments: Any) -> Any:
        return self.api.call(ROLE, _headers or {}, f"signing.{function}", **arguments)

    def key(self, name: str) -> Row:
        """The public half of a key called `name`."""
        return {
            "provider": "local",
            "key_ref": name,
            "key_version": "1",
            "alg": "ES256",
            "public_key_spki": b64encode(name.encode()).decode(),
        }

    def register(self, name: str) -> str:
        """Its id, or that of the key that is active."""
        facts = self.call(
            "register_key",
            jurisdiction=self.jurisdiction,
            environment="sandbox",
            **self.key(name),
        )
        return str(facts["key_id"])

    def rotate(self, replaces: str, name: str) -> str:
        """The id of the key that took over."""
        answer = self.call("rotate_key", replaces=replaces, reason="test", **self.key(name))
        return str(json.loads(answer["body"])["id"])

    def attach(self, number: str, key_id: str) -> int:
        """Attach a signature by this key; the status of the answer."""
        text = self.books.value("select fiscal.seal_object(%s, %s)", number, key_id)
        answer = self.api.call(
            ROLE,
            {},
            "fiscal.attach_signature",
            fiscal_number=number,
            key_id=key_id,
            digest=sha256(text.encode()).hexdigest(),
            signature="c2lnbmVk",
            auth_code="AAAA-BBBB-CCCC-DDDD",
            latency_ms=1,
            provider_request_id=None,
        )
        return int(answer["status"])

    def fail(self, number: str, key_id: str, *, is_permanent: bool = False) -> Row:
        """A failed call; the entry's place in the queue after it, with the seconds to wait."""
        self.call(
            "record_failure",
            fiscal_number=number,
            key_id=key_id,
            digest="00",
            latency_ms=1,
            error="KMS said 503",
            is_permanent=is_permanent,
        )
        return self.queued(number)

    def queued(self, number: str) -> Row:
        return self.books.row(
            "select q.key_id, q.attempts, q.last_error, case when next_attempt_at = 'infinity'"
            " then 'infinity' else extract(epoch from next_attempt_at - greatest(waiting_since,"
            "  (select max(signed_at) from signing.signing_log as l where l.fiscal_number = %s)))"
            " end::float as waits_s from signing.signing_queue as q where fiscal_number = %s",
            number,
            number,
        )

    def log(self, number: str) -> list[tuple[str, str]]:
        """What became of each provider's call for an entry, in order."""
        rows = self.books.rows(
            "select outcome, key_id from signing.signing_log where fiscal_number = %s"
            " order by signing_log_id",
            number,
        )
        return [(row["outcome"], row["key_id"]) for row in rows]

    # --- people

    def operator(self, app_role: str = "operator") -> Row:
        """Headers of a person with this role."""
        user_id = str(self.books.value("select gen_random_uuid()"))
        self.books.run("insert into public.users (user_id) values (%s)", user_id)
        self.books.run(
            "insert into public.memberships (tenant_id, user_id, app_role) values (%s, %s, %s)",
            self.tenant_id,
            user_id,
            app_role,
        )
        return {
            "x-stalela-user-id": user_id,
            "x-stalela-tenant-id": self.tenant_id,
            "x-stalela-environment": "sandbox",
        }
