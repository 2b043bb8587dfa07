"""rails.receive_callback: what becomes of each thing a rail may call back."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.sql.payments.shop import Answer, Attempt, Shop, accepted, silent
from tests.sql.rails.rail import Rail
from tests.support.sql import Api, Books, Headers, Row, digest

SETTLED = [
    "payment_intent.created",
    "payment_intent.processing",
    "transfer.initiated",
    "transfer.submitted",
    "transfer.accepted",
    "transfer.settled",
    "payment_intent.succeeded",
]


@pytest.fixture
def careful_rail(books: Books) -> Iterator[None]:
    """M-Pesa confirms every success above 500.00 by a query."""
    books.run("update rails.rails set confirm_above_minor = 50000 where rail = 'mpesa'")
    yield
    books.run("update rails.rails set confirm_above_minor = null where rail = 'mpesa'")


def dispositions(books: Books, attempt: Attempt) -> list[tuple[str, str | None]]:
    """What was concluded from each callback of a transfer, in force and earlier."""
    found = books.rows(
        "select d.disposition, d.reason from rails.callback_dispositions as d"
        " inner join rails.callbacks as c using (callback_id)"
        " where c.transfer_id = %s order by d.callback_id, d.number",
        attempt.transfer_id,
    )
    return [(row["disposition"], row["reason"]) for row in found]


def is_due(books: Books, attempt: Attempt) -> bool:
    """Whether the reconciler would ask about the transfer now."""
    return [
        watch["due_at"] <= books.value("select now()")
        for watch in books.watches(attempt.transfer_id)
    ] == [True]


def test_a_success_settles_transfer_and_intent(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt(amount_minor=150_000)

    concluded = rail.call_back(attempt, attempt.paid(receipt="UCR1A2B3C4"))

    resource = shop.get(attempt.intent_id)
    assert concluded == {
        "disposition": "applied",
        "reason": None,
        "transfer_id": attempt.transfer_id,
    }
    assert resource["status"] == "succeeded"
    assert resource["amount_received"] == "1500.00"
    assert resource["latest_transfer"]["receipt"] == "UCR1A2B3C4"
    assert resource["latest_transfer"]["late"] is False
    assert resource["next_action"] is None
    assert books.timeline(attempt.intent_id) == SETTLED
    assert books.watches(attempt.transfer_id) == []


def test_a_failure_returns_the_intent_for_another_attempt(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()

    concluded = rail.call_back(attempt, attempt.told("1032"))

    resource = shop.get(attempt.intent_id)
    assert concluded["disposition"] == "applied"
    assert resource["status"] == "requires_payment_method"
    assert resource["last_error"]["code"] == "MM_USER_CANCELLED"
    assert resource["last_error"]["rail_code"] == "1032"
    assert books.transfer(attempt.transfer_id)["state"] == "FAILED"
    assert books.watches(attempt.transfer_id) == []


def test_a_callback_that_overtakes_the_push_answer_settles(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.send(shop.new_intent())

    concluded = rail.call_back(attempt, attempt.paid())
    answer = shop.record(attempt)

    assert concluded["disposition"] == "applied"
    assert answer.body["status"] == "succeeded"
    transfer = books.transfer(attempt.transfer_id)
    assert (transfer["state"], transfer["rail_ref"]) == ("SETTLED", attempt.rail_ref)
    assert books.timeline(attempt.intent_id) == [t for t in SETTLED if t != "transfer.accepted"]


def test_a_callback_settles_what_the_rail_left_unanswered(shop: Shop, rail: Rail) -> None:
    attempt = shop.send(shop.new_intent())
    shop.record(attempt, silent())

    rail.call_back(attempt, attempt.paid())

    assert shop.get(attempt.intent_id)["status"] == "succeeded"


def test_a_callback_that_says_pending_moves_nothing(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.send(shop.new_intent())

    concluded = rail.call_back(attempt, attempt.told("4999"))

    assert (concluded["disposition"], concluded["reason"]) == ("ignored", "still_pending")
    assert books.transfer(attempt.transfer_id)["state"] == "SUBMITTED"


def test_a_repeated_callback_changes_nothing(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid())
    before = books.transfer(attempt.transfer_id), books.timeline(attempt.intent_id)

    again = rail.call_back(attempt, attempt.paid())

    assert again == {"disposition": "duplicate", "transfer_id": attempt.transfer_id}
    assert (books.transfer(attempt.transfer_id), books.timeline(attempt.intent_id)) == before
    assert dispositions(books, attempt) == [("applied", None)]


def test_a_callback_is_stored_sealed_with_all_that_came(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    event = attempt.paid()

    rail.call_back(attempt, event, headers={"user-agent": "Daraja"}, source_trusted=True)

    kept = books.row("select * from rails.callbacks where transfer_id = %s", attempt.transfer_id)
    assert kept["tenant_id"] == shop.tenant_id
    assert kept["environment"] == "sandbox"
    assert kept["body_sealed"] == "sealed"
    assert kept["events"] == [event]
    assert kept["headers"] == {"user-agent": "Daraja"}
    assert kept["token_hash"] == digest(attempt.token)


def test_an_unknown_token_is_parked_and_seen_by_operators_alone(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    stranger = replace(attempt, token="nobody's")

    concluded = rail.call_back(stranger, attempt.paid())

    kept = books.row("select * from rails.callbacks where token_hash = %s", digest("nobody's"))
    assert concluded == {"disposition": "parked", "reason": "unknown_token", "transfer_id": None}
    assert (kept["tenant_id"], kept["transfer_id"]) == (None, None)
    assert shop.get(attempt.intent_id)["status"] == "processing"
    assert books.alerts("mpesa unmatched") == ["callback_parked"]


def test_a_forged_callback_cannot_occupy_the_identity_of_the_real_one(
    shop: Shop, rail: Rail
) -> None:
    attempt = shop.attempt()
    rail.call_back(replace(attempt, token="guessed"), attempt.paid())

    concluded = rail.call_back(attempt, attempt.paid())

    assert concluded["disposition"] == "applied"
    assert shop.get(attempt.intent_id)["status"] == "succeeded"


def test_a_callback_from_a_strange_address_does_not_keep_the_real_one_out(
    shop: Shop, rail: Rail
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(receipt="RINVENTED"), source_trusted=False)

    concluded = rail.call_back(attempt, attempt.paid(receipt=f"A{attempt.transfer_id}"))

    assert concluded["disposition"] == "applied"
    assert shop.get(attempt.intent_id)["latest_transfer"]["receipt"] == f"A{attempt.transfer_id}"


@pytest.mark.parametrize(("trusted", "kept"), [(True, False), (False, True)])
def test_a_hundred_callbacks_are_kept_and_strangers_crowd_nobody_out(
    shop: Shop, rail: Rail, books: Books, trusted: bool, kept: bool
) -> None:
    attempt = shop.attempt()
    books.run(
        "insert into rails.callbacks (rail, tenant_id, environment, transfer_id, dedupe_key,"
        " token_hash, source_trusted, headers, body_sealed)"
        " select 'mpesa', %s, 'sandbox', %s, %s || number, 'x', %s, '{}', 'sealed'"
        " from generate_series(1, 100) as number",
        shop.tenant_id,
        attempt.transfer_id,
        attempt.transfer_id,
        trusted,
    )

    concluded = rail.call_back(attempt, attempt.paid())

    assert (concluded["disposition"] == "applied") is kept
    assert (concluded["reason"] == "too_many") is not kept
    assert ("callbacks_not_kept" in books.alerts(attempt.transfer_id)) is not kept


def test_a_body_nobody_understands_is_parked_and_the_rail_is_asked(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()

    concluded = rail.call_back(attempt, {}, events=None, problem="not JSON: line 1")

    assert (concluded["disposition"], concluded["reason"]) == ("parked", "not JSON  line 1")
    assert books.alerts(attempt.transfer_id) == ["callback_parked"]
    assert is_due(books, attempt)
    assert shop.get(attempt.intent_id)["status"] == "processing"


def test_a_body_nobody_understands_does_not_keep_the_real_callback_out(
    shop: Shop, rail: Rail
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, {}, events=None, problem="not JSON")

    rail.call_back(attempt, attempt.paid())

    assert shop.get(attempt.intent_id)["status"] == "succeeded"


def test_a_body_with_nothing_to_tell_is_kept(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()

    concluded = rail.call_back(attempt, {}, events=[])

    assert (concluded["disposition"], concluded["reason"]) == ("parked", "no_event")
    assert dispositions(books, attempt) == [("parked", "no_event")]


def test_a_copy_that_contradicts_the_first_is_parked(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(receipt=f"A{attempt.transfer_id}"))

    concluded = rail.call_back(attempt, attempt.paid(receipt=f"B{attempt.transfer_id}"))

    assert concluded["disposition"] == "parked"
    assert concluded["reason"] == "contradicts an earlier callback of the same identity"
    assert books.transfer(attempt.transfer_id)["receipt"] == f"A{attempt.transfer_id}"
    assert books.alerts(attempt.transfer_id) == ["callback_parked"]


def test_a_contradicting_copy_is_kept_once_however_often_it_comes(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(receipt=f"A{attempt.transfer_id}"))
    rail.call_back(attempt, attempt.paid(receipt=f"B{attempt.transfer_id}"))

    again = rail.call_back(attempt, attempt.paid(receipt=f"B{attempt.transfer_id}"))

    assert again["disposition"] == "duplicate"
    assert len(dispositions(books, attempt)) == 2


@pytest.mark.parametrize(
    "difference", [{"amount_minor": 9_900}, {"amount_minor": 10_100}, {"currency": "TZS"}]
)
def test_another_amount_than_asked_for_is_parked_and_booked_nowhere(
    shop: Shop, rail: Rail, books: Books, difference: Row
) -> None:
    attempt = shop.attempt()

    concluded = rail.call_back(attempt, attempt.paid() | difference)

    resource = shop.get(attempt.intent_id)
    assert (concluded["disposition"], concluded["reason"]) == ("parked", "amount_mismatch")
    assert resource["status"] == "processing"
    assert resource["amount_received"] == "0.00"
    assert resource["latest_transfer"]["needs_review"] is True
    assert books.alerts(attempt.transfer_id) == ["transfer_needs_review", "callback_parked"]


def test_a_query_cannot_settle_what_was_paid_with_another_amount(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(amount_minor=9_900))

    rail.answer_query(attempt, attempt.answered("0"))

    assert shop.get(attempt.intent_id)["status"] == "processing"
    assert books.transfer(attempt.transfer_id)["review_reason"] == "amount_mismatch"


def test_another_amount_stays_the_reason_for_review_past_the_horizon(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(amount_minor=9_900))
    books.run(
        "update rails.watches set due_at = now(), horizon_at = now() where transfer_id = %s",
        attempt.transfer_id,
    )
    rail.claim()

    rail.answer_query(attempt, attempt.answered("0"))

    assert books.transfer(attempt.transfer_id)["review_reason"] == "amount_mismatch"
    assert shop.get(attempt.intent_id)["amount_received"] == "0.00"


@pytest.mark.parametrize("missing", ["amount_minor", "receipt"])
def test_a_success_that_lacks_its_proof_waits_for_a_query(
    shop: Shop, rail: Rail, books: Books, missing: str
) -> None:
    attempt = shop.attempt()
    # As shared/rails/mpesa/callback.py reads such a body.
    incomplete = attempt.paid() | {missing: None, "outcome": "unknown"}

    concluded = rail.call_back(attempt, incomplete)

    assert (concluded["disposition"], concluded["reason"]) == ("awaiting_query", "unknown")
    assert shop.get(attempt.intent_id)["status"] == "processing"
    assert is_due(books, attempt)
    rail.answer_query(attempt, attempt.answered("0"))
    assert shop.get(attempt.intent_id)["status"] == "succeeded"


def test_an_incomplete_success_alerts_nobody(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()

    rail.call_back(attempt, attempt.paid() | {"receipt": None, "outcome": "unknown"})

    assert books.alerts(attempt.transfer_id) == []
    assert books.alerts("mpesa:0") == []


def test_another_reference_than_the_push_got_is_parked(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()

    concluded = rail.call_back(attempt, attempt.paid(rail_ref="ws_CO_other"))
    rail.answer_query(attempt, attempt.answered("0"))

    assert (concluded["disposition"], concluded["reason"]) == ("parked", "reference_mismatch")
    assert shop.get(attempt.intent_id)["status"] == "processing"
    assert books.transfer(attempt.transfer_id)["rail_ref"] == attempt.rail_ref


def test_a_second_receipt_for_one_transfer_is_parked(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(receipt=f"A{attempt.transfer_id}"))

    rail.answer_query(attempt, attempt.answered("0") | {"receipt": f"B{attempt.transfer_id}"})

    transfer = books.transfer(attempt.transfer_id)
    assert (transfer["receipt"], transfer["review_reason"]) == (
        f"A{attempt.transfer_id}",
        "second_receipt",
    )
    assert shop.get(attempt.intent_id)["amount_received"] == "100.00"


def test_a_receipt_pays_for_one_transfer_only(shop: Shop, rail: Rail, books: Books) -> None:
    first, second = shop.attempt(), shop.attempt()
    receipt = first.paid()["receipt"]
    rail.call_back(first, first.paid())

    concluded = rail.call_back(second, second.paid(receipt=receipt))

    assert concluded["disposition"] == "parked"
    assert concluded["reason"] == "receipt_of_another_transfer"
    assert shop.get(second.intent_id)["amount_received"] == "0.00"
    assert books.transfer(second.transfer_id)["review_reason"] == "receipt_of_another_transfer"


def test_a_receipt_of_another_transfer_is_not_recorded_on_a_settled_one(
    shop: Shop, rail: Rail, books: Books
) -> None:
    first, second = shop.attempt(), shop.attempt()
    receipt = first.paid()["receipt"]
    rail.call_back(first, first.paid())
    rail.answer_query(second, second.answered("0"))

    concluded = rail.call_back(second, second.paid(receipt=receipt))

    assert concluded["reason"] == "receipt_of_another_transfer"
    assert books.transfer(second.transfer_id)["receipt"] is None


def test_a_success_from_a_strange_address_waits_for_a_query(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()

    concluded = rail.call_back(attempt, attempt.paid(receipt="RSTRANGE"), source_trusted=False)

    assert (concluded["disposition"], concluded["reason"]) == ("awaiting_query", "untrusted_source")
    assert shop.get(attempt.intent_id)["status"] == "processing"
    assert is_due(books, attempt)
    rail.answer_query(attempt, attempt.answered("0"))
    assert books.transfer(attempt.transfer_id)["receipt"] == "RSTRANGE"
    assert shop.get(attempt.intent_id)["status"] == "succeeded"


def test_a_failure_from_a_strange_address_waits_for_a_query(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()

    concluded = rail.call_back(attempt, attempt.told("1032"), source_trusted=False)

    assert (concluded["disposition"], concluded["reason"]) == ("awaiting_query", "untrusted_source")
    assert books.transfer(attempt.transfer_id)["state"] == "ACCEPTED"
    rail.answer_query(attempt, attempt.answered("1032"))
    assert books.transfer(attempt.transfer_id)["state"] == "FAILED"


@pytest.mark.usefixtures("careful_rail")
def test_a_success_above_the_confirmation_amount_waits_for_a_query(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt(amount_minor=50_100)

    concluded = rail.call_back(attempt, attempt.paid(receipt="RLARGE"))

    assert concluded["disposition"] == "awaiting_query"
    assert concluded["reason"] == "above_confirmation_amount"
    assert shop.get(attempt.intent_id)["status"] == "processing"
    rail.answer_query(attempt, attempt.answered("0"))
    assert shop.get(attempt.intent_id)["status"] == "succeeded"
    assert books.transfer(attempt.transfer_id)["receipt"] == "RLARGE"


@pytest.mark.usefixtures("careful_rail")
def test_a_success_of_the_confirmation_amount_is_believed(shop: Shop, rail: Rail) -> None:
    attempt = shop.attempt(amount_minor=50_000)

    concluded = rail.call_back(attempt, attempt.paid())

    assert concluded["disposition"] == "applied"


@pytest.mark.usefixtures("careful_rail")
def test_a_success_that_comes_after_the_horizon_is_still_asked_for(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt(amount_minor=50_100)
    books.run(
        "update rails.watches set due_at = 'infinity', horizon_at = now() - interval '1 hour'"
        " where transfer_id = %s",
        attempt.transfer_id,
    )

    rail.call_back(attempt, attempt.paid())

    assert attempt.transfer_id in [work["transfer_id"] for work in rail.claim()]


def test_a_late_success_is_confirmed_by_a_query_before_it_is_believed(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.told("1032"))

    concluded = rail.call_back(attempt, attempt.paid(receipt="RLATE"))

    assert concluded["disposition"] == "awaiting_query"
    assert concluded["reason"] == "success_after_failure"
    assert shop.get(attempt.intent_id)["status"] == "requires_payment_method"
    assert [work["transfer_id"] for work in rail.claim()] == [attempt.transfer_id]
    rail.answer_query(attempt, attempt.answered("0"))
    resource = shop.get(attempt.intent_id)
    assert resource["status"] == "succeeded"
    assert resource["last_error"] is None
    assert resource["latest_transfer"]["late"] is True
    assert resource["latest_transfer"]["receipt"] == "RLATE"
    assert books.watches(attempt.transfer_id) == []


def test_a_late_success_that_the_query_denies_stays_a_failure(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.told("1032"))
    rail.call_back(attempt, attempt.paid())

    rail.answer_query(attempt, attempt.answered("1032"))

    assert books.transfer(attempt.transfer_id)["state"] == "FAILED"
    assert shop.get(attempt.intent_id)["amount_received"] == "0.00"


def test_a_query_alone_does_not_revive_a_failure(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.told("1032"))

    rail.answer_query(attempt, attempt.answered("0"))

    assert books.transfer(attempt.transfer_id)["state"] == "FAILED"


def test_a_failure_after_success_is_ignored_and_recorded(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid())

    concluded = rail.call_back(attempt, attempt.told("1032"))

    assert (concluded["disposition"], concluded["reason"]) == ("ignored", "failure_after_success")
    assert shop.get(attempt.intent_id)["status"] == "succeeded"
    assert dispositions(books, attempt) == [("applied", None), ("ignored", "failure_after_success")]
    assert books.timeline(attempt.intent_id) == SETTLED


def test_a_late_success_after_a_second_attempt_paid_is_an_overpayment(
    shop: Shop, rail: Rail, books: Books
) -> None:
    first = shop.attempt()
    rail.call_back(first, first.told("1032"))
    second = shop.retry(first.intent_id)
    rail.call_back(second, second.paid())
    rail.call_back(first, first.paid())

    rail.answer_query(first, first.answered("0"))

    resource = shop.get(first.intent_id)
    assert resource["status"] == "succeeded"
    assert resource["amount"] == "100.00"
    assert resource["amount_received"] == "200.00"
    assert books.timeline(first.intent_id)[-1] == "payment_intent.overpaid"
    assert books.alerts(first.intent_id) == ["intent_overpaid"]


def test_a_late_success_while_a_second_attempt_runs_leaves_that_attempt_open(
    shop: Shop, rail: Rail, books: Books
) -> None:
    first = shop.attempt()
    rail.call_back(first, first.told("1032"))
    second = shop.retry(first.intent_id)
    rail.call_back(first, first.paid())
    rail.answer_query(first, first.answered("0"))

    rail.call_back(second, second.told("1032"))

    assert books.transfer(second.transfer_id)["state"] == "FAILED"
    assert shop.get(first.intent_id)["status"] == "succeeded"
    assert shop.get(first.intent_id)["amount_received"] == "100.00"


@pytest.mark.parametrize("ending", ["canceled", "expired"])
def test_money_that_arrives_after_the_end_is_booked(
    shop: Shop, rail: Rail, books: Books, ending: str
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.told("1032"))
    books.run(
        "select payments.advance_intent(%s, %s)",
        attempt.intent_id,
        {"canceled": "cancel", "expired": "expire"}[ending],
    )
    rail.call_back(attempt, attempt.paid())
    before = shop.get(attempt.intent_id)["status"]

    rail.answer_query(attempt, attempt.answered("0"))

    resource = shop.get(attempt.intent_id)
    assert before == ending
    assert resource["status"] == "succeeded"
    assert resource["amount_received"] == "100.00"
    assert books.alerts(attempt.intent_id) == []


def test_an_unanswered_prompt_is_asked_for_at_once(shop: Shop, rail: Rail, books: Books) -> None:
    attempt = shop.attempt()

    concluded = rail.call_back(attempt, attempt.told("1037"))

    assert (concluded["disposition"], concluded["reason"]) == ("awaiting_query", "unknown")
    assert is_due(books, attempt)
    assert shop.get(attempt.intent_id)["status"] == "processing"
    assert books.alerts("mpesa:1037") == []


def test_an_unknown_code_is_neither_success_nor_failure_and_alerts(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()

    concluded = rail.call_back(attempt, attempt.told("31337"))

    assert (concluded["disposition"], concluded["reason"]) == ("awaiting_query", "unknown")
    assert shop.get(attempt.intent_id)["status"] == "processing"
    assert books.alerts("mpesa:31337") == ["unknown_rail_code"]


def test_an_unknown_code_in_the_answer_to_a_push_alerts_too(shop: Shop, books: Books) -> None:
    attempt = shop.send(shop.new_intent())

    shop.record(attempt, silent() | {"code": "500.999.9999"})

    assert books.alerts("mpesa:500.999.9999") == ["unknown_rail_code"]
    assert books.transfer(attempt.transfer_id)["state"] == "SUBMITTED"


def test_a_row_that_an_operator_adds_takes_effect_without_a_release(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    books.run(
        "insert into rails.reason_codes (rail, channel, code, outcome, reason, payer_may_retry,"
        " meaning, source) values ('mpesa', 'stk', '7777', 'failed_final', 'MM_DECLINED', true,"
        " 'The payer declined in the app', 'an operator')"
    )

    rail.call_back(attempt, attempt.told("7777"))

    resource = shop.get(attempt.intent_id)
    assert resource["status"] == "requires_payment_method"
    assert resource["last_error"]["message"] == "The payer declined in the app"
    assert resource["last_error"]["code"] == "MM_DECLINED"
    assert books.alerts("mpesa:7777") == []


def test_what_is_concluded_while_the_intent_is_locked_is_concluded_later(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    with books.connection.transaction():
        books.run(
            "select from payments.payment_intents where payment_intent_id = %s for update",
            attempt.intent_id,
        )
        concluded = rail.call_back(attempt, attempt.paid())

    tried = books.value("select rails.retry_failed_callbacks()")

    assert concluded["disposition"] == "failed"
    assert concluded["reason"].startswith("55P03")
    assert tried == 1
    assert dispositions(books, attempt)[-1] == ("applied", None)
    assert shop.get(attempt.intent_id)["status"] == "succeeded"
    assert books.alerts(attempt.transfer_id) == ["callback_parked"]
    assert books.value("select rails.retry_failed_callbacks()") == 0


def test_a_failed_conclusion_is_repeated_ten_times_at_most(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid() | {"amount_minor": "no number"})
    tries = [books.value("select rails.retry_failed_callbacks()") for _ in range(12)]

    assert tries == [1] * 9 + [0] * 3
    assert [name for name, _ in dispositions(books, attempt)] == ["failed"] * 10
    assert shop.get(attempt.intent_id)["status"] == "processing"


def test_a_pending_answer_after_a_failed_callback_revives_nothing(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.send(shop.new_intent())
    rail.call_back(attempt, attempt.told("1032"))

    answer = shop.record(attempt, accepted(attempt.rail_ref))

    assert answer.body["status"] == "requires_payment_method"
    assert books.transfer(attempt.transfer_id)["state"] == "FAILED"


def parked(shop: Shop, headers: Headers) -> list[Row]:
    """GET /reconcile/parked."""
    answer = shop.api.call(
        "fn_reconcile", headers, "rails.list_parked_callbacks", before_id=2**62, page_size=100
    )
    return list(Answer.of(answer).body["data"])


def test_a_tenant_sees_its_own_parked_callbacks_alone(
    shop: Shop, rail: Rail, api: Api, books: Books
) -> None:
    attempt, other = shop.attempt(), Shop(api, books).open().attempt()
    rail.call_back(attempt, attempt.paid(amount_minor=100))
    rail.call_back(other, other.paid(amount_minor=100))
    rail.call_back(replace(attempt, token="nobody's too"), attempt.paid())
    rail.call_back(attempt, attempt.told("1037"))

    listed = parked(shop, shop.headers)

    assert [(entry["transfer_id"], entry["reason"]) for entry in listed] == [
        (attempt.transfer_id, "amount_mismatch")
    ]


def test_a_callback_that_was_concluded_later_is_no_longer_parked(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(amount_minor=100))
    books.run(
        "insert into rails.callback_dispositions"
        " (callback_id, number, tenant_id, environment, disposition, reason)"
        " select callback_id, 2, tenant_id, environment, 'resolved', 'by a person'"
        " from rails.callbacks where transfer_id = %s",
        attempt.transfer_id,
    )

    assert parked(shop, shop.headers) == []


def test_operators_see_what_is_parked_for_everybody_and_for_nobody(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.paid(amount_minor=100))
    rail.call_back(replace(attempt, token="nobody's at all"), attempt.paid())
    books.run("insert into public.tenants (tenant_id, name, country) values ('tn_us', 'We', 'KE')")
    person = books.value(
        "insert into public.users (user_id, email) values (gen_random_uuid(), 'we@example.org')"
        " returning user_id::text"
    )
    books.run(
        "insert into public.memberships (tenant_id, user_id, app_role)"
        " values ('tn_us', %s, 'operator')",
        person,
    )

    listed = parked(
        shop,
        {
            "x-stalela-user-id": person,
            "x-stalela-user-email": "we@example.org",
            "x-stalela-tenant-id": "tn_us",
        },
    )

    assert {attempt.transfer_id, None} <= {entry["transfer_id"] for entry in listed}
