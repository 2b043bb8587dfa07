"""An attempt: begin_transfer, record_submission, release_submission."""

from dataclasses import replace

import pytest

from shared.rails.mpesa import stk
from tests.sql.payments.shop import Answer, Shop, accepted, new_key, silent
from tests.sql.rails.rail import Rail
from tests.support.sql import Books, Refused, digest

CONFIRM = "POST /payment-intents/{id}/confirm"


def test_begin_hands_out_all_that_the_rail_needs(shop: Shop) -> None:
    intent_id = shop.new_intent(amount_minor=150_000, description="Order 20418, two items")

    begun = shop.begin(intent_id)

    instruction = begun["instruction"]
    assert begun["answer"] is None
    assert instruction.pop("transfer_id").startswith("tr_")
    assert len(instruction.pop("callback_token")) == 64
    assert instruction.pop("submitted_at") is not None
    assert instruction == {
        "operation": "collect",
        "tenant_id": shop.tenant_id,
        "environment": "sandbox",
        "rail": "mpesa",
        "amount_minor": 150_000,
        "currency": "KES",
        "account_reference": intent_id[-12:].upper(),
        "description": "Order 20418, ",
        "credentials_sealed": "sealed",
        "headers": {},
    }


def test_begin_keeps_only_the_hash_of_the_callback_token(shop: Shop, books: Books) -> None:
    attempt = shop.send(shop.new_intent())

    kept = books.row("select * from payments.attempts where transfer_id = %s", attempt.transfer_id)
    assert kept["callback_token_hash"] == digest(attempt.token)
    assert kept["answered_at"] is None
    assert attempt.token not in str(kept)


def test_begin_moves_intent_and_transfer_and_watches_it(shop: Shop, books: Books) -> None:
    attempt = shop.send(shop.new_intent())

    assert books.intent(attempt.intent_id)["status"] == "processing"
    assert books.transfer(attempt.transfer_id)["state"] == "SUBMITTED"
    (watch,) = books.watches(attempt.transfer_id)
    assert (watch["horizon_at"] - watch["due_at"]).total_seconds() == 86_400 - 60
    assert books.timeline(attempt.intent_id) == [
        "payment_intent.created",
        "payment_intent.processing",
        "transfer.initiated",
        "transfer.submitted",
    ]


def test_an_accepted_push_shows_the_payer_what_to_do(shop: Shop) -> None:
    attempt = shop.send(shop.new_intent())

    answer = shop.record(attempt)

    assert answer.status == 200
    assert answer.body["next_action"]["type"] == "approve_on_phone"
    assert answer.body["next_action"]["phone"] == "+254*****678"
    assert answer.body["latest_transfer"]["state"] == "ACCEPTED"


def test_confirm_replays_its_answer_and_sends_nothing(shop: Shop, books: Books) -> None:
    intent_id, key = shop.new_intent(), new_key()
    answer = shop.record(shop.send(intent_id, idempotency_key=key))

    again = shop.begin(intent_id, idempotency_key=key)

    assert again["instruction"] is None
    assert Answer.of(again["answer"]).body == answer.body
    assert again["answer"]["headers"]["Idempotent-Replayed"] == "true"
    assert (
        books.value(
            "select count(*) from payments.transfers where payment_intent_id = %s", intent_id
        )
        == 1
    )


def test_confirm_with_another_body_under_the_same_key_is_refused(shop: Shop) -> None:
    intent_id, key = shop.new_intent(), new_key()
    shop.record(shop.send(intent_id, idempotency_key=key))

    with pytest.raises(Refused) as refused:
        shop.begin(intent_id, idempotency_key=key, body_hash="another phone")

    assert refused.value.code == "42241"


def test_one_confirm_key_does_not_speak_for_another_intent(shop: Shop) -> None:
    key = new_key()
    shop.record(shop.send(shop.new_intent(), idempotency_key=key))

    with pytest.raises(Refused) as refused:
        shop.begin(shop.new_intent(), idempotency_key=key)

    assert refused.value.code == "42241"


def test_a_confirm_whose_twin_still_runs_is_told_when_to_come_back(shop: Shop) -> None:
    intent_id, key = shop.new_intent(), new_key()
    shop.send(intent_id, idempotency_key=key)

    with pytest.raises(Refused) as refused:
        shop.begin(intent_id, idempotency_key=key)

    assert refused.value.code == "40904"
    assert 1 <= refused.value.extras["retry_after"] <= 60


def test_a_confirm_whose_first_request_died_gets_the_intent_as_it_stands(
    shop: Shop, books: Books
) -> None:
    intent_id, key = shop.new_intent(), new_key()
    attempt = shop.send(intent_id, idempotency_key=key)
    books.run(
        "update public.idempotency_keys set claimed_at = now() - interval '61 seconds'"
        " where tenant_id = %s and route = %s",
        shop.tenant_id,
        CONFIRM,
    )

    again = shop.begin(intent_id, idempotency_key=key)

    answer = Answer.of(again["answer"])
    assert again["instruction"] is None
    assert answer.status == 200
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert answer.body["status"] == "processing"
    assert answer.body["latest_transfer"]["id"] == attempt.transfer_id


def test_a_running_attempt_refuses_a_second_one(shop: Shop) -> None:
    attempt = shop.attempt()

    with pytest.raises(Refused) as refused:
        shop.begin(attempt.intent_id)

    assert refused.value.code == "40911"
    assert refused.value.extras["current_state"] == "processing"


def test_a_refused_confirm_does_not_use_up_its_key(shop: Shop, books: Books) -> None:
    books.run("delete from rails.credentials where tenant_id = %s", shop.tenant_id)
    intent_id, key = shop.new_intent(), new_key()

    with pytest.raises(Refused) as refused:
        shop.begin(intent_id, idempotency_key=key)

    assert refused.value.code == "42260"
    assert "PUT /functions/v1/merchants/credentials/mpesa" in refused.value.message
    assert (
        books.column(
            "select key from public.idempotency_keys where tenant_id = %s and route = %s",
            shop.tenant_id,
            CONFIRM,
        )
        == []
    )
    assert shop.get(intent_id)["status"] == "requires_payment_method"


def test_begin_refuses_a_rail_the_intent_does_not_list(shop: Shop) -> None:
    with pytest.raises(Refused) as refused:
        shop.begin(shop.new_intent(), rail="ecocash")

    assert refused.value.code == "42261"
    assert refused.value.extras["errors"][0]["pointer"] == "/payment_method/type"


def test_begin_refuses_a_rail_that_was_switched_off_meanwhile(shop: Shop, books: Books) -> None:
    intent_id = shop.new_intent()
    books.run("update rails.rails set enabled = false where rail = 'mpesa'")

    try:
        with pytest.raises(Refused) as refused:
            shop.begin(intent_id)
    finally:
        books.run("update rails.rails set enabled = true where rail = 'mpesa'")

    assert refused.value.code == "42261"


def test_an_intent_past_its_time_takes_no_attempt_before_cron_says_so(
    shop: Shop, books: Books
) -> None:
    intent_id = shop.new_intent()
    books.run(
        "update payments.payment_intents set expires_at = now() where payment_intent_id = %s",
        intent_id,
    )

    with pytest.raises(Refused) as refused:
        shop.begin(intent_id)

    assert refused.value.code == "40911"
    assert refused.value.extras == {"current_state": "expired", "allowed": []}


def test_a_push_that_was_refused_returns_the_intent_with_its_error(
    shop: Shop, books: Books
) -> None:
    attempt = shop.send(shop.new_intent())
    event = accepted(attempt.rail_ref) | {
        "outcome": "failed_final",
        "rail_ref": None,
        "code": "400.002.02",
        "reason": None,
    }

    answer = shop.record(attempt, event)

    assert answer.body["status"] == "requires_payment_method"
    assert answer.body["last_error"] == {
        "code": "MERCHANT_CONFIGURATION",
        "message": "A field of the request is invalid",
        "rail_code": "400.002.02",
        "retryable": False,
        "retry_after": None,
    }
    assert books.watches(attempt.transfer_id) == []


def test_a_push_refused_for_the_phone_says_so_in_the_payers_words(shop: Shop) -> None:
    attempt = shop.send(shop.new_intent())
    event = stk.read_push(
        400, b'{"errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid PhoneNumber"}'
    )

    answer = shop.record(attempt, dict(event.to_json()))

    assert answer.body["last_error"]["code"] == "MM_MSISDN_INVALID"
    assert answer.body["last_error"]["message"] == "The payer's number is not accepted"
    assert answer.body["last_error"]["retryable"] is True


def test_a_silent_rail_leaves_the_attempt_open(shop: Shop, books: Books) -> None:
    attempt = shop.send(shop.new_intent())

    answer = shop.record(attempt, silent())

    assert answer.body["status"] == "processing"
    assert answer.body["last_error"] is None
    assert books.transfer(attempt.transfer_id)["state"] == "SUBMITTED"
    assert len(books.watches(attempt.transfer_id)) == 1
    assert (
        books.value(
            "select outcome from payments.attempts where transfer_id = %s", attempt.transfer_id
        )
        == "unknown"
    )


def test_the_error_of_a_failed_attempt_stays_until_the_next_one_starts(
    shop: Shop, rail: Rail
) -> None:
    attempt = shop.attempt()
    rail.call_back(attempt, attempt.told("1"))
    failed = shop.get(attempt.intent_id)

    shop.retry(attempt.intent_id)

    assert failed["last_error"]["code"] == "MM_INSUFFICIENT_FUNDS"
    assert failed["last_error"]["retryable"] is True
    assert shop.get(attempt.intent_id)["last_error"] is None


def test_release_frees_the_key_and_leaves_the_intent_unharmed(shop: Shop, books: Books) -> None:
    attempt = shop.send(shop.new_intent())

    shop.release(attempt)

    resource = shop.get(attempt.intent_id)
    assert resource["status"] == "requires_payment_method"
    assert resource["last_error"]["code"] == "RAIL_UNAVAILABLE"
    assert resource["last_error"]["retry_after"] == 30
    assert books.transfer(attempt.transfer_id)["state"] == "FAILED"
    assert books.watches(attempt.transfer_id) == []
    again = shop.send(attempt.intent_id, idempotency_key=attempt.key)
    assert again.transfer_id != attempt.transfer_id


def test_release_after_a_callback_came_changes_no_success(
    shop: Shop, rail: Rail, books: Books
) -> None:
    attempt = shop.send(shop.new_intent())
    rail.call_back(attempt, attempt.paid())

    shop.release(attempt)

    assert shop.get(attempt.intent_id)["status"] == "succeeded"
    assert books.transfer(attempt.transfer_id)["state"] == "SETTLED"


@pytest.mark.parametrize("function", ["record", "release"])
def test_the_rails_answer_is_taken_from_the_holder_of_the_callback_token_alone(
    shop: Shop, books: Books, function: str
) -> None:
    attempt, other = shop.send(shop.new_intent()), shop.send(shop.new_intent())

    with pytest.raises(Refused) as refused:
        getattr(shop, function)(replace(attempt, token=other.token))

    assert refused.value.code == "40401"
    assert books.transfer(attempt.transfer_id)["state"] == "SUBMITTED"
