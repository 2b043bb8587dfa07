"""payments.create_intent and the readers of one intent."""

from typing import Any

import psycopg
import pytest

from tests.sql.payments.shop import Answer, Shop, new_key
from tests.support.sql import Api, Books, Refused


def test_create_answers_201_with_the_new_intent(shop: Shop) -> None:
    answer = shop.create(amount_minor=150_000, metadata={"order": "20418"})

    assert answer.status == 201
    assert answer.body["status"] == "requires_payment_method"
    assert answer.body["amount"] == "1500.00"
    assert answer.body["amount_received"] == "0.00"
    assert answer.body["metadata"] == {"order": "20418"}
    assert answer.body["client_secret"].startswith("pics_")
    assert answer.body["latest_transfer"] is None


def test_create_writes_its_event_in_the_same_transaction(shop: Shop, books: Books) -> None:
    intent_id = shop.new_intent()

    written = books.rows(
        "select i.xmin = e.xmin as together, e.seq, e.type, e.payload"
        " from payments.payment_intents as i"
        " inner join payments.intent_events as e using (payment_intent_id)"
        " where payment_intent_id = %s",
        intent_id,
    )
    assert [(row["together"], row["seq"], row["type"]) for row in written] == [
        (True, 0, "payment_intent.created")
    ]
    assert written[0]["payload"] == {
        "status": "requires_payment_method",
        "amount": "100.00",
        "currency": "KES",
    }


def test_create_replays_the_first_answer_byte_for_byte(shop: Shop, books: Books) -> None:
    first = shop.create(idempotency_key="k1")
    shop.call("payments.update_intent", payment_intent_id=first.body["id"], patch={"metadata": {}})

    again = shop.create(idempotency_key="k1")

    assert (again.status, again.body) == (first.status, first.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    assert (
        books.value(
            "select count(*) from payments.payment_intents where tenant_id = %s", shop.tenant_id
        )
        == 1
    )


def test_create_refuses_another_body_under_the_same_key(shop: Shop) -> None:
    shop.create(idempotency_key="k1", body_hash="one")

    with pytest.raises(Refused) as refused:
        shop.create(idempotency_key="k1", body_hash="two")

    assert refused.value.code == "42241"


def test_a_refused_creation_does_not_use_up_its_key(shop: Shop) -> None:
    with pytest.raises(Refused):
        shop.create(idempotency_key="k1", amount_minor=150)

    assert shop.create(idempotency_key="k1").status == 201


def test_the_same_key_of_another_tenant_is_another_key(shop: Shop, api: Api, books: Books) -> None:
    neighbour = Shop(api, books).open()

    first = shop.create(idempotency_key="k1")
    second = neighbour.create(idempotency_key="k1")

    assert first.body["id"] != second.body["id"]
    assert "Idempotent-Replayed" not in second.headers


@pytest.mark.parametrize(
    ("changes", "code", "pointer", "detail"),
    [
        ({"amount_minor": 10_050}, "42251", "/amount", "M-Pesa takes whole shillings"),
        ({"amount_minor": 25_000_100}, "42251", "/amount", "M-Pesa takes 1.00 to 250000.00 KES"),
        ({"currency": "USD"}, "42251", "/currency", "M-Pesa takes KES"),
        (
            {"payment_method_types": ["mpesa", "shells"]},
            "42261",
            "/payment_method_types",
            "must be among: mpesa",
        ),
    ],
)
def test_create_names_the_field_that_no_rail_takes(
    shop: Shop, changes: dict[str, Any], code: str, pointer: str, detail: str
) -> None:
    with pytest.raises(Refused) as refused:
        shop.create(**{"amount_minor": 10_000, **changes})

    assert refused.value.code == code
    assert refused.value.extras["errors"] == [{"pointer": pointer, "detail": detail}]


def test_a_rail_that_was_switched_off_takes_no_new_intent(shop: Shop, books: Books) -> None:
    books.run("update rails.rails set enabled = false where rail = 'mpesa'")

    try:
        with pytest.raises(Refused) as refused:
            shop.create()
    finally:
        books.run("update rails.rails set enabled = true where rail = 'mpesa'")

    assert refused.value.code == "42261"


def test_an_intent_that_claims_success_without_money_cannot_be_written(
    shop: Shop, books: Books
) -> None:
    intent_id = shop.new_intent()

    with pytest.raises(psycopg.errors.CheckViolation):
        books.run(
            "update payments.payment_intents set status = 'succeeded' where payment_intent_id = %s",
            intent_id,
        )


def test_an_intent_never_has_two_open_transfers_whoever_writes(shop: Shop, books: Books) -> None:
    attempt = shop.attempt()

    with pytest.raises(psycopg.errors.UniqueViolation, match="transfers_one_open_per_intent"):
        books.run(
            "insert into payments.transfers (transfer_id, tenant_id, environment,"
            " payment_intent_id, intent, rail, state, amount_minor, currency, payer_sealed,"
            " payer_masked, payer_hash)"
            " select 'tr_second', tenant_id, environment, payment_intent_id, intent, rail,"
            " 'INITIATED', amount_minor, currency, payer_sealed, payer_masked, payer_hash"
            " from payments.transfers where transfer_id = %s",
            attempt.transfer_id,
        )


def test_update_merges_metadata_and_null_deletes(shop: Shop) -> None:
    intent_id = shop.new_intent(metadata={"order": "1", "table": "7"})

    answer = Answer.of(
        shop.call(
            "payments.update_intent",
            payment_intent_id=intent_id,
            patch={"description": "Lunch", "metadata": {"table": None, "waiter": "A"}},
        )
    )

    assert answer.body["description"] == "Lunch"
    assert answer.body["metadata"] == {"order": "1", "waiter": "A"}


def test_update_without_description_leaves_it(shop: Shop) -> None:
    intent_id = shop.new_intent(description="Lunch")

    answer = Answer.of(
        shop.call(
            "payments.update_intent", payment_intent_id=intent_id, patch={"metadata": {"a": "b"}}
        )
    )

    assert answer.body["description"] == "Lunch"


def test_update_refuses_a_fifty_first_metadata_key(shop: Shop) -> None:
    intent_id = shop.new_intent(metadata={f"key{number}": "" for number in range(50)})

    with pytest.raises(Refused) as refused:
        shop.call(
            "payments.update_intent", payment_intent_id=intent_id, patch={"metadata": {"more": ""}}
        )

    assert refused.value.code == "42262"
    assert refused.value.extras["errors"][0]["pointer"] == "/metadata"
    assert len(shop.get(intent_id)["metadata"]) == 50


def test_update_is_refused_once_an_attempt_runs(shop: Shop) -> None:
    attempt = shop.attempt()

    with pytest.raises(Refused) as refused:
        shop.call(
            "payments.update_intent",
            payment_intent_id=attempt.intent_id,
            patch={"description": "late"},
        )

    assert refused.value.code == "40911"
    assert refused.value.extras == {"current_state": "processing", "allowed": []}


def test_cancel_ends_an_intent_and_replays(shop: Shop, books: Books) -> None:
    intent_id, key = shop.new_intent(), new_key()

    first = shop.cancel(intent_id, idempotency_key=key)
    again = shop.cancel(intent_id, idempotency_key=key)

    assert first.body["status"] == "canceled"
    assert first.body["cancellation_reason"] == "requested_by_customer"
    assert first.body["canceled_at"] is not None
    assert again.body == first.body
    assert books.timeline(intent_id) == ["payment_intent.created", "payment_intent.canceled"]


def test_one_cancel_key_does_not_speak_for_another_intent(shop: Shop) -> None:
    shop.cancel(shop.new_intent(), idempotency_key="k1")

    with pytest.raises(Refused) as refused:
        shop.cancel(shop.new_intent(), idempotency_key="k1")

    assert refused.value.code == "42241"


def test_cancel_names_current_state_and_allowed_moves(shop: Shop) -> None:
    attempt = shop.attempt()

    with pytest.raises(Refused) as refused:
        shop.cancel(attempt.intent_id)

    assert refused.value.code == "40911"
    assert refused.value.extras == {"current_state": "processing", "allowed": []}


def test_a_canceled_intent_takes_no_attempt(shop: Shop) -> None:
    intent_id = shop.new_intent()
    shop.cancel(intent_id)

    with pytest.raises(Refused) as refused:
        shop.begin(intent_id)

    assert refused.value.extras == {"current_state": "canceled", "allowed": []}
