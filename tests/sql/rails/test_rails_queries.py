"""Whom to ask the rail about, when, and what its answers do."""

from datetime import timedelta
from typing import Any

import pytest

from scripts.stack.database import Database
from shared.rails.base import Outcome, RailEvent, Source
from tests.sql.payments.shop import Answer, Attempt, Shop, silent
from tests.sql.rails.rail import Rail
from tests.support.sql import Api, Books, Refused, Row


@pytest.fixture(autouse=True)
def nothing_else_due(books: Books) -> None:
    """Forget what earlier tests left to be asked about."""
    books.run("delete from rails.watches")


def pass_time(books: Books, attempt: Attempt, seconds: int) -> None:
    """Let the transfer and its watch grow older."""
    books.run(
        "update rails.watches set due_at = due_at - %s, horizon_at = horizon_at - %s,"
        " asked_at = asked_at - %s, code_since = code_since - %s where transfer_id = %s",
        *[timedelta(seconds=seconds)] * 4,
        attempt.transfer_id,
    )
    books.run(
        "update payments.transfers set submitted_at = submitted_at - %s where transfer_id = %s",
        timedelta(seconds=seconds),
        attempt.transfer_id,
    )


def seconds_to_next_query(books: Books, attempt: Attempt) -> int:
    """When the rail is asked next, in seconds since it was planned, a moment ago: in tens."""
    seconds: int = books.value(
        "select 10 * ceil(extract(epoch from due_at - now()) / 10)::integer"
        " from rails.watches where transfer_id = %s",
        attempt.transfer_id,
    )
    return seconds


def ask(shop: Shop, intent_id: str) -> dict[str, Any]:
    """POST …/reconcile up to the rail: {answer, work}."""
    return dict(shop.call("payments.ask_rail", payment_intent_id=intent_id))


def claimed(rail: Rail) -> list[str]:
    """The transfers that the reconciler is to ask about."""
    return [work["transfer_id"] for work in rail.claim()]


def unanswered() -> Row:
    """A query to which the rail said nothing."""
    return dict(RailEvent(Outcome.UNKNOWN, Source.QUERY).to_json())


def test_a_transfer_is_left_alone_for_its_first_minute(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()

    pass_time(books, attempt, 58)

    assert claimed(rail) == []
    pass_time(books, attempt, 2)
    assert claimed(rail) == [attempt.transfer_id]


def test_a_work_item_holds_all_that_a_query_needs(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt(amount_minor=150_000)
    pass_time(books, attempt, 60)

    (work,) = rail.claim()

    assert work.pop("submitted_at") is not None
    assert work == {
        "transfer_id": attempt.transfer_id,
        "tenant_id": shop.tenant_id,
        "environment": "sandbox",
        "rail": "mpesa",
        "operation": "collect",
        "account_reference": attempt.intent_id[-12:].upper(),
        "description": "Payment",
        "rail_ref": attempt.rail_ref,
        "amount_minor": 150_000,
        "currency": "KES",
        "credentials_sealed": "sealed",
    }


def test_a_claim_is_a_lease_of_one_minute(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    pass_time(books, attempt, 60)
    first = claimed(rail)

    second = claimed(rail)
    pass_time(books, attempt, 60)
    third = claimed(rail)

    assert (first, second, third) == ([attempt.transfer_id], [], [attempt.transfer_id])


def test_a_claim_takes_no_more_than_asked_and_the_longest_due_first(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempts = [shop.attempt() for _ in range(3)]
    pass_time(books, attempts[0], 70)
    pass_time(books, attempts[1], 90)
    pass_time(books, attempts[2], 80)

    first, rest = rail.claim(max_rows=2), rail.claim(max_rows=2)

    assert {work["transfer_id"] for work in first} == {
        attempts[1].transfer_id,
        attempts[2].transfer_id,
    }
    assert [work["transfer_id"] for work in rest] == [attempts[0].transfer_id]


def test_the_questions_follow_the_waits_of_the_rail(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    books.run(
        "update rails.watches set horizon_at = now() + interval '99 days' where transfer_id = %s",
        attempt.transfer_id,
    )
    waits = [seconds_to_next_query(books, attempt)]
    for _ in range(18):
        pass_time(books, attempt, waits[-1])
        assert claimed(rail) == [attempt.transfer_id]
        rail.answer_query(attempt, attempt.answered("4999"))
        waits.append(seconds_to_next_query(books, attempt))

    assert waits == [60, 60, 120, 240] + [300] * 12 + [3600] * 3


def test_a_query_settles_without_a_receipt_and_the_callback_brings_it(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.answer_query(attempt, attempt.answered("0"))
    settled = books.transfer(attempt.transfer_id)

    concluded = rail.call_back(attempt, attempt.paid(receipt=f"A{attempt.transfer_id}"))

    assert (settled["state"], settled["receipt"]) == ("SETTLED", None)
    assert concluded["disposition"] == "applied"
    assert books.transfer(attempt.transfer_id)["receipt"] == f"A{attempt.transfer_id}"
    assert shop.get(attempt.intent_id)["amount_received"] == "100.00"
    assert books.timeline(attempt.intent_id)[-1] == "transfer.receipt_recorded"


def test_a_query_that_says_pending_moves_nothing(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    before = books.timeline(attempt.intent_id)

    rail.answer_query(attempt, attempt.answered("4999"))

    assert books.timeline(attempt.intent_id) == before


def test_a_known_api_error_of_a_query_alerts_nobody(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()

    rail.answer_query(attempt, unanswered() | {"code": "500.001.1001"})

    assert shop.get(attempt.intent_id)["status"] == "processing"
    assert books.alerts("mpesa:500.001.1001") == []


def test_no_answer_twice_a_minute_apart_is_a_timeout(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    rail.answer_query(attempt, attempt.answered("1037"))
    first = shop.get(attempt.intent_id)["status"]
    pass_time(books, attempt, 60)

    rail.answer_query(attempt, attempt.answered("1037"))

    resource = shop.get(attempt.intent_id)
    assert first == "processing"
    assert resource["status"] == "requires_payment_method"
    assert resource["last_error"]["code"] == "MM_TIMEOUT"
    assert resource["last_error"]["retryable"] is True


def test_no_answer_twice_within_a_minute_is_not_a_timeout(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.answer_query(attempt, attempt.answered("1037"))
    pass_time(books, attempt, 58)

    rail.answer_query(attempt, attempt.answered("1037"))

    assert shop.get(attempt.intent_id)["status"] == "processing"


def test_an_answer_in_between_starts_the_timeout_anew(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    rail.answer_query(attempt, attempt.answered("1037"))
    pass_time(books, attempt, 60)
    rail.answer_query(attempt, attempt.answered("4999"))

    rail.answer_query(attempt, attempt.answered("1037"))

    assert shop.get(attempt.intent_id)["status"] == "processing"


def test_a_callback_is_no_second_answer_of_a_query(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    rail.answer_query(attempt, attempt.answered("1037"))
    pass_time(books, attempt, 60)

    rail.call_back(attempt, attempt.told("1037"))

    assert shop.get(attempt.intent_id)["status"] == "processing"


def test_a_silent_transfer_goes_to_a_person_at_the_horizon(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    pass_time(books, attempt, 86_400)

    work = rail.claim()

    resource = shop.get(attempt.intent_id)
    parked = books.value(
        "select due_at = 'infinity' from rails.watches where transfer_id = %s",
        attempt.transfer_id,
    )
    assert work == []
    assert resource["status"] == "processing"
    assert resource["latest_transfer"]["state"] == "ACCEPTED"
    assert resource["latest_transfer"]["needs_review"] is True
    assert parked is True
    assert books.timeline(attempt.intent_id)[-1] == "transfer.needs_review"
    assert books.alerts(attempt.transfer_id) == ["transfer_needs_review"]


def test_a_success_ends_the_review_of_a_silent_transfer(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    pass_time(books, attempt, 86_400)
    rail.claim()

    rail.call_back(attempt, attempt.paid())

    resource = shop.get(attempt.intent_id)
    assert resource["status"] == "succeeded"
    assert resource["latest_transfer"]["needs_review"] is False


def test_a_transfer_without_reference_waits_for_its_callback_then_for_a_person(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.send(shop.new_intent())
    shop.record(attempt, silent())
    pass_time(books, attempt, 60)

    early = rail.claim()
    wait = seconds_to_next_query(books, attempt)
    pass_time(books, attempt, wait)
    late = rail.claim()

    transfer = books.transfer(attempt.transfer_id)
    assert (early, late) == ([], [])
    assert wait == 540
    assert (transfer["state"], transfer["review_reason"]) == ("SUBMITTED", "rail_gave_no_reference")
    assert books.alerts(attempt.transfer_id) == ["transfer_needs_review"]


def test_a_transfer_whose_credentials_are_gone_goes_to_a_person(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    books.run("delete from rails.credentials where tenant_id = %s", shop.tenant_id)
    pass_time(books, attempt, 60)

    work = rail.claim()

    assert work == []
    assert books.transfer(attempt.transfer_id)["review_reason"] == "credentials_removed"


def test_a_merchant_may_ask_now_but_not_again_within_five_seconds(shop: Shop, books: Books) -> None:
    attempt = shop.attempt()

    first = ask(shop, attempt.intent_id)
    second = ask(shop, attempt.intent_id)
    pass_time(books, attempt, 5)
    third = ask(shop, attempt.intent_id)

    assert first["work"]["rail_ref"] == attempt.rail_ref
    assert Answer.of(first["answer"]).body["status"] == "processing"
    assert second["work"] is None
    assert third["work"]["transfer_id"] == attempt.transfer_id


def test_there_is_nothing_to_ask_about_a_known_outcome(shop: Shop, rail: Rail) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid())

    asked = ask(shop, attempt.intent_id)

    assert asked["work"] is None
    assert Answer.of(asked["answer"]).body["status"] == "succeeded"


def test_there_is_nothing_to_ask_before_the_first_attempt_or_a_reference(shop: Shop) -> None:
    untouched = ask(shop, shop.new_intent())
    unreferenced = ask(shop, shop.send(shop.new_intent()).intent_id)

    assert (untouched["work"], unreferenced["work"]) == (None, None)


def test_a_merchants_question_settles_like_the_reconcilers(shop: Shop) -> None:
    attempt = shop.attempt()
    ask(shop, attempt.intent_id)

    answer = Answer.of(
        shop.call(
            "payments.record_query",
            transfer_id=attempt.transfer_id,
            event=attempt.answered("0"),
        )
    )

    assert answer.body["status"] == "succeeded"


def test_credentials_in_use_cannot_be_deleted(shop: Shop, rail: Rail, api: Api) -> None:
    attempt = shop.attempt()

    with pytest.raises(Refused) as refused:
        api.call("fn_merchants", shop.headers, "rails.delete_credentials", rail="mpesa")

    assert refused.value.code == "40911"
    rail.call_back(attempt, attempt.paid())
    deleted = Answer.of(
        api.call("fn_merchants", shop.headers, "rails.delete_credentials", rail="mpesa")
    )
    assert deleted.body == {"object": "rail_credentials", "rail": "mpesa", "deleted": True}


def test_the_reconciler_is_woken_only_when_something_is_due(database: Database) -> None:
    with Api(database) as api, Books(database) as books:
        attempt = Shop(api, books).open().attempt()

        quiet = books.value("select rails.poke_reconcile()")
        pass_time(books, attempt, 60)
        due = books.value("select rails.poke_reconcile()")

    assert (quiet, due) == (False, True)
