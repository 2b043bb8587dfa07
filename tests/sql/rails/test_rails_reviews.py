"""rails.resolve_review: a person decides what no rail answers."""

import uuid
from functools import partial
from typing import Any

import pytest

from scripts.stack.database import Database
from tests.sql.payments.shop import Answer, Attempt, Shop
from tests.sql.rails.rail import Rail
from tests.support.sql import Api, Books, Headers, Refused, Row, at_once, connections


def resolve(api: Api, by: Headers, attempt: Attempt, **changes: Any) -> Answer:
    arguments: Row = {
        "transfer_id": attempt.transfer_id,
        "idempotency_key": str(uuid.uuid4()),
        "body_hash": "body",
        "outcome": "settled",
        "receipt": new_receipt(),
        "reason": "on the statement",
    }
    return Answer.of(api.call("fn_reconcile", by, "rails.resolve_review", **arguments | changes))


@pytest.fixture
def parked(shop: Shop, rail: Rail) -> Attempt:
    """A payment whose callback told another amount."""
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(amount_minor=attempt.amount_minor + 100))
    return attempt


def test_a_decision_settles_with_the_receipt_of_the_statement(
    shop: Shop, api: Api, books: Books, parked: Attempt
) -> None:
    answer = resolve(api, shop.headers, parked, receipt="RSTATEMENT1")

    transfer = books.transfer(parked.transfer_id)
    assert answer.body["status"] == "succeeded"
    assert (transfer["state"], transfer["receipt"]) == ("SETTLED", "RSTATEMENT1")
    assert transfer["review_reason"] is None
    assert books.watches(parked.transfer_id) == []
    assert books.alerts(parked.transfer_id) == []
    assert "transfer.review_resolved" in books.timeline(parked.intent_id)


def test_a_decision_fails_the_attempt_and_frees_the_intent(
    shop: Shop, api: Api, books: Books, parked: Attempt
) -> None:
    answer = resolve(api, shop.headers, parked, outcome="failed", receipt=None)

    assert answer.body["status"] == "requires_payment_method"
    assert answer.body["last_error"]["code"] == "RESOLVED_AS_FAILED"
    assert books.transfer(parked.transfer_id)["review_reason"] is None


def test_a_decision_to_let_it_stand_has_the_rail_asked_again(
    shop: Shop, api: Api, books: Books, rail: Rail, parked: Attempt
) -> None:
    resolve(api, shop.headers, parked, outcome="stands", receipt=None)

    assert books.transfer(parked.transfer_id)["state"] == "ACCEPTED"
    assert [work["transfer_id"] for work in rail.claim()] == [parked.transfer_id]


def test_the_callbacks_of_a_decided_transfer_are_no_longer_parked(
    shop: Shop, api: Api, books: Books, parked: Attempt
) -> None:
    resolve(api, shop.headers, parked)

    latest = books.column(
        "select (array_agg(d.disposition order by d.number desc))[1] from rails.callbacks as c"
        " join rails.callback_dispositions as d using (callback_id)"
        " where c.transfer_id = %s group by c.callback_id",
        parked.transfer_id,
    )
    assert latest == ["resolved"]


def test_a_repeated_decision_is_one_decision(shop: Shop, api: Api, parked: Attempt) -> None:
    receipt = new_receipt()
    first = resolve(api, shop.headers, parked, idempotency_key="k", receipt=receipt)
    again = resolve(api, shop.headers, parked, idempotency_key="k", receipt=receipt)

    assert again.body == first.body
    assert again.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"receipt": None}, "42262"), ({"transfer_id": "tr_none"}, "40401")],
)
def test_a_decision_that_cannot_be_carried_out_changes_nothing(
    shop: Shop, api: Api, books: Books, parked: Attempt, changes: Row, code: str
) -> None:
    with pytest.raises(Refused) as refused:
        resolve(api, shop.headers, parked, **changes)

    assert refused.value.code == code
    assert books.transfer(parked.transfer_id)["review_reason"] == "amount_mismatch"


def test_a_receipt_that_pays_for_another_transfer_decides_nothing(
    shop: Shop, api: Api, rail: Rail, parked: Attempt
) -> None:
    paid = shop.attempt()
    rail.call_back(paid, paid.paid(receipt="RTAKEN0001"))

    with pytest.raises(Refused) as refused:
        resolve(api, shop.headers, parked, receipt="RTAKEN0001")

    assert refused.value.extras["errors"][0]["pointer"] == "/receipt"


def test_what_does_not_wait_cannot_be_decided(shop: Shop, api: Api) -> None:
    attempt = shop.attempt()

    with pytest.raises(Refused) as refused:
        resolve(api, shop.headers, attempt)

    assert (refused.value.code, refused.value.extras["current_state"]) == ("40911", "ACCEPTED")


def test_another_tenant_and_a_lesser_key_decide_nothing(
    shop: Shop, api: Api, books: Books, parked: Attempt
) -> None:
    stranger = Shop(api, books).open()
    reader = shop.add_key("reader", ["payments:read", "payments:write"])

    refusals = []
    for by in (stranger.headers, reader):
        with pytest.raises(Refused) as refused:
            resolve(api, by, parked)
        refusals.append(refused.value.code)

    assert refusals == ["40401", "40311"]


def test_a_decision_and_a_late_callback_settle_once(
    shop: Shop, books: Books, rail: Rail, module_database: Database
) -> None:
    with connections(module_database, 2) as (person, callback):
        for _ in range(30):
            attempt = shop.attempt()
            rail.call_back(attempt, attempt.paid(rail_ref="ws_of_another"))

            at_once(
                [
                    partial(resolve, person, shop.headers, attempt, receipt=new_receipt()),
                    partial(Rail(callback).call_back, attempt, attempt.paid(receipt=new_receipt())),
                ]
            )

            assert books.transfer(attempt.transfer_id)["state"] == "SETTLED"
            intent = books.intent(attempt.intent_id)
            assert intent["amount_received_minor"] == attempt.amount_minor


def new_receipt() -> str:
    """A receipt nobody has used."""
    return uuid.uuid4().hex[:10].upper()


# What moved is what is booked


def mismatched(shop: Shop, rail: Rail, told_minor: int) -> Attempt:
    """A prompt for 100.00 about which the rail tells another amount."""
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(amount_minor=told_minor))
    return attempt


def test_settled_after_a_smaller_amount_books_what_the_rail_told(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = mismatched(shop, rail, 9_000)

    answer = rail.decide(shop, attempt, "settled", "UKM1")

    row = books.transfer(attempt.transfer_id)
    assert (row["state"], row["amount_minor"]) == ("SETTLED", 9_000)
    assert (answer.body["status"], answer.body["amount_received"]) == ("partially_paid", "90.00")
    settled = books.value(
        "select payload ->> 'amount' from payments.transfer_events"
        " where transfer_id = %s and type = 'transfer.settled'",
        attempt.transfer_id,
    )
    assert settled == "90.00"


def test_settled_after_a_larger_amount_books_what_the_rail_told(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = mismatched(shop, rail, 11_000)

    answer = rail.decide(shop, attempt, "settled", "UKM2")

    assert (answer.body["status"], answer.body["amount_received"]) == ("succeeded", "110.00")
    assert "intent_overpaid" in books.alerts(attempt.intent_id)


def test_a_person_does_not_contradict_what_the_rail_told(shop: Shop, rail: Rail) -> None:
    attempt = mismatched(shop, rail, 9_000)

    with pytest.raises(Refused, match=r"the rail told 90\.00; leave amount out"):
        rail.decide(shop, attempt, "settled", "UKM3", amount_minor=10_000, currency="KES")


def test_where_the_rail_told_no_amount_a_person_must(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid() | {"amount_minor": None})

    with pytest.raises(Refused, match="give the one of its statement") as refused:
        rail.decide(shop, attempt, "settled", "UKM4")
    rail.decide(shop, attempt, "settled", "UKM4", amount_minor=9_500, currency="KES")

    assert refused.value.extras["errors"][0]["pointer"] == "/amount"
    assert books.transfer(attempt.transfer_id)["amount_minor"] == 9_500
