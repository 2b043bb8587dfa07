"""Every fault a rail can be given (rails reference 1.4), end to end, and the two books afterwards.

Whatever Daraja does: a payer is prompted once per attempt, money is booked once and only when it
moved, and what cannot be decided waits in sight of a person.
"""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from scripts.stack.daraja.credentials import TILL
from tests.support.house import (
    SPEED,
    House,
    Merchant,
    at_once,
    new_key,
    own_house,
    percentile,
    spread,
)
from tests.support.simulator import Json, Tap, callback_body, msisdn, new_phone, until

Fault = dict[str, Any]

RAIL, STRANGER = "127.0.0.1/32", "127.0.0.66"  # addresses callbacks come from


def fault(kind: str, /, **fields: Any) -> Fault:
    return {"fault": kind, **fields}


PAYS = fault("pays", after_s=1)
PAYS_LATER = fault("pays", after_s=80)  # once a restarted simulator is back
LATER_S = 4000  # virtual: not before a test lets it come, see `later`
CANCELS = fault("fails", code="1032", after_s=1)
MUTE = fault("lost_callback")
NO_ANSWERS = (
    fault("lost_sync", how="502"),
    fault("lost_sync", how="empty"),
    fault("lost_sync", how="reset"),
    fault("garbage", at="push", kind="html"),
    fault("garbage", at="push", kind="truncated"),
    fault("garbage", at="push", kind="empty"),
)


@pytest.fixture(scope="module")
def tap() -> Iterator[Tap]:
    """Where production goes; shut until a test opens it."""
    tap = Tap()
    yield tap
    tap.seat.close()


@pytest.fixture(scope="module")
def house(tap: Tap) -> Iterator[House]:
    sources, url = [RAIL], tap.url
    with own_house("faults", callback_sources=sources, daraja_production_url=url) as house:
        yield house


@pytest.fixture
def merchant(house: House) -> Iterator[Merchant]:
    yield house.merchant()
    house.daraja.disarm()


def arm(house: House, *faults: Fault) -> str:
    """A phone that these faults wait for."""
    phone = new_phone()
    for each in faults:
        house.daraja.arm(each["fault"], phone=msisdn(phone), **_fields(each))
    return phone


def _fields(each: Fault) -> Fault:
    return {name: value for name, value in each.items() if name != "fault"}


def names(faults: object) -> str:
    """The id of a case."""
    parts = faults if isinstance(faults, tuple) else (faults,)
    return "+".join(
        "-".join(str(value) for value in part.values()) if isinstance(part, dict) else str(part)
        for part in parts
    )


def answers(callbacks: list[Json]) -> set[int]:
    return {callback["status"] for callback in callbacks}


# --- money moved, and a callback says so


@pytest.mark.parametrize(
    ("faults", "copies"),
    [
        ((PAYS,), 1),
        *[((PAYS, lost), 1) for lost in NO_ANSWERS],
        ((PAYS, fault("callback_first")), 1),
        ((PAYS, fault("callback_first"), fault("lost_sync")), 1),
        ((PAYS, fault("callback_first"), fault("lost_sync"), fault("duplicate_callback")), 5),
        ((PAYS, fault("slow", seconds=10)), 1),
        ((PAYS, fault("duplicate_callback", copies=2)), 2),
        ((PAYS, fault("duplicate_callback", copies=20)), 20),
        ((PAYS, fault("duplicate_callback", copies=5, concurrent=False)), 5),
        ((PAYS, fault("late_callback", after_s=20)), 1),
        ((PAYS_LATER, fault("restart", moment="before_answer")), 1),
        ((PAYS_LATER, fault("restart", moment="after_answer")), 1),
        ((PAYS, fault("token_expires", mid_flight=True)), 1),
        ((PAYS, fault("token_expires", mid_flight=True), fault("lost_sync")), 1),
        ((PAYS, fault("forged", how="token", after_s=0)), 2),
        ((PAYS, fault("forged", how="both", after_s=0)), 2),
    ],
    ids=names,
)
def test_paid_is_booked_once(
    house: House, merchant: Merchant, faults: tuple[Fault, ...], copies: int
) -> None:
    phone = arm(house, *faults)

    intent_id = merchant.start(phone)

    paid = merchant.wait(intent_id, "succeeded")
    assert answers(house.daraja.delivered(phone, copies)) == {200}
    assert merchant.differences() == []
    assert house.daraja.prompts(phone)[0]["receipt"] == paid["latest_transfer"]["receipt"]
    assert (paid["amount_received"], paid["last_error"]) == ("100.00", None)
    assert merchant.dispositions() == ["applied"]
    assert merchant.alerts() == []


def test_fifty_copies_at_once_are_booked_once(house: House, merchant: Merchant) -> None:
    phone = arm(house, PAYS, fault("duplicate_callback", copies=50))

    intent_id = merchant.start(phone)

    merchant.wait(intent_id, "succeeded")
    assert answers(house.daraja.delivered(phone, 50)) == {200}
    assert merchant.dispositions() == ["applied"]
    assert merchant.types(intent_id).count("transfer.settled") == 1
    assert merchant.differences() == []


@pytest.mark.parametrize("code", ["401.002.01", "404.001.03", "400.003.01"])
def test_token_that_dies_in_flight_is_refreshed_once(
    house: House, merchant: Merchant, code: str
) -> None:
    merchant.wait(merchant.start(arm(house, PAYS)), "succeeded")
    before = house.daraja.requests("token")
    phone = arm(house, PAYS, fault("token_expires", mid_flight=True, code=code))

    intent_id = merchant.start(phone)

    merchant.wait(intent_id, "succeeded")
    assert house.daraja.requests("token") == before + 1
    assert merchant.differences() == []


def test_twenty_confirms_without_a_token_ask_for_one(house: House) -> None:
    merchant = house.merchant(app=TILL)
    phones = [arm(house, PAYS) for _ in range(20)]
    intents = [merchant.create()["id"] for _ in phones]
    before = house.daraja.requests("token")

    confirmed = at_once(20, lambda n: merchant.confirm(intents[n], phones[n]).status_code)

    assert confirmed == [200] * 20
    assert house.daraja.requests("token") == before + 1
    assert [merchant.wait(intent, "succeeded")["status"] for intent in intents]
    assert merchant.differences() == []


def test_twenty_confirms_with_a_dead_token_refresh_it_once(house: House) -> None:
    merchant = house.merchant()
    merchant.wait(merchant.start(arm(house, PAYS)), "succeeded")
    phones = [arm(house, PAYS) for _ in range(20)]
    intents = [merchant.create()["id"] for _ in phones]
    before = house.daraja.requests("token")
    house.daraja.arm("token_expires", mid_flight=True)

    confirmed = at_once(20, lambda n: merchant.confirm(intents[n], phones[n]).status_code)

    assert confirmed == [200] * 20
    assert house.daraja.requests("token") == before + 1
    assert [merchant.wait(intent, "succeeded")["status"] for intent in intents]
    assert merchant.differences() == []


# --- money moved, and nobody says so


@pytest.mark.parametrize(
    "faults",
    [
        (PAYS, MUTE),
        (PAYS, fault("late_callback", after_s=100_000)),
        (PAYS, fault("no_receipt")),
        (PAYS, fault("garbage", at="callback", kind="html")),
        (PAYS, fault("garbage", at="callback", kind="truncated")),
        (PAYS, fault("garbage", at="callback", kind="empty")),
        (PAYS, MUTE, fault("garbage", at="query", kind="html")),
        (PAYS, MUTE, fault("lost_sync", at="query", how="reset")),
        (PAYS, MUTE, fault("down", at="query")),
        (PAYS, MUTE, fault("down", at="query", spike_arrest=True)),
        (PAYS, MUTE, fault("refused", at="query", code="500.003.03")),
        (PAYS, MUTE, fault("refused", at="query", code="500.001.1001", message="does not Exist")),
    ],
    ids=names,
)
def test_unheard_payment_is_found_by_asking(
    house: House, merchant: Merchant, faults: tuple[Fault, ...]
) -> None:
    phone = arm(house, *faults)
    intent_id = merchant.start(phone)
    until(lambda: house.daraja.prompts(phone)[0]["state"] == "paid", "the payment")

    paid = house.ask_until(merchant, intent_id, "succeeded")

    assert paid["latest_transfer"]["state"] == "SETTLED"
    assert merchant.differences() == []


def test_rail_that_was_killed_keeps_its_books_and_ours_agree(
    house: House, merchant: Merchant
) -> None:
    phones = [arm(house, PAYS, MUTE) for _ in range(3)]
    intents = [merchant.start(phone) for phone in phones]
    open_phone = new_phone()
    waiting = merchant.start(open_phone)

    house.stack.kill("daraja")
    house.stack.wait_ready()

    found = [house.ask_until(merchant, intent_id, "succeeded") for intent_id in intents]
    assert {intent["latest_transfer"]["state"] for intent in found} == {"SETTLED"}
    house.daraja.act(open_phone, "pay")
    merchant.wait(waiting, "succeeded")
    assert merchant.differences() == []


def test_query_noise_never_turns_a_payment_into_a_failure(house: House) -> None:
    merchant = house.merchant()
    house.daraja.settings(query_noise=0.6)
    intents = [merchant.start(arm(house, PAYS, MUTE)) for _ in range(10)]

    paid = [house.ask_until(merchant, intent, "succeeded") for intent in intents]

    house.daraja.settings(query_noise=0)
    assert {intent["last_error"] for intent in paid} == {None}
    assert merchant.differences() == []


@pytest.mark.parametrize("open_as", ["4999", "500.001.1001", "empty"])
def test_asking_too_early_changes_nothing(house: House, merchant: Merchant, open_as: str) -> None:
    house.daraja.settings(query_open=open_as)
    phone = new_phone()
    intent_id = merchant.start(phone)

    house.ask(merchant, code_age_s=600)
    house.ask(merchant, code_age_s=600)

    house.daraja.settings(query_open="mixed")
    assert merchant.get(intent_id)["status"] == "processing"
    house.daraja.act(phone, "pay")
    merchant.wait(intent_id, "succeeded")
    assert merchant.differences() == []


def test_callback_after_the_query_brings_the_receipt(house: House, merchant: Merchant) -> None:
    phone = arm(house, PAYS, fault("late_callback", after_s=LATER_S))
    intent_id = merchant.start(phone)
    until(lambda: house.daraja.prompts(phone)[0]["state"] == "paid", "the payment")
    found = house.ask_until(merchant, intent_id, "succeeded")
    assert found["latest_transfer"]["receipt"] is None

    later(house, phone, 1)

    receipt = house.daraja.prompts(phone)[0]["receipt"]
    assert merchant.get(intent_id)["latest_transfer"]["receipt"] == receipt
    assert merchant.types(intent_id).count("transfer.settled") == 1
    assert merchant.differences() == []


# --- nothing moved


@pytest.mark.parametrize(
    ("code", "reason", "retryable", "retry_after"),
    [
        ("1", "MM_INSUFFICIENT_FUNDS", True, None),
        ("17", "MM_LIMIT_EXCEEDED", True, 300),
        ("26", "RAIL_UNAVAILABLE", True, 60),
        ("1001", "MM_SUBSCRIBER_LOCKED", True, 150),
        ("1019", "MM_TIMEOUT", True, None),
        ("1025", "RAIL_UNAVAILABLE", True, 60),
        ("1032", "MM_USER_CANCELLED", True, None),
        ("1036", "RAIL_UNAVAILABLE", True, 60),
        ("2001", "MM_WRONG_PIN", True, None),
        ("2028", "MERCHANT_CONFIGURATION", False, None),
        ("8006", "MERCHANT_CONFIGURATION", False, None),
        ("9999", "RAIL_UNAVAILABLE", True, 60),
        ("SFC_IC0003", "MERCHANT_CONFIGURATION", False, None),
    ],
)
def test_failed_attempt_gives_the_intent_back(
    house: House,
    merchant: Merchant,
    code: str,
    reason: str,
    retryable: bool,
    retry_after: int | None,
) -> None:
    phone = arm(house, fault("fails", code=code, after_s=1), fault("duplicate_callback"))

    intent_id = merchant.start(phone)

    failed = merchant.wait(intent_id, "requires_payment_method")
    assert answers(house.daraja.delivered(phone, 5)) == {200}
    assert failed["latest_transfer"]["state"] == "FAILED"
    error = failed["last_error"]
    assert (error["code"], error["rail_code"]) == (reason, code)
    assert (error["retryable"], error["retry_after"]) == (retryable, retry_after)
    assert error["message"]
    assert merchant.differences() == []


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ((CANCELS, MUTE), "MM_USER_CANCELLED"),
        ((fault("fails", code="1", after_s=1), MUTE), "MM_INSUFFICIENT_FUNDS"),
        ((fault("fails", code="SFC_IC0003", after_s=1), MUTE), "MERCHANT_CONFIGURATION"),
        ((fault("fails", code="1037", after_s=1), MUTE), "MM_TIMEOUT"),
        ((fault("fails", code="1037", after_s=1),), "MM_TIMEOUT"),
    ],
    ids=names,
)
def test_unheard_failure_is_found_by_asking(
    house: House, merchant: Merchant, faults: tuple[Fault, ...], reason: str
) -> None:
    phone = arm(house, *faults)
    intent_id = merchant.start(phone)
    until(lambda: house.daraja.prompts(phone)[0]["state"] == "failed", "the end of the prompt")

    failed = house.ask_until(merchant, intent_id, "requires_payment_method")

    assert failed["last_error"]["code"] == reason
    assert merchant.differences() == []


def test_unreachable_phone_fails_only_when_told_so_twice_a_minute_apart(
    house: House, merchant: Merchant
) -> None:
    phone = arm(house, fault("fails", code="1037", after_s=1), MUTE)
    intent_id = merchant.start(phone)
    until(lambda: house.daraja.prompts(phone)[0]["state"] == "failed", "the end of the prompt")

    house.ask(merchant)
    house.ask(merchant, code_age_s=50)
    assert merchant.get(intent_id)["status"] == "processing"

    failed = house.ask_until(merchant, intent_id, "requires_payment_method")
    assert failed["last_error"]["code"] == "MM_TIMEOUT"


@pytest.mark.parametrize("lost", NO_ANSWERS, ids=names)
def test_cancelled_prompt_whose_answer_was_lost_fails_by_callback(
    house: House, merchant: Merchant, lost: Fault
) -> None:
    phone = arm(house, CANCELS, lost)

    intent_id = merchant.start(phone)

    failed = merchant.wait(intent_id, "requires_payment_method")
    assert failed["last_error"]["code"] == "MM_USER_CANCELLED"
    assert merchant.differences() == []


@pytest.mark.parametrize(
    ("refusal", "reason", "retry_after"),
    [
        (fault("down", at="push", spike_arrest=True), "RAIL_UNAVAILABLE", 10),
        (fault("refused", code="500.003.02"), "RAIL_UNAVAILABLE", 10),
        (fault("refused", code="500.003.03"), "RAIL_UNAVAILABLE", 600),
        (fault("refused", code="00.002.1001"), "RAIL_UNAVAILABLE", 300),
        (fault("refused", code="400.002.02"), "MERCHANT_CONFIGURATION", None),
        (fault("refused", code="400.002.05"), "MERCHANT_CONFIGURATION", None),
        (fault("refused", code="400.003.02"), "MERCHANT_CONFIGURATION", None),
        (fault("refused", code="403.002.1001"), "MERCHANT_CONFIGURATION", None),
        (fault("refused", code="404.001.01"), "MERCHANT_CONFIGURATION", None),
        (
            fault("refused", code="500.001.1001", message="Unable to lock subscriber"),
            "MM_SUBSCRIBER_LOCKED",
            60,
        ),
        (
            fault("refused", code="500.001.1001", message="Wrong credentials"),
            "MERCHANT_CONFIGURATION",
            None,
        ),
    ],
    ids=names,
)
def test_push_refused_before_processing_leaves_the_intent_for_another_attempt(
    house: House, merchant: Merchant, refusal: Fault, reason: str, retry_after: int | None
) -> None:
    phone = arm(house, PAYS, refusal)
    intent_id = merchant.create()["id"]

    refused = merchant.confirm(intent_id, phone).json()

    assert refused["status"] == "requires_payment_method"
    assert refused["last_error"]["code"] == reason
    assert refused["last_error"]["retry_after"] == retry_after
    assert house.daraja.prompts(phone) == []
    again = merchant.confirm(intent_id, phone).json()
    assert again["status"] == "processing"
    assert merchant.wait(intent_id, "succeeded")["last_error"] is None
    assert merchant.differences() == []


# --- nobody knows


@pytest.mark.parametrize(
    "faults",
    [
        (fault("down", at="push"),),
        (fault("down", at="push", status=500),),
        (fault("refused", code="500.003.1001"),),
        (fault("refused", code="500.001.1001", message="Something new"),),
        (fault("refused", code="500.002.1001"),),
        (fault("refused", code="999.999.99", status=400),),
        (CANCELS, MUTE, fault("lost_sync")),
    ],
    ids=names,
)
def test_silence_is_never_prompted_again_and_ends_before_a_person(
    house: House, merchant: Merchant, faults: tuple[Fault, ...]
) -> None:
    phone = arm(house, *faults)
    intent_id = merchant.create()["id"]

    silent = merchant.confirm(intent_id, phone)

    assert (silent.status_code, silent.json()["status"]) == (200, "processing")
    assert merchant.confirm(intent_id, phone).json()["code"] == "40911"
    house.books.run(
        "update payments.transfers set submitted_at = submitted_at - interval '10 minutes'"
        " where payment_intent_id = %s",
        intent_id,
    )
    waiting = house.ask_until_review(merchant, intent_id)
    assert (waiting["status"], waiting["latest_transfer"]["needs_review"]) == ("processing", True)
    transfer_id = waiting["latest_transfer"]["id"]
    assert ("transfer_needs_review", transfer_id) in merchant.alerts()
    assert len(house.daraja.prompts(phone)) <= 1
    assert merchant.differences() == []


def test_code_outside_all_tables_decides_nothing_and_alarms(
    house: House, merchant: Merchant
) -> None:
    phone = arm(house, fault("unknown_code", code="7719", after_s=1))
    intent_id = merchant.start(phone)
    house.daraja.delivered(phone)

    house.ask(merchant, code_age_s=600)
    house.ask(merchant, code_age_s=600)

    assert merchant.get(intent_id)["status"] == "processing"
    platform = "select kind from public.alerts where tenant_id is null and subject = 'mpesa:7719'"
    assert house.books.column(platform) == ["unknown_rail_code"]
    house.books.run(
        "update rails.watches set horizon_at = now() where tenant_id = %s", merchant.tenant_id
    )
    assert house.ask_until_review(merchant, intent_id)["status"] == "processing"
    assert merchant.differences() == []


# --- what is said cannot be believed


@pytest.mark.parametrize(
    ("wrong", "paid"),
    [
        (fault("wrong_amount", delta=1), 101),
        (fault("wrong_amount", delta=-99), 1),
        (fault("wrong_amount", delta=0, currency="USD"), 100),
    ],
    ids=names,
)
def test_another_amount_is_parked_not_booked(
    house: House, merchant: Merchant, wrong: Fault, paid: int
) -> None:
    phone = arm(house, PAYS, wrong, fault("duplicate_callback"))

    intent_id = merchant.start(phone)

    assert answers(house.daraja.delivered(phone, 5)) == {200}
    house.ask(merchant)
    doubtful = merchant.get(intent_id)
    assert (doubtful["status"], doubtful["amount_received"]) == ("processing", "0.00")
    transfer = doubtful["latest_transfer"]
    assert (transfer["state"], transfer["needs_review"]) == ("ACCEPTED", True)
    assert ("callback_parked", transfer["id"]) in merchant.alerts()
    assert ("transfer_needs_review", transfer["id"]) in merchant.alerts()
    assert [(p["transfer_id"], p["reason"]) for p in merchant.parked()] == [
        (transfer["id"], "amount_mismatch")
    ]
    checkout = house.daraja.prompts(phone)[0]["checkout_request_id"]
    assert merchant.differences() == [f"{paid} shillings paid for {checkout} and not booked"]


@pytest.mark.parametrize("kind", ["html", "truncated", "empty"])
def test_garbage_is_answered_kept_and_shown_to_a_person(
    house: House, merchant: Merchant, kind: str
) -> None:
    phone = arm(house, PAYS, fault("garbage", at="callback", kind=kind))
    intent_id = merchant.start(phone)
    assert answers(house.daraja.delivered(phone)) == {200}

    (parked,) = merchant.parked()

    assert parked["transfer_id"] == merchant.get(intent_id)["latest_transfer"]["id"]
    assert parked["reason"]
    assert ("callback_parked", parked["transfer_id"]) in merchant.alerts()
    house.ask_until(merchant, intent_id, "succeeded")
    assert merchant.differences() == []


@pytest.mark.parametrize("how", ["token", "both"])
def test_forged_callback_under_an_unknown_token_moves_nothing(
    house: House, merchant: Merchant, how: str
) -> None:
    phone = arm(house, fault("forged", how=how, after_s=1))

    intent_id = merchant.start(phone)

    assert answers(house.daraja.delivered(phone)) == {200}
    assert merchant.get(intent_id)["status"] == "processing"
    assert merchant.dispositions() == []
    assert merchant.parked() == []
    reasons = [parked["reason"] for parked in merchant.parked("operator")]
    assert "unknown_token" in reasons
    assert merchant.differences() == []


def test_forged_callback_from_a_strange_address_waits_for_the_rail(
    house: House, merchant: Merchant
) -> None:
    phone = arm(house, fault("forged", how="source", source=STRANGER, after_s=1))
    intent_id = merchant.start(phone)
    assert answers(house.daraja.delivered(phone)) == {200}

    house.ask(merchant)

    assert merchant.get(intent_id)["status"] == "processing"
    assert merchant.dispositions() == ["awaiting_query:untrusted_source"]
    house.daraja.act(phone, "cancel")
    failed = merchant.wait(intent_id, "requires_payment_method")
    assert failed["last_error"]["code"] == "MM_USER_CANCELLED"
    assert merchant.differences() == []


def test_forged_receipt_is_not_booked_when_the_payer_pays_after_all(
    house: House, merchant: Merchant
) -> None:
    phone = arm(house, fault("forged", how="source", source=STRANGER, after_s=0))
    intent_id = merchant.start(phone)
    house.daraja.delivered(phone)
    house.ask(merchant)

    house.daraja.act(phone, "pay")

    merchant.wait(intent_id, "succeeded")
    house.daraja.delivered(phone, 2)
    receipt = house.daraja.prompts(phone)[0]["receipt"]
    assert merchant.get(intent_id)["latest_transfer"]["receipt"] == receipt
    assert merchant.differences() == []


def test_success_from_an_unlisted_address_is_believed_after_a_query(
    house: House, merchant: Merchant
) -> None:
    phone = arm(house, PAYS)
    house.daraja.settings(callback_source=STRANGER)

    intent_id = merchant.start(phone)
    house.daraja.delivered(phone)

    house.daraja.settings(callback_source=None)
    house.ask_until(merchant, intent_id, "succeeded")
    assert merchant.dispositions() == ["awaiting_query:untrusted_source"]
    assert merchant.differences() == []


def test_second_receipt_for_one_prompt_is_parked(house: House, merchant: Merchant) -> None:
    phone = arm(house, PAYS)
    intent_id = merchant.start(phone)
    merchant.wait(intent_id, "succeeded")
    (first,) = house.daraja.delivered(phone)
    prompt = house.daraja.prompts(phone)[0]

    second = httpx.post(
        first["url"], json=callback_body(prompt, MpesaReceiptNumber="UKL0FORGED"), trust_env=False
    )

    assert second.status_code == 200
    assert [parked["transfer_id"] for parked in merchant.parked()] == [
        merchant.get(intent_id)["latest_transfer"]["id"]
    ]
    assert merchant.get(intent_id)["amount_received"] == "100.00"
    assert merchant.differences() == []


def test_receipt_of_another_payment_pays_nothing(house: House, merchant: Merchant) -> None:
    merchant.wait(merchant.start(paid_phone := arm(house, PAYS)), "succeeded")
    receipt = house.daraja.prompts(paid_phone)[0]["receipt"]
    unpaid_phone = new_phone()
    intent_id = merchant.start(unpaid_phone)
    prompt = house.daraja.prompted(unpaid_phone)

    answer = httpx.post(
        prompt["callback_url"],
        json=callback_body(prompt, MpesaReceiptNumber=receipt),
        trust_env=False,
    )

    assert answer.status_code == 200
    assert merchant.get(intent_id)["amount_received"] == "0.00"
    assert [parked["reason"] for parked in merchant.parked()] == ["receipt_of_another_transfer"]
    assert merchant.differences() == []


# --- news that comes late or twice


def test_success_after_failure_is_honoured_after_a_query(house: House, merchant: Merchant) -> None:
    phone = arm(house, fault("contradiction", first="1032", then="0", after_s=1, gap_s=LATER_S))
    intent_id = merchant.start(phone)
    merchant.wait(intent_id, "requires_payment_method")

    later(house, phone)

    paid = house.ask_until(merchant, intent_id, "succeeded")
    assert merchant.dispositions() == ["applied", "awaiting_query:success_after_failure"]
    assert paid["latest_transfer"]["late"]
    assert paid["latest_transfer"]["receipt"] == house.daraja.prompts(phone)[0]["receipt"]
    assert paid["last_error"] is None
    assert merchant.differences() == []


@pytest.mark.parametrize("then", ["1032", "1", "1037", "7777"])
def test_failure_after_success_is_recorded_and_ignored(
    house: House, merchant: Merchant, then: str
) -> None:
    phone = arm(house, fault("contradiction", first="0", then=then, after_s=1, gap_s=LATER_S))
    intent_id = merchant.start(phone)
    merchant.wait(intent_id, "succeeded")

    assert answers(later(house, phone)) == {200}

    house.make_due(merchant, code_age_s=600)
    house.reconcile()
    assert merchant.get(intent_id)["status"] == "succeeded"
    assert merchant.dispositions()[0] == "applied"
    assert len(merchant.dispositions()) == 2
    assert "transfer.failed" not in merchant.types(intent_id)
    assert merchant.differences() == []


def later(house: House, phone: str, callbacks: int = 2) -> list[Json]:
    """Let the time come of what the simulator does LATER_S after something else."""
    house.daraja.settings(speed=100 * SPEED)
    try:
        return house.daraja.delivered(phone, callbacks)
    finally:
        house.daraja.settings(speed=SPEED)


def late_success(house: House, merchant: Merchant) -> tuple[str, str]:
    """(intent, phone) of an attempt that failed and will be paid for all the same."""
    phone = arm(house, fault("contradiction", first="1032", then="0", after_s=1, gap_s=LATER_S))
    intent_id = merchant.start(phone)
    merchant.wait(intent_id, "requires_payment_method")
    return intent_id, phone


def test_late_success_of_a_canceled_intent_is_honoured(house: House, merchant: Merchant) -> None:
    intent_id, phone = late_success(house, merchant)
    merchant.post(f"/payment-intents/{intent_id}/cancel").raise_for_status()

    later(house, phone)

    paid = house.ask_until(merchant, intent_id, "succeeded")
    assert (paid["amount_received"], paid["latest_transfer"]["late"]) == ("100.00", True)
    assert paid["canceled_at"] is not None
    assert merchant.differences() == []


def test_late_success_of_an_expired_intent_is_honoured(house: House, merchant: Merchant) -> None:
    intent_id, phone = late_success(house, merchant)
    house.books.run(
        "update payments.payment_intents set expires_at = now() where payment_intent_id = %s",
        intent_id,
    )
    house.books.run("select payments.expire_intents()")
    assert merchant.get(intent_id)["status"] == "expired"

    later(house, phone)

    assert house.ask_until(merchant, intent_id, "succeeded")["latest_transfer"]["late"]
    assert merchant.differences() == []


def test_late_success_beside_a_second_payment_is_booked_and_alarms(
    house: House, merchant: Merchant
) -> None:
    intent_id, phone = late_success(house, merchant)
    second = arm(house, PAYS)
    merchant.confirm(intent_id, second).raise_for_status()
    merchant.wait(intent_id, "succeeded")

    later(house, phone)

    def received() -> str | None:
        house.make_due(merchant)
        house.reconcile()
        amount = merchant.get(intent_id)["amount_received"]
        return str(amount) if amount != "100.00" else None

    assert until(received, "the second payment") == "200.00"
    assert ("intent_overpaid", intent_id) in merchant.alerts()
    assert merchant.differences() == []


def test_late_success_during_a_second_attempt_is_booked(house: House, merchant: Merchant) -> None:
    intent_id, phone = late_success(house, merchant)
    second = new_phone()
    merchant.confirm(intent_id, second).raise_for_status()

    later(house, phone)

    house.ask_until(merchant, intent_id, "succeeded")
    house.daraja.act(second, "cancel")
    house.daraja.delivered(second)
    assert merchant.get(intent_id)["status"] == "succeeded"
    assert [transfer["state"] for transfer in merchant.transfers()] == ["SETTLED", "FAILED"]
    assert merchant.differences() == []


# --- the rail is slow, away or in trouble


def test_rail_that_gives_no_token_leaves_intent_and_key_unharmed(
    house: House, merchant: Merchant
) -> None:
    merchant.wait(merchant.start(arm(house, PAYS)), "succeeded")
    phone = arm(house, PAYS, fault("token_expires", mid_flight=True))
    house.daraja.arm("garbage", at="token")
    intent_id, key = merchant.create()["id"], new_key()

    refused = merchant.confirm(intent_id, phone, key)

    assert (refused.status_code, refused.json()["code"]) == (503, "50302")
    assert int(refused.headers["Retry-After"]) > 0
    assert house.daraja.prompts(phone) == []
    assert merchant.confirm(intent_id, phone, key).json()["status"] == "processing"
    merchant.wait(intent_id, "succeeded")
    assert merchant.differences() == []


def test_rail_that_is_away_leaves_intent_and_key_unharmed(house: House, tap: Tap) -> None:
    live = house.merchant(environment="production")
    phone = arm(house, PAYS)
    intent_id, key = live.create()["id"], new_key()

    refused = live.confirm(intent_id, phone, key)

    assert (refused.status_code, refused.json()["code"]) == (503, "50302")
    assert int(refused.headers["Retry-After"]) > 0
    unharmed = live.get(intent_id)
    assert unharmed["status"] == "requires_payment_method"
    assert unharmed["last_error"]["code"] == "RAIL_UNAVAILABLE"
    assert unharmed["last_error"]["retryable"]
    with tap.open_to(house.daraja.url):
        again = live.confirm(intent_id, phone, key)
        assert (again.status_code, "Idempotent-Replayed" in again.headers) == (200, False)
        paid = live.wait(intent_id, "succeeded")
    assert (paid["environment"], paid["last_error"]) == ("production", None)
    assert live.differences() == []


def test_rail_in_trouble_is_left_alone_for_one_tenant_only(house: House, tap: Tap) -> None:
    live = house.merchant(environment="production")
    intents = [live.create()["id"] for _ in range(6)]
    phone = arm(house, PAYS)
    failures = [live.confirm(intent, phone).status_code for intent in intents[:5]]

    with tap.open_to(house.daraja.url):
        heard = len(tap.heard)
        refused = live.confirm(intents[5], phone)
        assert len(tap.heard) == heard
        other = house.merchant(environment="production")
        other.wait(other.start(phone), "succeeded")

    assert failures == [503] * 5
    assert refused.status_code == 503
    assert 20 <= int(refused.headers["Retry-After"]) <= 30
    assert live.get(intents[5])["status"] == "requires_payment_method"
    assert live.differences() == []
    assert other.differences() == []


# --- all of it


def test_every_callback_of_this_module_was_answered_200_and_fast(
    house: House, report: Callable[[str], None]
) -> None:
    delivered = [c for c in house.daraja.log()["callbacks"] if c["attempted_at"]]
    latencies = [callback["latency_ms"] for callback in delivered]
    report(f"callbacks answered: {spread(latencies)}")

    assert len(delivered) > 30
    assert answers(delivered) == {200}
    assert percentile(latencies, 0.99) < 3000  # the rail's own patience; 50 came at once
