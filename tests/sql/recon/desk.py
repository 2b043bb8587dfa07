"""A shop's payments on one side, the lines of a statement on the other."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

from tests.sql.payments.shop import Answer, Attempt, Shop, new_key
from tests.sql.rails.rail import Rail
from tests.support.sql import Headers, Row

FUNCTION = "fn_recon"
NAIROBI = ZoneInfo("Africa/Nairobi")


def days_ago(days: int) -> date:
    """A business day of the shop."""
    return datetime.now(UTC).astimezone(NAIROBI).date() - timedelta(days=days)


@dataclass(frozen=True)
class Line:
    """A statement line as shared/recon hands it to SQL."""

    receipt: str | None = field(default_factory=lambda: f"R{uuid.uuid4().hex[:9].upper()}")
    amount_minor: int = 10_000
    day: date = field(default_factory=lambda: days_ago(3))
    direction: str = "in"
    type: str = "payment"
    currency: str = "KES"
    fee_minor: int = 0
    our_ref: str | None = None
    linked_ref: str | None = None
    batch_ref: str | None = None
    acq_ref: str | None = None
    auth_code: str | None = None
    party_hash: str | None = None

    def row(self, number: int, copy: int) -> Row:
        """For recon.import_statement."""
        return {
            "line_no": number,
            "line_hash": sha256(f"{self}{copy}".encode()).hexdigest()[:32],
            "type": self.type,
            "direction": self.direction,
            "amount_minor": self.amount_minor,
            "fee_minor": self.fee_minor,
            "currency": self.currency,
            "value_date": self.day.isoformat(),
            "occurred_at": datetime(
                self.day.year, self.day.month, self.day.day, 12, tzinfo=NAIROBI
            ).isoformat(),
            "external_ref": self.receipt,
            "our_ref": self.our_ref,
            "linked_ref": self.linked_ref,
            "batch_ref": self.batch_ref,
            "acq_ref": self.acq_ref,
            "auth_code": self.auth_code,
            "party_hash": self.party_hash,
        }


@dataclass(frozen=True)
class Desk:
    """What functions/recon asks of SQL for one shop, and what came of it."""

    shop: Shop
    rail: Rail

    def settled(
        self, amount_minor: int = 10_000, day: date | None = None, receipt: str | None = None
    ) -> Line:
        """A payment that settled at noon of `day` (three days ago), and its line."""
        attempt = self.shop.attempt(amount_minor)
        paid = attempt.paid(receipt or f"R{uuid.uuid4().hex[:9].upper()}")
        self.rail.call_back(attempt, paid)
        self.move(attempt, day or days_ago(3))
        return Line(paid["receipt"], amount_minor, day or days_ago(3))

    def move(self, attempt: Attempt, day: date) -> None:
        """Make a transfer one of `day`."""
        self.shop.books.run(
            "update payments.transfers set created_at = %s,"
            " settled_at = case when settled_at is not null then %s::timestamptz end"
            " where transfer_id = %s",
            datetime(day.year, day.month, day.day, 12, tzinfo=NAIROBI),
            datetime(day.year, day.month, day.day, 12, tzinfo=NAIROBI),
            attempt.transfer_id,
        )

    def transfer_of(self, line: Line) -> Row:
        """The transfer that has the line's receipt."""
        return self.shop.books.row(
            "select * from payments.transfers where tenant_id = %s and receipt = %s",
            self.shop.tenant_id,
            line.receipt,
        )

    def upload(self, *lines: Line, headers: Headers | None = None, **changes: Any) -> Row:
        """POST /statements: {statement, counts, sessions}."""
        statement = self.load(*lines, headers=headers, **changes)
        matched = self.call("recon.match_statement", headers, statement_id=statement.body["id"])
        return {"statement": statement, **matched.body}

    def load(self, *lines: Line, headers: Headers | None = None, **changes: Any) -> Answer:
        """The first half of it: the lines are in, no rule ran."""
        seen: dict[Line, int] = {}
        rows = []
        for number, line in enumerate(lines, 1):
            seen[line] = seen.get(line, 0) + 1
            rows.append(line.row(number, seen[line]))
        days = [line.day for line in lines] or [days_ago(3)]
        statement = {
            "format": "mpesa_csv",
            "file_name": "statement.csv",
            "sha256": uuid.uuid4().hex * 2,
            "account_ref": "600174",
            "period_from": min(days).isoformat(),
            "period_to": max(days).isoformat(),
            "lines": len(rows),
            "totals": totals(lines),
            "file_sealed": "sealed",
        } | changes
        return self.call(
            "recon.import_statement", headers, rail="mpesa", statement=statement, lines=rows
        )

    def call(self, function: str, headers: Headers | None = None, /, **arguments: Any) -> Answer:
        """One call by functions/recon for this shop, or for `headers`."""
        api = self.shop.api
        return Answer.of(api.call(FUNCTION, headers or self.shop.headers, function, **arguments))

    def person(self, app_role: str = "finance") -> Headers:
        """The headers of a new person with this role in the shop."""
        user_id = str(uuid.uuid4())
        self.shop.books.run("insert into public.users (user_id) values (%s)", user_id)
        self.shop.books.run(
            "insert into public.memberships (tenant_id, user_id, app_role) values (%s, %s, %s)",
            self.shop.tenant_id,
            user_id,
            app_role,
        )
        return {
            "x-stalela-user-id": user_id,
            "x-stalela-tenant-id": self.shop.tenant_id,
            "x-stalela-environment": self.shop.environment,
        }

    def resolve(
        self, exception_id: str, action: str, headers: Headers | None = None, **changes: Any
    ) -> Answer:
        """POST /exceptions/{id}/resolve."""
        arguments: Row = {
            "exception_id": exception_id,
            "idempotency_key": new_key(),
            "body_hash": "body",
            "action": action,
            "transfer_id": None,
            "reference": None,
            "reason": "seen in the portal",
        }
        return self.call("recon.resolve_exception", headers or self.person(), **arguments | changes)

    def approve(
        self, exception_id: str, headers: Headers | None = None, *, approve: bool = True
    ) -> Answer:
        """POST /exceptions/{id}/approve."""
        return self.call(
            "recon.approve_exception",
            headers or self.person(),
            exception_id=exception_id,
            idempotency_key=new_key(),
            body_hash="body",
            approve=approve,
            reason="agreed",
        )

    def exceptions(self, **filters: str) -> list[Row]:
        """GET /exceptions."""
        answer = self.call("recon.list_exceptions", filters=filters, page_size=100, page_after=None)
        return list(answer.body["data"])

    def kinds(self) -> list[str]:
        """The kinds of the open exceptions."""
        return sorted(one["kind"] for one in self.exceptions(status="open"))

    def matches(self) -> list[tuple[str, str, int]]:
        """(rule, leg, amount plus fee) of every match."""
        rows = self.shop.books.rows(
            "select rule, leg, amount_minor + fee_minor as minor from recon.matches"
            " where tenant_id = %s order by line_id, share",
            self.shop.tenant_id,
        )
        return [(row["rule"], row["leg"], row["minor"]) for row in rows]

    def session(self, day: date | None = None) -> Row:
        """The session of a day."""
        answer = self.call(
            "recon.list_sessions",
            filters={
                "from": (day or days_ago(3)).isoformat(),
                "to": (day or days_ago(3)).isoformat(),
            },
            page_size=10,
            page_after=None,
        )
        (session,) = answer.body["data"]
        return dict(session)

    def daily(self) -> int:
        """The cron task."""
        return int(self.shop.books.value("select recon.daily()"))


def totals(lines: tuple[Line, ...]) -> Row:
    """What a statement's totals say of its lines, per currency."""
    return {
        currency: {
            direction: sum(
                line.amount_minor
                for line in lines
                if (line.currency, line.direction) == (currency, direction)
            )
            for direction in ("in", "out")
        }
        for currency in {line.currency for line in lines}
    }
