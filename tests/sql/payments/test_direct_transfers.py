"""Direct transfers: the canonical form without an intent around it."""

from typing import Any

import pytest

from tests.sql.payments.moves import PAYEE, Desk, Move, moving
from tests.sql.payments.shop import PAYER, Answer, Shop, new_key
from tests.sql.rails.rail import Rail
from tests.support.sql import Books, Headers, Refused, Row

NOBODY = {"payer_sealed": None, "payer_masked": None, "payer_hash": None}


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)


def begin(desk: Desk, intent: str = "PULL", headers: Headers | None = None, **changes: Any) -> Row:
    """POST /transfers up to the rail."""
    payee = dict.fromkeys(PAYEE)
    parties = NOBODY | PAYEE if intent == "PUSH" else PAYER | payee
    arguments: Row = {
        "idempotency_key": new_key(),
        "body_hash": "hash",
        "intent": intent,
        "rail": "mpesa",
        "amount_minor": 25_000,
        "currency": "KES",
        **parties,
        "description": None,
        "external_ref": None,
        "end_user_ref": None,
        "metadata": {},
    }
    return dict(desk.call("fn_transfers", "payments.begin_direct", headers, **arguments | changes))


def started(desk: Desk, intent: str = "PULL", **changes: Any) -> Move:
    key = changes.setdefault("idempotency_key", new_key())
    return moving(begin(desk, intent, **changes), key)


def get(desk: Desk, transfer_id: str) -> Row:
    return Answer.of(
        desk.call("fn_transfers", "payments.get_transfer", transfer_id=transfer_id)
    ).body


def listed(desk: Desk, purposes: list[str] | None = None, **filters: Any) -> list[str]:
    body = Answer.of(
        desk.call(
            "fn_transfers",
            "payments.list_transfers",
            purposes=purposes,
            filters=filters,
            page_size=50,
            page_after=None,
        )
    ).body
    return [one["id"] for one in body["data"]]


def test_a_pull_asks_the_payer_and_settles_without_any_intent(
    desk: Desk, rail: Rail, books: Books
) -> None:
    transfer = started(desk, end_user_ref="C-77", metadata={"till": "4"})
    answer = desk.record(transfer)

    rail.call_back(transfer, transfer.paid(channel="stk"))

    assert transfer.instruction["operation"] == "collect"
    assert (answer.status, answer.body["object"], answer.body["state"]) == (
        201,
        "transfer",
        "ACCEPTED",
    )
    shown = get(desk, transfer.transfer_id)
    assert (shown["state"], shown["purpose"], shown["payment_intent"]) == (
        "SETTLED",
        "direct",
        None,
    )
    assert (shown["end_user_ref"], shown["metadata"]) == ("C-77", {"till": "4"})
    assert [event["type"] for event in shown["events"]] == [
        "transfer.initiated",
        "transfer.submitted",
        "transfer.accepted",
        "transfer.settled",
    ]
    assert [event["seq"] for event in shown["events"]] == [0, 1, 2, 3]


def test_a_push_pays_out_and_needs_the_right_to(desk: Desk) -> None:
    headers = desk.shop.add_key("till", ["payments:write"])

    transfer = started(desk, "PUSH")

    assert transfer.instruction["operation"] == "pay_out"
    with pytest.raises(Refused, match="payouts:write"):
        begin(desk, "PUSH", headers)


def test_a_large_push_waits_for_a_second_person(desk: Desk) -> None:
    waiting = Answer.of(begin(desk, "PUSH", amount_minor=5_000_100)["answer"])

    approved = desk.decide(waiting.body["id"], desk.person(), purpose="direct")

    assert (waiting.status, waiting.body["approval"]) == (202, "pending")
    assert approved["instruction"]["operation"] == "pay_out"


@pytest.mark.parametrize("intent", ["AUTH", "CAPTURE"])
def test_what_a_rail_cannot_do_is_refused_by_name(desk: Desk, intent: str) -> None:
    with pytest.raises(Refused) as refused:
        begin(desk, intent)

    assert refused.value.code == "42261"
    assert refused.value.message == f"intent: M-Pesa has no {intent}: it takes PUSH, PULL."


def test_an_external_ref_names_one_transfer(desk: Desk) -> None:
    first = started(desk, external_ref="till-4-77")

    with pytest.raises(Refused) as refused:
        begin(desk, external_ref="till-4-77")

    assert (refused.value.code, refused.value.extras["transfer_id"]) == ("40903", first.transfer_id)


def test_a_direct_payment_can_go_back(desk: Desk, rail: Rail, books: Books) -> None:
    transfer = started(desk)
    desk.record(transfer)
    rail.call_back(transfer, transfer.paid(channel="stk"))

    refund = desk.refund(transfer_id=transfer.transfer_id, amount_minor=10_000)

    assert refund.instruction["operation"] == "pay_out"
    assert "payee_context" not in refund.instruction
    assert books.transfer(refund.transfer_id)["payment_intent_id"] is None


def test_what_was_paid_out_has_nothing_to_give_back(desk: Desk, rail: Rail) -> None:
    transfer = started(desk, "PUSH")
    desk.record(transfer)
    rail.call_back(transfer, transfer.paid(), kind="result")

    with pytest.raises(Refused, match="40911"):
        desk.begin_refund(transfer_id=transfer.transfer_id)


def test_the_list_holds_every_purpose_and_filters_by_each_member(desk: Desk, rail: Rail) -> None:
    intent_id, collected = desk.paid_intent(rail)
    refund = desk.refund(payment_intent_id=intent_id, amount_minor=2_000).transfer_id
    payout = desk.payout(external_ref="p-1").transfer_id
    pull = started(desk, end_user_ref="C-9").transfer_id

    assert listed(desk) == [pull, payout, refund, collected]
    assert listed(desk, ["refund", "payout"]) == [payout, refund]
    assert listed(desk, state=["SETTLED"]) == [collected]
    assert listed(desk, intent=["PUSH"]) == [payout, refund]
    assert listed(desk, rail=["ecocash"]) == []
    assert listed(desk, payment_intent=intent_id) == [refund, collected]
    assert listed(desk, transfer=collected) == [refund]
    assert listed(desk, external_ref="p-1") == [payout]
    assert listed(desk, end_user_ref="C-9") == [pull]
    assert listed(desk, created_before="2020-01-01T00:00:00Z") == []
    assert listed(desk, updated_after="2020-01-01T00:00:00Z") == [pull, payout, refund, collected]


def test_a_transfer_of_somebody_else_looks_like_none(desk: Desk, books: Books) -> None:
    transfer = started(desk)
    other = Desk(Shop(desk.shop.api, books).open())

    with pytest.raises(Refused, match="40401"):
        get(other, transfer.transfer_id)
    assert listed(other) == []


def test_its_events_can_be_read_from_a_number_on(desk: Desk) -> None:
    transfer = started(desk)

    events = Answer.of(
        desk.call(
            "fn_transfers",
            "payments.list_transfer_events",
            transfer_id=transfer.transfer_id,
            after_seq=0,
        )
    ).body["data"]

    assert [event["type"] for event in events] == ["transfer.submitted"]
    assert events[0]["data"]["purpose"] == "direct"
    assert events[0]["subject"] == transfer.transfer_id
