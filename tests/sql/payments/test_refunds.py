"""Refunds: back goes what came in, once, whoever asks and whenever the rail answers."""

from collections import Counter

import pytest

from scripts.stack.database import Database
from shared.rails.base import Outcome, Source
from tests.sql.payments.moves import Desk, Move, moving
from tests.sql.payments.shop import Answer, Shop, new_key
from tests.sql.rails.rail import Rail
from tests.support.sql import Books, Refused, Row, at_once, connections


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)


def told(rail: Rail, move: Move, event: Row) -> str:
    """The rail's result about a move; what was concluded."""
    return str(rail.call_back(move, event, kind="result")["disposition"])


def test_a_full_refund_reverses_the_payment_and_returns_the_transfer(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    original = books.transfer(transfer_id)

    refund = desk.refund(payment_intent_id=intent_id, reason="broken")
    desk.record(refund)
    disposition = told(rail, refund, refund.paid(amount_minor=10_000))

    assert refund.instruction["operation"] == "refund"
    assert refund.instruction["original_receipt"] == original["receipt"]
    assert disposition == "applied"
    assert books.transfer(refund.transfer_id)["state"] == "SETTLED"
    after = books.transfer(transfer_id)
    assert (after["state"], after["returned_minor"], after["refunds_open_minor"]) == (
        "RETURNED",
        10_000,
        0,
    )
    intent = books.intent(intent_id)
    assert (intent["status"], intent["amount_refunded_minor"]) == ("succeeded", 10_000)
    assert books.timeline(intent_id)[-8:] == [
        "transfer.initiated",
        "refund.created",
        "transfer.submitted",
        "transfer.accepted",
        "transfer.settled",
        "refund.succeeded",
        "transfer.returned",
        "payment_intent.refunded",
    ]


def test_events_of_a_refund_name_the_original_and_say_what_they_are(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    refund = desk.refund(payment_intent_id=intent_id)
    desk.record(refund)
    told(rail, refund, refund.paid())

    payload = books.value(
        "select payload from payments.transfer_events"
        " where transfer_id = %s and type = 'transfer.settled'",
        refund.transfer_id,
    )
    returned = books.value(
        "select payload from payments.transfer_events"
        " where transfer_id = %s and type = 'transfer.returned'",
        transfer_id,
    )

    assert payload["purpose"] == "refund"
    assert payload["related_transfer_id"] == transfer_id
    assert (payload["intent"], payload["amount"], payload["currency"]) == ("PUSH", "100.00", "KES")
    assert (returned["triggered_by"], returned["returned_amount"]) == ("refund", "100.00")


def test_a_partial_refund_is_paid_out_to_the_payer_and_leaves_the_rest(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)

    refund = desk.refund(payment_intent_id=intent_id, amount_minor=4_000)
    desk.record(refund)
    told(rail, refund, refund.paid())

    assert refund.instruction["operation"] == "pay_out"
    assert refund.instruction["payee_sealed"] == "sealed"
    assert refund.instruction["payee_context"] == f"payer|{intent_id}"
    original = books.transfer(transfer_id)
    assert (original["state"], original["returned_minor"]) == ("SETTLED", 4_000)
    assert books.intent(intent_id)["amount_refunded_minor"] == 4_000
    assert books.timeline(intent_id)[-2:] == [
        "transfer.partially_returned",
        "payment_intent.partially_refunded",
    ]


def test_two_partial_refunds_return_the_transfer_and_a_third_is_told_what_is_left(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    for amount in (4_000, 6_000):
        refund = desk.refund(payment_intent_id=intent_id, amount_minor=amount)
        desk.record(refund)
        told(rail, refund, refund.paid())

    with pytest.raises(Refused) as refused:
        desk.begin_refund(payment_intent_id=intent_id, amount_minor=1_000)

    assert books.transfer(transfer_id)["state"] == "RETURNED"
    assert (refused.value.code, refused.value.extras["refundable"]) == ("42255", "0.00")


def test_more_than_was_paid_is_refused_by_name(desk: Desk, rail: Rail) -> None:
    intent_id, _ = desk.paid_intent(rail)

    with pytest.raises(Refused) as refused:
        desk.begin_refund(payment_intent_id=intent_id, amount_minor=10_100)

    assert (refused.value.code, refused.value.extras["refundable"]) == ("42255", "100.00")
    assert refused.value.extras["errors"] == [{"pointer": "/amount", "detail": "at most 100.00"}]


def test_what_is_on_its_way_back_cannot_go_back_again(desk: Desk, rail: Rail) -> None:
    intent_id, _ = desk.paid_intent(rail)
    desk.refund(payment_intent_id=intent_id, amount_minor=7_000)

    with pytest.raises(Refused) as refused:
        desk.begin_refund(payment_intent_id=intent_id, amount_minor=4_000)

    assert refused.value.extras["refundable"] == "30.00"


def test_a_failed_refund_gives_back_what_it_had_reserved(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    refund = desk.refund(payment_intent_id=intent_id)
    desk.record(refund)

    told(rail, refund, refund.refused())

    assert books.transfer(refund.transfer_id)["state"] == "FAILED"
    original = books.transfer(transfer_id)
    assert (original["state"], original["refunds_open_minor"]) == ("SETTLED", 0)
    assert books.intent(intent_id)["amount_refunded_minor"] == 0
    assert books.timeline(intent_id)[-2:] == ["transfer.failed", "refund.failed"]
    assert desk.refund(payment_intent_id=intent_id).amount_minor == 10_000


def test_a_refund_that_never_left_gives_back_and_frees_its_key(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    refund = desk.refund(payment_intent_id=intent_id)

    desk.release(refund)
    again = desk.refund(payment_intent_id=intent_id, idempotency_key=refund.key)

    assert books.transfer(refund.transfer_id)["failure"]["code"] == "RAIL_UNAVAILABLE"
    assert books.transfer(transfer_id)["refunds_open_minor"] == 10_000
    assert again.transfer_id != refund.transfer_id


def test_a_repeated_request_gets_the_first_answer_and_moves_nothing(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    refund = desk.refund(payment_intent_id=intent_id, amount_minor=2_000)
    first = desk.record(refund)

    again = desk.begin_refund(
        payment_intent_id=intent_id, amount_minor=2_000, idempotency_key=refund.key
    )

    assert first.status == 201
    assert again["instruction"] is None
    assert Answer.of(again["answer"]).body == first.body
    assert books.transfer(transfer_id)["refunds_open_minor"] == 2_000


def test_a_request_that_died_while_the_rail_was_asked_is_answered_with_the_refund_as_it_is(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, _ = desk.paid_intent(rail)
    refund = desk.refund(payment_intent_id=intent_id)
    books.run(
        "update public.idempotency_keys set claimed_at = now() - interval '2 minutes'"
        " where key = %s",
        refund.key,
    )

    again = desk.begin_refund(payment_intent_id=intent_id, idempotency_key=refund.key)

    answer = Answer.of(again["answer"])
    assert again["instruction"] is None
    assert (answer.body["id"], answer.body["status"]) == (refund.transfer_id, "pending")


def test_success_after_failure_is_booked_late_when_there_is_room(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    refund = desk.refund(payment_intent_id=intent_id)
    desk.record(refund)
    told(rail, refund, refund.refused())

    first = told(rail, refund, refund.paid())
    rail.answer_query(refund, refund.paid(source=Source.QUERY))

    assert first == "awaiting_query"
    late = books.transfer(refund.transfer_id)
    assert (late["state"], late["late"]) == ("SETTLED", True)
    assert books.transfer(transfer_id)["state"] == "RETURNED"


def test_success_after_failure_whose_place_was_taken_needs_a_person(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    first = desk.refund(payment_intent_id=intent_id)
    desk.record(first)
    told(rail, first, first.refused())
    second = desk.refund(payment_intent_id=intent_id)
    desk.record(second)
    told(rail, second, second.paid())

    disposition = rail.call_back(first, first.paid(), kind="result")

    assert (disposition["disposition"], disposition["reason"]) == ("parked", "refunded_twice")
    assert books.transfer(first.transfer_id)["review_reason"] == "refunded_twice"
    assert "transfer_needs_review" in books.alerts(first.transfer_id)
    assert books.transfer(transfer_id)["returned_minor"] == 10_000


def test_silence_keeps_the_reservation_and_is_asked_about(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    refund = desk.refund(payment_intent_id=intent_id, amount_minor=5_000)

    desk.record(refund, refund.event(Outcome.UNKNOWN, Source.SUBMIT, code=None, channel=None))

    assert books.transfer(refund.transfer_id)["state"] == "SUBMITTED"
    assert books.transfer(transfer_id)["refunds_open_minor"] == 5_000
    assert len(books.watches(refund.transfer_id)) == 1


@pytest.mark.parametrize("amount_minor", [3_700, 10_000])
def test_the_rail_taking_the_money_back_while_a_refund_is_out_needs_a_person(
    desk: Desk, rail: Rail, books: Books, amount_minor: int
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    desk.refund(payment_intent_id=intent_id, amount_minor=amount_minor // 100 * 100)

    disposition = books.value(
        "select rails.apply_event(%s, '{\"outcome\": \"returned\"}', 'query', true)", transfer_id
    )

    assert disposition == "parked:returned_while_refunding"
    assert books.transfer(transfer_id)["state"] == "SETTLED"


def test_the_rail_taking_the_money_back_counts_for_the_intent(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)

    books.value(
        "select rails.apply_event(%s, '{\"outcome\": \"returned\"}', 'query', true)", transfer_id
    )

    assert books.transfer(transfer_id)["state"] == "RETURNED"
    assert books.intent(intent_id)["amount_refunded_minor"] == 10_000
    with pytest.raises(Refused, match="42255"):
        desk.begin_refund(payment_intent_id=intent_id)


def test_nothing_goes_back_of_what_was_never_paid(desk: Desk) -> None:
    with pytest.raises(Refused) as refused:
        desk.begin_refund(payment_intent_id=desk.shop.new_intent())

    assert refused.value.code == "40911"


def test_a_payment_of_somebody_else_looks_like_none(desk: Desk, rail: Rail, books: Books) -> None:
    intent_id, transfer_id = desk.paid_intent(rail)
    other = Desk(Shop(desk.shop.api, books).open())

    with pytest.raises(Refused, match="40401"):
        other.begin_refund(payment_intent_id=intent_id)
    with pytest.raises(Refused, match="40401"):
        other.begin_refund(transfer_id=transfer_id)


def test_giving_back_needs_its_own_scope(desk: Desk, rail: Rail) -> None:
    intent_id, _ = desk.paid_intent(rail)
    headers = desk.shop.add_key("till", ["payments:write", "payments:read"])

    with pytest.raises(Refused, match="refunds:write"):
        desk.begin_refund(headers, payment_intent_id=intent_id)


def test_a_partial_reversal_is_refused_with_the_rule(desk: Desk, rail: Rail) -> None:
    intent_id, _ = desk.paid_intent(rail)

    with pytest.raises(Refused, match="whole payments only"):
        desk.begin_refund(payment_intent_id=intent_id, amount_minor=5_000, method="reversal")


def test_too_little_for_a_payout_is_refused_with_the_rule(desk: Desk, rail: Rail) -> None:
    intent_id, _ = desk.paid_intent(rail)

    with pytest.raises(Refused, match=r"pays out 10\.00 to"):
        desk.begin_refund(payment_intent_id=intent_id, amount_minor=500)


def test_a_large_refund_waits_for_a_second_person(desk: Desk, rail: Rail, books: Books) -> None:
    intent_id, transfer_id = desk.paid_intent(rail, 5_000_100)
    begun = desk.begin_refund(payment_intent_id=intent_id)
    waiting = Answer.of(begun["answer"])

    approved = desk.decide(waiting.body["id"], desk.person(), purpose="refund")

    assert begun["instruction"] is None
    assert (waiting.status, waiting.body["status"]) == (202, "pending_approval")
    refund = moving(approved, "approve")
    assert refund.instruction["original_receipt"] == books.transfer(transfer_id)["receipt"]
    assert books.transfer(refund.transfer_id)["state"] == "SUBMITTED"


def test_a_rejected_refund_gives_back_what_it_had_reserved(
    desk: Desk, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = desk.paid_intent(rail, 5_000_100)
    waiting = Answer.of(desk.begin_refund(payment_intent_id=intent_id)["answer"]).body

    rejected = desk.decide(waiting["id"], desk.person(), "reject", purpose="refund")

    assert Answer.of(rejected["answer"]).body["status"] == "rejected"
    assert books.transfer(transfer_id)["refunds_open_minor"] == 0


def test_the_table_itself_refuses_more_back_than_came_in(
    desk: Desk, rail: Rail, books: Books
) -> None:
    _, transfer_id = desk.paid_intent(rail)

    with pytest.raises(Exception, match="violates check constraint"):
        books.run(
            "update payments.transfers set refunds_open_minor = 6000, returned_minor = 5000"
            " where transfer_id = %s",
            transfer_id,
        )


def test_twenty_clients_with_a_thousand_attempts_get_back_what_was_paid_and_no_more(
    module_database: Database, shop: Shop, rail: Rail, books: Books
) -> None:
    intent_id, transfer_id = Desk(shop).paid_intent(rail, 100_000)
    amounts = (1_000, 1_700, 2_300, 4_100)

    with connections(module_database, 20) as apis:

        def client(number: int) -> Counter[str]:
            mine = Desk(Shop(apis[number], books, shop.tenant_id))
            phone = Rail(apis[number])
            got: Counter[str] = Counter()
            for turn in range(50):
                amount = amounts[(number + turn) % 4]
                try:
                    refund = mine.refund(payment_intent_id=intent_id, amount_minor=amount)
                except Refused as refused:
                    got[refused.code] += 1
                    continue
                mine.record(refund)
                # Every third fails and gives its share back to the others.
                failed = (number + turn) % 3 == 0
                told(phone, refund, refund.refused() if failed else refund.paid())
                got["failed" if failed else "succeeded"] += 1
            return got

        results = at_once([lambda n=n: client(n) for n in range(20)])

    total = sum(results, Counter[str]())
    back = books.value(
        "select sum(amount_minor) from payments.transfers"
        " where related_transfer_id = %s and state = 'SETTLED'",
        transfer_id,
    )
    original = books.transfer(transfer_id)
    assert sum(total.values()) == 1_000
    assert set(total) == {"42255", "failed", "succeeded"}
    assert back == original["returned_minor"] <= 100_000
    assert original["refunds_open_minor"] == 0
    assert 100_000 - back < 1_000  # they stopped only when nothing was left to take
    assert books.intent(intent_id)["amount_refunded_minor"] == back


def test_refunds_are_listed_newest_first_and_only_ones_own(desk: Desk, rail: Rail) -> None:
    intent_id, _ = desk.paid_intent(rail)
    made = [
        desk.refund(payment_intent_id=intent_id, amount_minor=amount).transfer_id
        for amount in (1_000, 2_000, 3_000)
    ]

    first = Answer.of(
        desk.call(
            "fn_refunds",
            "payments.list_transfers",
            purposes=["refund"],
            filters={"payment_intent": intent_id},
            page_size=2,
            page_after=None,
        )
    ).body
    second = Answer.of(
        desk.call(
            "fn_refunds",
            "payments.list_transfers",
            purposes=["refund"],
            filters={"payment_intent": intent_id},
            page_size=2,
            page_after=first["pagination"]["next_cursor"],
        )
    ).body

    listed = [one["id"] for one in first["data"] + second["data"]]
    assert listed == made[::-1]
    assert first["data"][0]["object"] == "refund"
    assert (first["pagination"]["has_more"], second["pagination"]["has_more"]) == (True, False)


def test_an_unused_key_is_needed(desk: Desk, rail: Rail) -> None:
    intent_id, _ = desk.paid_intent(rail)
    key = new_key()
    desk.refund(payment_intent_id=intent_id, amount_minor=1_000, idempotency_key=key)

    with pytest.raises(Refused, match="42241"):
        desk.begin_refund(
            payment_intent_id=intent_id,
            amount_minor=1_000,
            idempotency_key=key,
            body_hash="another",
        )
