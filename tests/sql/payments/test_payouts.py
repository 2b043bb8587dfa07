"""Payouts: sent once, within limits, with a second person's word; silence is asked about."""

import pytest

from scripts.stack.database import Database
from shared.rails.base import Outcome, Source
from tests.sql.payments.moves import Desk, Move, moving
from tests.sql.payments.shop import Answer, Shop
from tests.sql.rails.rail import Rail
from tests.support.sql import Books, Headers, Refused, Row, at_once, connections, digest

LARGE = 5_000_100  # one shilling above what one person may send


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)


def told(rail: Rail, move: Move, event: Row, **changes: object) -> Row:
    """The rail's callback about a move; {disposition, reason, transfer_id}."""
    return rail.call_back(move, event, **{"kind": "result"} | changes)


def types(books: Books, transfer_id: str) -> list[str]:
    return books.column(
        "select type from payments.transfer_events where transfer_id = %s order by seq", transfer_id
    )


def waiting(desk: Desk, headers: Headers | None = None, **changes: object) -> str:
    """The id of a payout that waits for a second person."""
    begun = desk.begin_payout(headers, amount_minor=LARGE, **changes)
    assert begun["instruction"] is None
    return str(Answer.of(begun["answer"]).body["id"])


def test_a_payout_is_handed_out_with_all_that_the_rail_needs(desk: Desk) -> None:
    payout = desk.payout(description="Commission of November", amount_minor=150_000)

    order = payout.instruction
    assert order["operation"] == "pay_out"
    assert (order["amount_minor"], order["currency"]) == (150_000, "KES")
    assert order["payee_sealed"] == "n.sealed"
    assert "payee_context" not in order
    assert len(order["callback_token"]) == 64


def test_a_paid_payout_succeeds_and_says_so(desk: Desk, rail: Rail, books: Books) -> None:
    payout = desk.payout()

    accepted = desk.record(payout)
    told(rail, payout, payout.paid())

    assert (accepted.status, accepted.body["status"]) == (201, "pending")
    assert accepted.body["destination"] == {"type": "mpesa", "phone": "+254*****612"}
    assert types(books, payout.transfer_id) == [
        "transfer.initiated",
        "payout.created",
        "transfer.submitted",
        "transfer.accepted",
        "transfer.settled",
        "payout.succeeded",
    ]
    assert books.watches(payout.transfer_id) == []


def test_a_result_that_overtakes_the_answer_counts(desk: Desk, rail: Rail, books: Books) -> None:
    payout = desk.payout()

    first = told(rail, payout, payout.paid())
    answer = desk.record(payout)

    assert first["disposition"] == "applied"
    assert answer.body["status"] == "succeeded"
    assert books.transfer(payout.transfer_id)["state"] == "SETTLED"


def test_a_result_twice_changes_nothing(desk: Desk, rail: Rail, books: Books) -> None:
    payout = desk.payout()
    desk.record(payout)
    told(rail, payout, payout.paid())
    before = books.transfer(payout.transfer_id)

    again = told(rail, payout, payout.paid())

    assert again["disposition"] == "duplicate"
    assert books.transfer(payout.transfer_id) == before


def test_a_refused_payout_fails_with_the_reason(desk: Desk, rail: Rail, books: Books) -> None:
    payout = desk.payout()
    desk.record(payout)

    told(rail, payout, payout.refused())

    row = books.transfer(payout.transfer_id)
    assert (row["state"], row["failure"]["rail_code"]) == ("FAILED", "2040")
    assert types(books, payout.transfer_id)[-2:] == ["transfer.failed", "payout.failed"]


def test_a_timeout_says_nothing_and_has_the_rail_asked(
    desk: Desk, rail: Rail, books: Books
) -> None:
    payout = desk.payout()
    desk.record(payout)

    concluded = told(rail, payout, payout.timed_out(), kind="timeout")

    assert concluded["disposition"] == "awaiting_query"
    assert books.transfer(payout.transfer_id)["state"] == "ACCEPTED"
    assert payout.transfer_id in {work["transfer_id"] for work in rail.claim()}


def test_a_success_after_a_timeout_counts(desk: Desk, rail: Rail, books: Books) -> None:
    payout = desk.payout()
    desk.record(payout)
    told(rail, payout, payout.timed_out(), kind="timeout")

    told(rail, payout, payout.paid())

    assert books.transfer(payout.transfer_id)["state"] == "SETTLED"


def test_after_a_crash_between_sending_and_recording_the_rail_is_asked_by_our_reference(
    desk: Desk, rail: Rail, books: Books
) -> None:
    payout = desk.payout()
    books.run("update rails.watches set due_at = now() where transfer_id = %s", payout.transfer_id)

    (work,) = [w for w in rail.claim() if w["transfer_id"] == payout.transfer_id]

    assert "rail_ref" not in work
    assert work["operation"] == "pay_out"
    assert work["callback_token"] != payout.token
    kinds = books.column(
        "select kind from payments.attempts where transfer_id = %s order by number",
        payout.transfer_id,
    )
    assert kinds == ["send", "query"]


def ask(rail: Rail, books: Books, payout: Move) -> str:
    """The reconciler asks the rail; the token its answer will come to."""
    books.run(
        "update rails.watches set due_at = now(), asked_at = null where transfer_id = %s",
        payout.transfer_id,
    )
    (work,) = [w for w in rail.claim() if w["transfer_id"] == payout.transfer_id]
    asked = payout.event(Outcome.PENDING, Source.QUERY, channel="api", code=None)
    rail.answer_query(payout, asked | {"rail_ref": None, "amount_minor": None, "currency": None})
    return str(work["callback_token"])


def test_a_status_that_says_paid_settles_the_payout(desk: Desk, rail: Rail, books: Books) -> None:
    payout = desk.payout()
    token = ask(rail, books, payout)

    status = told(
        rail, payout, payout.paid(source=Source.QUERY), kind="status", token_hash=digest(token)
    )

    assert status["disposition"] == "applied"
    assert books.transfer(payout.transfer_id)["state"] == "SETTLED"


def test_the_same_status_twice_answers_two_questions(desk: Desk, rail: Rail, books: Books) -> None:
    payout = desk.payout()
    pending = payout.event(Outcome.PENDING, Source.QUERY)

    heard = [
        told(rail, payout, pending, kind="status", token_hash=digest(ask(rail, books, payout)))
        for _ in range(2)
    ]

    assert [one["disposition"] for one in heard] == ["applied", "ignored"]
    assert len(books.watches(payout.transfer_id)) == 1


def test_a_status_from_a_strange_address_decides_nothing(
    desk: Desk, rail: Rail, books: Books
) -> None:
    payout = desk.payout()
    token = ask(rail, books, payout)

    status = told(
        rail,
        payout,
        payout.paid(source=Source.QUERY),
        kind="status",
        token_hash=digest(token),
        source_trusted=False,
    )

    assert (status["disposition"], status["reason"]) == ("parked", "untrusted_source")
    assert books.transfer(payout.transfer_id)["state"] == "SUBMITTED"


def test_a_payout_of_another_amount_is_parked(desk: Desk, rail: Rail, books: Books) -> None:
    payout = desk.payout(amount_minor=150_000)
    desk.record(payout)

    concluded = told(rail, payout, payout.paid(amount_minor=140_000))

    assert concluded["reason"] == "amount_mismatch"
    assert books.transfer(payout.transfer_id)["told_minor"] == 140_000


def test_nobody_answers_within_the_horizon_and_a_person_must(
    desk: Desk, rail: Rail, books: Books
) -> None:
    payout = desk.payout()
    books.run(
        "update rails.watches set due_at = now(), horizon_at = now() where transfer_id = %s",
        payout.transfer_id,
    )

    rail.claim()

    assert books.transfer(payout.transfer_id)["review_reason"] == "no_answer_within_horizon"
    assert books.transfer(payout.transfer_id)["state"] == "SUBMITTED"


def test_a_payout_that_never_left_fails_and_frees_its_key(
    desk: Desk, rail: Rail, books: Books
) -> None:
    payout = desk.payout()

    desk.release(payout)
    again = desk.payout(idempotency_key=payout.key)

    assert books.transfer(payout.transfer_id)["state"] == "FAILED"
    assert again.transfer_id != payout.transfer_id


def test_an_external_ref_names_one_payout(desk: Desk) -> None:
    first = desk.payout(external_ref="commission-77")

    with pytest.raises(Refused) as refused:
        desk.begin_payout(external_ref="commission-77")

    assert (refused.value.code, refused.value.extras["transfer_id"]) == ("40903", first.transfer_id)


@pytest.mark.parametrize(
    ("amount_minor", "words"),
    [(900, "10.00 to 250000.00"), (25_000_100, "10.00 to 250000.00"), (1_050, "whole shillings")],
)
def test_what_the_rail_does_not_pay_out_is_refused_with_the_rule(
    desk: Desk, amount_minor: int, words: str
) -> None:
    with pytest.raises(Refused, match=words) as refused:
        desk.begin_payout(amount_minor=amount_minor)

    assert refused.value.code == "42251"


def test_paying_out_needs_its_own_scope(desk: Desk) -> None:
    headers = desk.shop.add_key("till", ["payments:write", "refunds:write"])

    with pytest.raises(Refused, match="payouts:write"):
        desk.begin_payout(headers)


# A second person


def test_a_large_payout_waits_and_leaves_when_another_person_approves(
    desk: Desk, rail: Rail, books: Books
) -> None:
    payout_id = waiting(desk)
    approver = desk.person()

    payout = moving(desk.decide(payout_id, approver), "approve")

    assert payout.transfer_id == payout_id
    row = books.transfer(payout_id)
    assert (row["approval"], row["state"]) == ("approved", "SUBMITTED")
    assert row["approval_by"] == f"user:{approver['x-stalela-user-id']}"
    assert types(books, payout_id)[:3] == [
        "transfer.initiated",
        "payout.created",
        "payout.pending_approval",
    ]
    audited = books.row("select * from public.audit_log where subject = %s", payout_id)
    assert (audited["action"], audited["details"]["reason"]) == (
        "payout.approve",
        "seen the invoice",
    )


def test_an_approved_payout_is_not_approved_twice(desk: Desk) -> None:
    payout_id = waiting(desk)
    desk.decide(payout_id, desk.person())

    with pytest.raises(Refused, match="40911"):
        desk.decide(payout_id, desk.person())


def test_two_approvals_at_once_send_once(
    module_database: Database, desk: Desk, books: Books
) -> None:
    payout_id = waiting(desk)
    people = [desk.person(), desk.person()]

    with connections(module_database, 2) as apis:
        desks = [Desk(Shop(api, books, desk.shop.tenant_id)) for api in apis]
        results = at_once(
            [lambda d=d, p=p: d.decide(payout_id, p) for d, p in zip(desks, people, strict=True)]
        )

    sent = [one for one in results if not isinstance(one, Refused)]
    assert len(sent) == 1
    assert [one.code for one in results if isinstance(one, Refused)] == ["40911"]


def test_nobody_approves_what_they_asked_for(desk: Desk) -> None:
    finance = desk.person()
    payout_id = waiting(desk, finance)

    with pytest.raises(Refused, match="Another person"):
        desk.decide(payout_id, finance)


def test_nobody_approves_what_their_own_key_asked_for(desk: Desk, books: Books) -> None:
    person = desk.person("admin")
    headers = desk.shop.add_key("office", ["*"])
    books.run(
        "update public.api_keys set created_by = %s where key_hash = %s",
        f"user:{person['x-stalela-user-id']}",
        headers["x-stalela-key-hash"],
    )
    payout_id = waiting(desk, headers)

    with pytest.raises(Refused, match="Another person"):
        desk.decide(payout_id, person)


def test_no_key_approves(desk: Desk) -> None:
    payout_id = waiting(desk)

    with pytest.raises(Refused, match="40312"):
        desk.decide(payout_id, desk.shop.headers)


def test_a_developer_does_not_approve(desk: Desk) -> None:
    payout_id = waiting(desk)

    with pytest.raises(Refused, match="payouts:approve"):
        desk.decide(payout_id, desk.person("developer"))


def test_a_person_of_another_tenant_sees_nothing_to_approve(desk: Desk, books: Books) -> None:
    payout_id = waiting(desk)
    stranger = Desk(Shop(desk.shop.api, books).open()).person()

    with pytest.raises(Refused, match="40401"):
        desk.decide(payout_id, stranger)


def test_a_rejected_payout_never_leaves(desk: Desk, books: Books) -> None:
    payout_id = waiting(desk)

    rejected = desk.decide(payout_id, desk.person(), "reject")

    assert rejected["instruction"] is None
    body = Answer.of(rejected["answer"]).body
    assert (body["status"], body["failure"]["code"]) == ("rejected", "APPROVAL_REJECTED")
    assert (
        books.value("select count(*) from payments.attempts where transfer_id = %s", payout_id) == 0
    )


# Limits of a key and a day


def test_a_key_pays_out_so_much_in_a_day_and_is_told_what_is_left(desk: Desk, books: Books) -> None:
    desk.payout(amount_minor=4_900_000)
    books.run(
        "update payments.transfers set amount_minor = 99000000 where tenant_id = %s",
        desk.shop.tenant_id,
    )

    with pytest.raises(Refused) as refused:
        desk.begin_payout(amount_minor=1_100_000)

    assert refused.value.code == "42206"
    assert refused.value.extras["errors"][0]["detail"] == "at most 10000.00 for now"


def test_yesterday_and_what_failed_do_not_count(desk: Desk, books: Books) -> None:
    old = desk.payout(amount_minor=4_900_000)
    books.run(
        "update payments.transfers set amount_minor = 99000000,"
        " created_at = now() - interval '25 hours' where transfer_id = %s",
        old.transfer_id,
    )
    failed = desk.payout(amount_minor=4_000_000)
    desk.release(failed)

    assert desk.payout(amount_minor=4_900_000).amount_minor == 4_900_000


def test_another_key_has_a_day_of_its_own(desk: Desk, books: Books) -> None:
    desk.payout(amount_minor=4_900_000)
    books.run(
        "update payments.transfers set amount_minor = 100000000 where tenant_id = %s",
        desk.shop.tenant_id,
    )
    headers = desk.shop.add_key("branch", ["*"])

    begun = desk.begin_payout(headers, amount_minor=150_000)

    assert begun["instruction"] is not None


def test_payouts_at_once_do_not_exceed_the_day_together(
    module_database: Database, desk: Desk, books: Books
) -> None:
    first = desk.payout(amount_minor=4_900_000)
    books.run(
        "update payments.transfers set amount_minor = 97500000 where transfer_id = %s",
        first.transfer_id,
    )

    with connections(module_database, 8) as apis:
        desks = [Desk(Shop(api, books, desk.shop.tenant_id)) for api in apis]
        results = at_once([lambda d=d: d.begin_payout(amount_minor=1_000_000) for d in desks])

    assert sum(not isinstance(one, Refused) for one in results) == 2
    assert {one.code for one in results if isinstance(one, Refused)} == {"42206"}


# Left behind


def test_what_was_left_behind_before_it_was_sent_fails_after_a_minute(
    desk: Desk, books: Books
) -> None:
    payout_id = waiting(desk)
    books.run(
        "update payments.transfers set approval = 'approved',"
        " created_at = now() - interval '61 seconds' where transfer_id = %s",
        payout_id,
    )

    books.value("select payments.sweep_initiated()")

    row = books.transfer(payout_id)
    assert (row["state"], row["failure"]["code"]) == ("FAILED", "NOT_SENT")


@pytest.mark.parametrize(("age", "status"), [("6 days", "INITIATED"), ("8 days", "FAILED")])
def test_a_payout_waits_a_week_for_its_second_person(
    desk: Desk, books: Books, age: str, status: str
) -> None:
    payout_id = waiting(desk)
    books.run(
        "update payments.transfers set created_at = now() - %s::interval where transfer_id = %s",
        age,
        payout_id,
    )

    books.value("select payments.sweep_initiated()")

    assert books.transfer(payout_id)["state"] == status
