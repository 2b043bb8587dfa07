"""Who may do what with an intent: tenants, environments, scopes, payers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from scripts.stack.database import Databases
from tests.sql.payments.shop import FUNCTION, PAYER, Answer, Attempt, Shop, accepted, new_key
from tests.support.sql import Api, Books, Headers, Refused, Row, digest

SCOPES = {
    "payments.create_intent": "payments:write",
    "payments.get_intent": "payments:read",
    "payments.list_intents": "payments:read",
    "payments.update_intent": "payments:write",
    "payments.cancel_intent": "payments:write",
    "payments.list_intent_events": "payments:read",
    "payments.begin_transfer": "payments:write",
    "payments.ask_rail": "payments:write",
    "payments.issue_stream_token": "payments:read",
    "payments.open_stream": "payments:read",
}
# They follow a call above in the same request, or carry a right of their own.
WITHOUT_SCOPE = {
    "payments.record_submission",
    "payments.release_submission",
    "payments.record_query",
    "payments.read_streams",
}
# The callback token, which only the function that was handed the instruction knows, is their right:
# what the rail answered is kept even when the key was revoked meanwhile.
BY_CALLBACK_TOKEN = {"payments.record_submission", "payments.release_submission"}
BY_CREDENTIAL = sorted({*SCOPES, *WITHOUT_SCOPE} - BY_CALLBACK_TOKEN - {"payments.read_streams"})


def arguments(function: str, attempt: Attempt) -> Row:
    """Arguments with which the function succeeds for the attempt's owner, or nearly."""
    intent: Row = {"payment_intent_id": attempt.intent_id}
    claim: Row = {"idempotency_key": new_key(), "body_hash": "body"}
    transfer: Row = {"transfer_id": attempt.transfer_id}
    token: Row = {"callback_token_hash": digest(attempt.token)}
    known: dict[str, Row] = {
        "payments.create_intent": {
            **claim,
            "amount_minor": 10_000,
            "currency": "KES",
            "payment_method_types": ["mpesa"],
            "description": None,
            "customer": None,
            "customer_sealed": None,
            "metadata": {},
            "return_url": None,
            "expires_in_s": 3600,
        },
        "payments.get_intent": intent,
        "payments.list_intents": {"filters": {}, "page_size": 10, "page_after": None},
        "payments.update_intent": intent | {"patch": {"description": "changed"}},
        "payments.cancel_intent": intent | claim | {"reason": None},
        "payments.list_intent_events": intent | {"after_position": 0},
        "payments.begin_transfer": intent | claim | {"rail": "mpesa"} | PAYER,
        "payments.record_submission": transfer
        | token
        | {"idempotency_key": attempt.key, "event": accepted(attempt.rail_ref)},
        "payments.release_submission": transfer
        | token
        | {"idempotency_key": attempt.key, "reason": "refused", "retry_after": 1},
        "payments.ask_rail": intent,
        "payments.record_query": transfer | {"event": attempt.answered("0")},
        "payments.issue_stream_token": intent,
        "payments.open_stream": intent | {"token_hash": None},
        "payments.read_streams": {"cursors": {}},
    }
    return known[function]


@dataclass(frozen=True)
class House:
    """One attempt, its owner and everybody who is not its owner."""

    owner: Shop
    attempt: Attempt
    strangers: dict[str, Shop]


@pytest.fixture
def house(shop: Shop, api: Api, books: Books) -> House:
    other_environment = Shop(api, books, shop.tenant_id, "production").open()
    return House(
        shop,
        shop.send(shop.new_intent()),
        {"other tenant": Shop(api, books).open(), "other environment": other_environment},
    )


def functions_of(books: Books, *argument_names: str) -> list[str]:
    """What fn_payment_intents may execute and takes one of these arguments."""
    return books.column(
        "select p.oid::regproc::text from pg_catalog.pg_proc as p"
        " where p.proargnames && %s"
        " and exists (select from aclexplode(p.proacl) as a"
        "  where a.grantee = %s::regrole and a.privilege_type = 'EXECUTE')"
        " order by 1",
        list(argument_names),
        FUNCTION,
    )


def snapshot(books: Books, attempt: Attempt) -> tuple[Row, Row, list[str]]:
    """All that a stranger must not change."""
    return (
        books.intent(attempt.intent_id),
        books.transfer(attempt.transfer_id),
        books.timeline(attempt.intent_id),
    )


@pytest.mark.parametrize("who", ["other tenant", "other environment"])
@pytest.mark.parametrize("function", sorted({*SCOPES, *WITHOUT_SCOPE}))
def test_an_id_of_somebody_else_does_not_exist(
    house: House, books: Books, function: str, who: str
) -> None:
    given = arguments(function, house.attempt)
    if function in BY_CALLBACK_TOKEN:
        own = house.strangers[who].attempt()
        given["callback_token_hash"] = digest(own.token)
    is_about_one = bool({"payment_intent_id", "transfer_id"} & given.keys())
    before = snapshot(books, house.attempt)

    outcome = refusal(lambda: house.strangers[who].call(function, **given))

    assert outcome == ("40401" if is_about_one else None)
    assert snapshot(books, house.attempt) == before


def test_every_function_that_takes_an_id_is_tried_with_somebody_elses(books: Books) -> None:
    tried = {*SCOPES, *WITHOUT_SCOPE} - {
        "payments.create_intent",
        "payments.list_intents",
        "payments.read_streams",
    }

    assert functions_of(books, "payment_intent_id", "transfer_id") == sorted(tried)


@pytest.mark.parametrize("who", ["other tenant", "other environment"])
def test_a_list_shows_the_own_rows_alone(house: House, who: str) -> None:
    stranger = house.strangers[who]
    mine = stranger.new_intent()

    listed = Answer.of(
        stranger.call("payments.list_intents", filters={}, page_size=100, page_after=None)
    ).body

    assert [intent["id"] for intent in listed["data"]] == [mine]


@pytest.mark.parametrize(("function", "scope"), SCOPES.items())
def test_a_function_needs_its_scope_and_names_it(house: House, function: str, scope: str) -> None:
    other = {"payments:read": "payments:write", "payments:write": "payments:read"}[scope]
    key = house.owner.add_key("narrow", [other, "reports:read"])

    with pytest.raises(Refused) as refused:
        house.owner.call(function, key, **arguments(function, house.attempt))

    assert refused.value.code == "40311"
    assert scope in refused.value.message


@pytest.mark.parametrize(("function", "scope"), SCOPES.items())
def test_the_scope_is_enough(house: House, function: str, scope: str) -> None:
    key = house.owner.add_key("narrow", [scope])

    outcome = refusal(lambda: house.owner.call(function, key, **arguments(function, house.attempt)))

    # An attempt is running: some moves are not allowed now, but none for want of a scope.
    assert outcome in {None, "40911"}


@pytest.mark.parametrize("function", BY_CREDENTIAL)
def test_nobody_gets_nothing(house: House, books: Books, function: str) -> None:
    before = snapshot(books, house.attempt)

    outcome = refusal(
        lambda: house.owner.call(
            function, {"x-request-id": "1"}, **arguments(function, house.attempt)
        )
    )

    assert outcome == "40101"
    assert snapshot(books, house.attempt) == before


@pytest.mark.parametrize("function", BY_CREDENTIAL)
def test_a_revoked_key_gets_nothing(house: House, function: str) -> None:
    key = house.owner.add_key("gone", ["*"], status="revoked")

    outcome = refusal(lambda: house.owner.call(function, key, **arguments(function, house.attempt)))

    assert outcome == "40102"


def test_what_the_rail_answered_is_kept_although_the_key_was_revoked_meanwhile(
    house: House, books: Books
) -> None:
    gone = house.owner.add_key("gone", ["*"], status="revoked")

    house.owner.call(
        "payments.record_submission", gone, **arguments("payments.record_submission", house.attempt)
    )

    transfer = books.transfer(house.attempt.transfer_id)
    assert (transfer["state"], transfer["rail_ref"]) == ("ACCEPTED", house.attempt.rail_ref)


def test_a_payer_may_confirm_and_watch_one_intent(shop: Shop) -> None:
    created = shop.create().body
    payer = shop.payer(created["client_secret"])

    begun = shop.begin(created["id"], payer)
    seen = Answer.of(shop.call("payments.get_intent", payer, payment_intent_id=created["id"]))
    told = Answer.of(
        shop.call(
            "payments.list_intent_events", payer, payment_intent_id=created["id"], after_position=0
        )
    )

    assert begun["instruction"] is not None
    assert seen.body["status"] == "processing"
    assert seen.body["client_secret"] is None
    assert len(told.body["data"]) == 4


def test_the_answer_to_a_payers_confirm_hides_the_client_secret(shop: Shop) -> None:
    created = shop.create().body
    payer = shop.payer(created["client_secret"])
    order = shop.begin(created["id"], payer, idempotency_key="k1")["instruction"]

    answer = shop.call(
        "payments.record_submission",
        payer,
        transfer_id=order["transfer_id"],
        callback_token_hash=digest(order["callback_token"]),
        idempotency_key="k1",
        event=accepted("ws_CO_payer_" + created["id"]),
    )
    replayed = shop.begin(created["id"], payer, idempotency_key="k1")["answer"]

    assert Answer.of(answer).body["client_secret"] is None
    assert Answer.of(replayed).body["client_secret"] is None


@pytest.mark.parametrize(
    "function", ["payments.get_intent", "payments.begin_transfer", "payments.list_intent_events"]
)
def test_a_client_secret_opens_no_other_intent(shop: Shop, function: str) -> None:
    attempt = shop.attempt()
    payer = shop.payer(shop.create().body["client_secret"])

    outcome = refusal(lambda: shop.call(function, payer, **arguments(function, attempt)))

    assert outcome == "40401"


def test_a_client_secret_needs_a_key_of_its_own_tenant(shop: Shop, api: Api, books: Books) -> None:
    created = shop.create().body
    neighbour = Shop(api, books).open()

    outcome = refusal(
        lambda: neighbour.call(
            "payments.get_intent",
            neighbour.payer(created["client_secret"]),
            payment_intent_id=created["id"],
        )
    )

    assert outcome == "40401"


@pytest.mark.parametrize(
    "function",
    [
        "payments.create_intent",
        "payments.list_intents",
        "payments.update_intent",
        "payments.cancel_intent",
        "payments.ask_rail",
    ],
)
def test_a_payer_may_do_nothing_else(shop: Shop, books: Books, function: str) -> None:
    created = shop.create().body
    attempt = replace(shop.attempt(), intent_id=created["id"])
    payer = shop.payer(created["client_secret"])
    before = books.intent(created["id"])

    outcome = refusal(lambda: shop.call(function, payer, **arguments(function, attempt)))

    assert outcome == "40311"
    assert books.intent(created["id"]) == before


def test_a_publishable_key_without_a_client_secret_sees_nothing(shop: Shop) -> None:
    attempt = shop.attempt()
    key: Headers = {"x-stalela-key-hash": shop.payer("")["x-stalela-key-hash"]}

    outcome = refusal(
        lambda: shop.call("payments.get_intent", key, payment_intent_id=attempt.intent_id)
    )

    assert outcome == "40311"


def test_the_functions_may_call_only_what_they_were_granted(shop: Shop, api: Api) -> None:
    attempt = shop.attempt()

    with pytest.raises(Exception, match="permission denied for function receive_callback"):
        api.call(
            FUNCTION,
            {},
            "rails.receive_callback",
            rail="mpesa",
            token_hash="x",
            source_address="",
            source_trusted=True,
            headers={},
            body_sealed="",
            body_hash="",
            events=[attempt.paid()],
            problem=None,
        )


def test_expire_ends_what_is_unpaid_and_leaves_what_is_running(databases: Databases) -> None:
    with databases.fresh_database() as database, Api(database) as api, Books(database) as books:
        shop = Shop(api, books).open()
        unpaid, running, young = shop.new_intent(), shop.attempt().intent_id, shop.new_intent()
        books.run(
            "update payments.payment_intents set expires_at = now()"
            " where payment_intent_id = any(%s)",
            [unpaid, running],
        )

        expired = [books.value("select payments.expire_intents()") for _ in range(2)]

        assert expired == [1, 0]
        assert shop.get(unpaid)["status"] == "expired"
        assert shop.get(running)["status"] == "processing"
        assert shop.get(young)["status"] == "requires_payment_method"
        assert books.timeline(unpaid)[-1] == "payment_intent.expired"


def refusal(action: Callable[[], Any]) -> str | None:
    """The code with which SQL refuses, None when it does not."""
    try:
        action()
    except Refused as refused:
        return refused.code
    return None
