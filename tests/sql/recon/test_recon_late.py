"""What a statement tells payments: money that settled after all, receipts, returns."""

from dataclasses import replace

from tests.sql.payments.shop import Shop
from tests.sql.rails.rail import Rail
from tests.sql.recon.desk import Desk, Line, days_ago
from tests.support.sql import Books


def test_a_line_settles_the_transfer_that_nobody_called_back(
    desk: Desk, shop: Shop, books: Books
) -> None:
    attempt = shop.attempt()
    desk.move(attempt, days_ago(3))

    desk.upload(Line("LATE000001", our_ref=attempt.intent_id[-12:].upper()))

    transfer = books.transfer(attempt.transfer_id)
    assert (transfer["state"], transfer["receipt"]) == ("SETTLED", "LATE000001")
    assert books.intent(attempt.intent_id)["status"] == "succeeded"
    assert books.timeline(attempt.intent_id)[-2:] == [
        "transfer.settled",
        "payment_intent.succeeded",
    ]
    assert books.watches(attempt.transfer_id) == []
    assert desk.matches() == [("our_reference", "settle", 10_000)]
    assert desk.exceptions() == []


def test_late_success_of_another_amount_is_asked_about(
    desk: Desk, shop: Shop, books: Books
) -> None:
    attempt = shop.attempt()
    desk.move(attempt, days_ago(3))

    desk.upload(Line(amount_minor=9_900, our_ref=attempt.intent_id[-12:]))

    assert desk.kinds() == ["AMOUNT_MISMATCH"]
    assert books.transfer(attempt.transfer_id)["state"] == "ACCEPTED"


def test_a_line_for_a_failed_transfer_conflicts_and_a_person_settles_it(
    desk: Desk, shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.told("1032"))
    desk.move(attempt, days_ago(3))
    desk.upload(Line("LATE000002", our_ref=attempt.intent_id[-12:]))
    (conflict,) = desk.exceptions(status="open")
    assert (conflict["kind"], conflict["details"]["state"]) == ("STATE_CONFLICT", "FAILED")

    desk.resolve(conflict["id"], "assign")

    transfer = books.transfer(attempt.transfer_id)
    assert (transfer["state"], transfer["late"], transfer["receipt"]) == (
        "SETTLED",
        True,
        "LATE000002",
    )
    assert desk.matches() == [("person", "settle", 10_000)]
    assert desk.session()["status"] == "matched"


def test_the_receipt_that_no_query_told_comes_with_the_line(
    desk: Desk, shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.answer_query(attempt, attempt.answered("0"))
    desk.move(attempt, days_ago(3))
    assert books.transfer(attempt.transfer_id)["receipt"] is None

    desk.upload(Line("TOLDBYLINE", our_ref=attempt.intent_id[-12:]))

    assert books.transfer(attempt.transfer_id)["receipt"] == "TOLDBYLINE"
    assert desk.matches() == [("our_reference", "settle", 10_000)]


def test_a_return_line_returns_the_transfer_it_names(desk: Desk, books: Books) -> None:
    paid = desk.settled()
    back = Line("BACK000001", direction="out", type="return", linked_ref=paid.receipt)

    desk.upload(paid, back)

    transfer = desk.transfer_of(paid)
    assert transfer["state"] == "RETURNED"
    assert "transfer.returned" in books.timeline(transfer["payment_intent_id"])
    assert desk.matches() == [
        ("rail_reference", "settle", 10_000),
        ("rail_reference", "return", 10_000),
    ]
    assert desk.exceptions() == []


def test_a_second_return_of_a_transfer_is_a_duplicate(desk: Desk) -> None:
    paid = desk.settled()
    back = Line("BACK000002", direction="out", type="return", linked_ref=paid.receipt)

    desk.upload(paid, back, replace(back, receipt="BACK000003"))

    assert desk.kinds() == ["DUPLICATE_LINE"]


def test_a_return_of_a_part_waits_for_a_person(desk: Desk) -> None:
    paid = desk.settled()

    desk.upload(
        paid,
        Line("BACK000004", 4_000, direction="out", type="return", linked_ref=paid.receipt),
    )

    assert desk.kinds() == ["AMOUNT_MISMATCH"]
    assert desk.transfer_of(paid)["state"] == "SETTLED"


def test_many_late_successes_settle_one_each(desk: Desk, shop: Shop, books: Books) -> None:
    attempts = [shop.attempt(1_000 * number) for number in range(1, 6)]
    for attempt in attempts:
        desk.move(attempt, days_ago(3))

    desk.upload(
        *(
            Line(f"MANY{n}", attempt.amount_minor, our_ref=attempt.intent_id[-12:])
            for n, attempt in enumerate(attempts)
        )
    )

    states = [books.transfer(attempt.transfer_id)["state"] for attempt in attempts]
    assert states == ["SETTLED"] * 5
    assert desk.exceptions() == []
