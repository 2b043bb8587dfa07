"""What may be sent, when, and what is made of the provider's answers."""

import uuid
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.sql import Api, Books, Row

KINDS = ["platform_alert", "tenant_alert", "receipt", "refund_receipt"]


@dataclass
class Post:
    """The functions that keep and send mail, reduced to their SQL."""

    api: Api
    books: Books

    def keep(self, kind: str = "receipt", recipient: str = "hash", **columns: Any) -> str:
        """A new message; its id. columns: what time would have made of it."""
        message_id = self.books.value(
            "select (messages.add_message(%s, 'tn_1', 'sandbox', 'pi_1', %s, %s::jsonb)"
            ").message_id",
            kind,
            uuid.uuid4().hex,
            f'{{"language": "en", "recipient_masked": "w***@mail.example",'
            f' "recipient_hash": "{recipient}", "body_sealed": "sealed", "sms_text": "paid"}}',
        )
        for name, value in columns.items():
            self.books.run(
                f"update messages.messages set {name} = now() + %s::interval where message_id = %s",  # noqa: S608
                value,
                message_id,
            )
        return str(message_id)

    def claim(self, max_rows: int = 10, kinds: list[str] = KINDS) -> list[str]:
        """The ids of what may be sent now."""
        rows = self.api.call_set(
            "fn_receipts", {}, "messages.claim_messages", kinds=kinds, max_rows=max_rows
        )
        return [row["message_id"] for row in rows]

    def record(self, message_id: str, verdict: str, **told: Any) -> Any:
        arguments: Row = {
            "message_id": message_id,
            "verdict": verdict,
            "email_id": None,
            "code": None,
            "retry_after_s": None,
            "pause_s": None,
            "is_unsure": False,
        }
        return self.api.call("fn_receipts", {}, "messages.record_sending", **arguments | told)

    def hear(self, kind: str, email_id: str, event_id: str = "", address: str = "hash") -> str:
        return str(
            self.api.call(
                "fn_receipts",
                {},
                "messages.record_mail_event",
                event_id=event_id or uuid.uuid4().hex,
                kind=kind,
                email_id=email_id,
                occurred_at="2026-11-21T08:00:00Z",
                address_hashes=[address],
                addresses_masked=["w***@mail.example"],
            )
        )

    def sent(self, email_id: str, **columns: Any) -> str:
        message_id = self.keep(**columns)
        self.claim()
        self.record(message_id, "sent", email_id=email_id)
        return message_id

    def row(self, message_id: str) -> Row:
        return self.books.row("select * from messages.messages where message_id = %s", message_id)

    def status(self, message_id: str) -> str:
        return str(self.row(message_id)["status"])

    def used(self) -> int:
        return int(self.books.value("select coalesce(sum(used), 0) from messages.budgets"))

    def budget(self, mails: int) -> None:
        self.books.run(
            "update public.settings set value = to_jsonb(%s::integer)"
            " where key = 'messages.daily_budget'",
            mails,
        )

    def alerts(self) -> list[str]:
        return self.books.column("select kind from public.alerts where status = 'open' order by 1")


@pytest.fixture
def post(api: Api, books: Books) -> Post:
    return Post(api, books)


def test_same_dedupe_key_is_one_message(post: Post) -> None:
    query = (
        "select (messages.add_message('receipt', 'tn_1', 'sandbox', 'pi_1', 'once',"
        ' \'{"language": "en", "recipient_masked": "m", "recipient_hash": "h",'
        ' "body_sealed": "s"}\')).message_id'
    )

    ids = [post.books.value(query), post.books.value(query)]

    assert ids[0] is not None
    assert ids[1] is None


def test_urgent_mail_goes_first(post: Post) -> None:
    receipt, owners, platform = (
        post.keep(kind) for kind in ("receipt", "tenant_alert", "platform_alert")
    )

    assert post.claim() == [platform, owners, receipt]


def test_sender_gets_only_its_own_kinds(post: Post) -> None:
    post.keep("platform_alert")
    receipt = post.keep("receipt")

    assert post.claim(kinds=["receipt", "refund_receipt"]) == [receipt]


def test_what_is_out_is_not_given_twice(post: Post) -> None:
    message_id = post.keep()

    assert (post.claim(), post.claim()) == ([message_id], [])


def test_each_kind_stops_at_its_share_of_the_budget(post: Post) -> None:
    post.budget(10)
    receipts = [post.keep() for _ in range(9)]
    assert post.claim(20) == receipts[:7]

    owners = [post.keep("tenant_alert") for _ in range(4)]
    assert post.claim(20) == owners[:2]

    platform = [post.keep("platform_alert") for _ in range(3)]
    assert post.claim(20) == platform[:1]
    assert post.used() == 10
    assert post.alerts() == ["mail_budget_spent"]
    tomorrow = post.books.value(
        "select next_attempt_at = (((now() at time zone 'UTC')::date + 1)::timestamp"
        " at time zone 'UTC') from messages.messages where message_id = %s",
        receipts[-1],
    )
    assert tomorrow is True


def test_repeated_mail_counts_once_a_day(post: Post) -> None:
    message_id = post.keep()
    post.claim()
    post.record(message_id, "retry", code="application_error", is_unsure=True)
    post.books.run("update messages.messages set next_attempt_at = now()")

    again = post.claim()

    assert (again, post.used()) == ([message_id], 1)


def test_mail_that_was_certainly_not_taken_costs_nothing(post: Post) -> None:
    message_id = post.keep()
    post.claim()

    post.record(message_id, "retry", code="rate_limit_exceeded", retry_after_s=1, pause_s=1)

    assert post.used() == 0


def test_pause_stops_all_mail_until_it_is_over(post: Post) -> None:
    first, second = post.keep(), post.keep("platform_alert")
    post.claim(1)

    post.record(second, "park", code="daily_quota_exceeded", pause_s=3600)

    assert post.claim() == []
    assert post.alerts() == ["mail_parked"]
    post.books.run("update messages.pauses set until = now()")
    assert post.claim() == [first]
    post.record(first, "sent", email_id="e-1")
    assert post.alerts() == []


def test_unsure_mail_is_not_sent_after_the_provider_forgot_its_key(post: Post) -> None:
    message_id = post.keep(unsure_since="-23 hours")

    assert post.claim() == []
    assert post.status(message_id) == "unknown"
    assert post.alerts() == ["mail_unknown"]


def test_sure_mail_may_be_sent_a_day_later(post: Post) -> None:
    message_id = post.keep(created_at="-30 hours")

    assert post.claim() == [message_id]


def test_lease_that_ran_out_makes_unsure(post: Post) -> None:
    message_id = post.keep(lease_until="-1 second", updated_at="-61 seconds")

    assert post.claim() == [message_id]

    row = post.row(message_id)
    assert row["unsure_since"] < row["updated_at"]


def test_receipt_that_is_too_late_is_none(post: Post) -> None:
    message_id = post.keep(expires_at="-1 second")

    assert post.claim() == []
    assert (post.status(message_id), post.used()) == ("expired", 0)


@pytest.mark.parametrize(
    ("verdict", "status", "alerts"),
    [("kept", "kept", []), ("final", "failed", ["mail_refused"])],
)
def test_end_of_a_message(post: Post, verdict: str, status: str, alerts: list[str]) -> None:
    message_id = post.keep()
    post.claim()

    post.record(message_id, verdict, code="invalid_parameter")

    assert (post.status(message_id), post.alerts()) == (status, alerts)
    assert post.record(message_id, "sent", email_id="e-1") is None


def test_waits_grow_with_the_attempts(post: Post) -> None:
    message_id, waits = post.keep(), []
    for _ in range(4):
        post.claim()
        post.record(message_id, "retry", code="application_error", is_unsure=True)
        waits.append(
            post.books.value(
                "select extract(epoch from next_attempt_at - updated_at)::integer"
                " from messages.messages where message_id = %s",
                message_id,
            )
        )
        post.books.run("update messages.messages set next_attempt_at = now()")

    assert waits == [5, 30, 120, 600]


# --- what became of it


@pytest.mark.parametrize(
    "told",
    [
        ["sent", "delivered", "bounced"],
        ["bounced", "delivered", "sent"],
        ["delivered", "bounced", "delivery_delayed"],
    ],
)
def test_worst_news_stands_in_whatever_order_it_comes(post: Post, told: list[str]) -> None:
    message_id = post.sent("e-1")

    for kind in told:
        post.hear(kind, "e-1")

    assert post.status(message_id) == "bounced"


def test_opened_mail_is_noted_and_moves_nothing(post: Post) -> None:
    message_id = post.sent("e-1")

    assert post.hear("opened", "e-1") == "noted"
    assert post.status(message_id) == "sent"


def test_event_is_heard_once(post: Post) -> None:
    post.sent("e-1")

    assert [post.hear("delivered", "e-1", "evt") for _ in range(2)] == ["delivered", "duplicate"]


@pytest.mark.parametrize("kind", ["bounced", "complained", "suppressed"])
def test_address_that_bounced_gets_no_more_mail(post: Post, kind: str) -> None:
    post.sent("e-1", recipient="lost")
    post.hear(kind, "e-1", address="lost")
    lost, other = post.keep(recipient="lost"), post.keep(recipient="other")

    assert post.claim() == [other]
    assert post.status(lost) == "suppressed"


def test_delivered_mail_suppresses_nobody(post: Post) -> None:
    post.sent("e-1")
    post.hear("delivered", "e-1")

    assert post.books.value("select count(*) from messages.suppressions") == 0


def test_old_messages_leave_and_young_ones_stay(post: Post) -> None:
    old = post.sent("e-1", created_at="-91 days")
    queued, young = post.keep(created_at="-91 days"), post.sent("e-2")

    assert post.books.value("select messages.purge()") == 1

    left = post.books.column("select message_id from messages.messages")
    assert set(left) == {queued, young}
    assert old not in left


# --- lists that must agree


def test_every_alert_that_sql_raises_is_explained(books: Books) -> None:
    raised = set(
        books.column(
            "select (regexp_matches(p.prosrc, %s, 'g'))[1] from pg_catalog.pg_proc as p"
            " inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace"
            " where n.nspowner = 'stalela_owner'::regrole or n.nspname = 'public'",
            r"raise_alert\(\s*(?:--[^\n]*\n\s*)*'(\w+)'",
        )
    )
    explained = set(books.column("select kind from messages.alert_kinds"))

    assert len(raised) > 15
    assert raised - explained == set()


def test_every_country_has_a_clock_that_exists(books: Books) -> None:
    unknown = books.column(
        "select c.time_zone from messages.countries as c"
        " where c.time_zone not in (select name from pg_catalog.pg_timezone_names)"
    )

    assert unknown == []
