"""Many connections at the same moment: one effect, and nobody waits in vain."""

from collections import Counter
from functools import partial
from itertools import islice

import pytest

from scripts.stack.database import Database
from tests.sql.payments.shop import Answer, Attempt, Shop
from tests.sql.rails.rail import Rail
from tests.support.sql import Api, Books, Refused, Row, at_once, connections, digest


def tills(apis: list[Api], shop: Shop) -> list[Shop]:
    """The same shop at several connections."""
    return [Shop(api, shop.books, shop.tenant_id) for api in apis]


def settled_events(books: Books, attempt: Attempt) -> int:
    """How often the transfer was booked."""
    count: int = books.value(
        "select count(*) from payments.transfer_events"
        " where transfer_id = %s and type = 'transfer.settled'",
        attempt.transfer_id,
    )
    return count


def test_fifty_copies_of_a_callback_book_once(
    shop: Shop, books: Books, module_database: Database
) -> None:
    attempt = shop.attempt()

    with connections(module_database, 50) as apis:
        concluded = at_once([partial(Rail(api).call_back, attempt, attempt.paid()) for api in apis])

    assert Counter(row["disposition"] for row in concluded) == {"applied": 1, "duplicate": 49}
    assert settled_events(books, attempt) == 1
    assert books.intent(attempt.intent_id)["amount_received_minor"] == attempt.amount_minor
    assert (
        books.value(
            "select count(*) from rails.callbacks where transfer_id = %s", attempt.transfer_id
        )
        == 1
    )


def test_one_key_from_twenty_clients_creates_one_intent(
    shop: Shop, books: Books, module_database: Database
) -> None:
    with connections(module_database, 20) as apis:
        answers = at_once(
            [partial(till.create, idempotency_key="k1") for till in tills(apis, shop)]
        )

    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 19
    assert (
        books.value(
            "select count(*) from payments.payment_intents where tenant_id = %s", shop.tenant_id
        )
        == 1
    )


def test_twenty_confirmations_prompt_the_payer_once(
    shop: Shop, books: Books, module_database: Database
) -> None:
    intent_id = shop.new_intent()

    with connections(module_database, 20) as apis:
        begun = at_once([partial(till.begin, intent_id) for till in tills(apis, shop)])

    refused = [outcome for outcome in begun if isinstance(outcome, Refused)]
    assert [refusal.code for refusal in refused] == ["40911"] * 19
    assert (
        books.value(
            "select count(*) from payments.transfers where payment_intent_id = %s", intent_id
        )
        == 1
    )


def test_one_confirm_key_from_twenty_clients_prompts_the_payer_once(
    shop: Shop, books: Books, module_database: Database
) -> None:
    intent_id = shop.new_intent()

    with connections(module_database, 20) as apis:
        begun = at_once(
            [partial(till.begin, intent_id, idempotency_key="k1") for till in tills(apis, shop)]
        )

    refused = [outcome.code for outcome in begun if isinstance(outcome, Refused)]
    assert refused == ["40904"] * 19
    assert (
        books.value(
            "select count(*) from payments.transfers where payment_intent_id = %s", intent_id
        )
        == 1
    )


def test_one_receipt_claimed_by_ten_transfers_at_once_pays_for_one(
    shop: Shop, books: Books, module_database: Database
) -> None:
    attempts = [shop.attempt() for _ in range(10)]
    receipt = f"SHARED{shop.tenant_id}"

    with connections(module_database, 10) as apis:
        at_once(
            [
                partial(Rail(api).call_back, attempt, attempt.paid(receipt=receipt))
                for api, attempt in zip(apis, attempts, strict=True)
            ]
        )
    books.run("select rails.retry_failed_callbacks()")

    states = Counter(books.transfer(attempt.transfer_id)["state"] for attempt in attempts)
    reviewed = [books.transfer(attempt.transfer_id)["review_reason"] for attempt in attempts]
    assert states == {"SETTLED": 1, "ACCEPTED": 9}
    assert Counter(reviewed) == {"receipt_of_another_transfer": 9, None: 1}


def test_one_stream_token_opens_one_of_ten_streams(shop: Shop, module_database: Database) -> None:
    intent_id = shop.new_intent()
    issued = shop.call("payments.issue_stream_token", payment_intent_id=intent_id)
    token_hash = digest(Answer.of(issued).body["token"])

    with connections(module_database, 10) as apis:
        opened = at_once(
            [
                partial(
                    till.call,
                    "payments.open_stream",
                    payment_intent_id=intent_id,
                    token_hash=token_hash,
                )
                for till in tills(apis, shop)
            ]
        )

    assert sum(isinstance(outcome, Refused) for outcome in opened) == 9


def test_four_reconcilers_never_claim_the_same_transfer(
    shop: Shop, books: Books, module_database: Database
) -> None:
    attempts = [shop.attempt().transfer_id for _ in range(80)]
    books.run("update rails.watches set due_at = now() where transfer_id = any(%s)", attempts)

    with connections(module_database, 4) as apis:
        batches = at_once([partial(drain, Rail(api)) for api in apis])

    claimed = [work["transfer_id"] for batch in batches for work in batch]
    assert sorted(claimed) == sorted(attempts)
    assert sum(bool(batch) for batch in batches) > 1


def test_a_claim_skips_what_another_reconciler_holds(shop: Shop, books: Books, rail: Rail) -> None:
    held, free = shop.attempt(), shop.attempt()
    books.run(
        "update rails.watches set due_at = now() where transfer_id = any(%s)",
        [held.transfer_id, free.transfer_id],
    )

    with books.connection.transaction():
        books.run("select from rails.watches where transfer_id = %s for update", held.transfer_id)
        claimed = rail.claim()

    assert [work["transfer_id"] for work in claimed] == [free.transfer_id]


def drain(rail: Rail) -> list[Row]:
    """Claim in small batches until nothing is due, as the reconciler does."""
    # Bounded, so that a claim that leases nothing fails the test instead of hanging it.
    batches = iter(lambda: rail.claim(max_rows=5), [])
    return [work for batch in islice(batches, 40) for work in batch]


@pytest.fixture(autouse=True)
def nothing_else_due(books: Books) -> None:
    """Forget what earlier tests left to be asked about."""
    books.run("delete from rails.watches")
