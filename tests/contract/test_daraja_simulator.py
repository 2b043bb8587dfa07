"""The Daraja simulator keeps the wire, its scenarios by phone and every fault of the grid."""

import base64
import json
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.stack.daraja.clock import EAT
from scripts.stack.daraja.credentials import PAY_BILL, TILL
from scripts.stack.daraja.faults import ONE
from scripts.stack.daraja.testing import (
    Customer,
    Received,
    Receiver,
    Simulator,
    receiving,
    simulating,
    until,
    wait_ready,
)

SPEED = 200  # ten minutes are three seconds
CALM = 5  # seconds apart stay apart, on a busy machine too
MANUAL = "254712345678"  # no scenario ends in 78


def scenario(digits: str) -> str:
    """A phone of that scenario."""
    return f"2547123456{digits}"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    state = tmp_path_factory.mktemp("daraja")
    with simulating(state) as simulator:
        yield simulator
    assert b"Traceback" not in (state / "log").read_bytes()


@pytest.fixture
def simulator(process: Simulator) -> Simulator:
    """Empty books, fast, no noise in queries."""
    process.control("POST", "reset")
    process.settings(speed=SPEED, query_noise=0, query_open="4999")
    return process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def customer(simulator: Simulator, receiver: Receiver) -> Customer:
    return Customer(simulator, f"{receiver.url}/in/k/0123456789abcdef")


def checkout(answer: httpx.Response) -> str:
    return str(answer.json()["CheckoutRequestID"])


def error(answer: httpx.Response) -> tuple[int, str, str]:
    """(HTTP status, code, message), keys read case-insensitively."""
    body = {name.lower(): value for name, value in answer.json().items()}
    return answer.status_code, body["errorcode"], body["errormessage"]


def result(callback: Received) -> dict[str, Any]:
    return dict(json.loads(callback.body)["Body"]["stkCallback"])


def codes(callbacks: list[Received]) -> list[str]:
    return [str(result(callback)["ResultCode"]) for callback in callbacks]


def items(callback: Received) -> dict[str, Any]:
    """Callback items by name; an item without a value is None."""
    listed = result(callback)["CallbackMetadata"]["Item"]
    return {item["Name"]: item.get("Value") for item in listed if item}


def settled(simulator: Simulator, count: int) -> list[dict[str, Any]]:
    """Callbacks in the simulator's log, once `count` of them have a result."""

    def look() -> list[dict[str, Any]] | bool:
        sent = [each for each in simulator.log()["callbacks"] if each["latency_ms"] is not None]
        return len(sent) >= count and sent

    return until(look)


# Token


def test_token_is_28_characters_and_promises_an_hour(customer: Customer) -> None:
    answer = customer.authenticate()

    assert answer.status_code == 200
    assert re.fullmatch(r"\w{28}", answer.json()["access_token"])
    assert str(answer.json()["expires_in"]) == "3599"


def test_token_lifetime_is_text_in_some_answers_and_a_number_in_others(customer: Customer) -> None:
    kinds = {type(customer.authenticate().json()["expires_in"]) for _ in range(30)}

    assert kinds == {str, int}


@pytest.mark.parametrize(
    ("grant", "secret", "expected"),
    [
        ("client_credentials", "wrong", (400, "400.008.01")),
        ("password", PAY_BILL.consumer_secret, (400, "400.008.02")),
    ],
)
def test_token_is_refused(
    simulator: Simulator, grant: str, secret: str, expected: tuple[int, str]
) -> None:
    auth = (PAY_BILL.consumer_key, secret)

    answer = simulator.http.get("/oauth/v1/generate", params={"grant_type": grant}, auth=auth)

    assert error(answer)[:2] == expected


def test_unknown_token_is_refused_in_one_of_three_ways(customer: Customer) -> None:
    customer.token = "nobody-was-given-this-token"

    seen = {error(customer.push(MANUAL))[:2] for _ in range(20)}

    assert seen == {(401, "401.002.01"), (404, "404.001.03"), (400, "400.003.01")}


def test_wrong_path_and_method_answer_in_daraja_shape(simulator: Simulator) -> None:
    lost = simulator.http.post("/mpesa/nothing", json={})
    wrong = simulator.http.get("/mpesa/stkpush/v1/processrequest")

    assert (error(lost)[:2], error(wrong)[:2]) == ((404, "404.001.01"), (405, "405.001"))


# Push: field rules


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("Amount", 0),
        ("Amount", 250_001),
        ("Amount", 10.0),
        ("Amount", "10.50"),
        ("Amount", True),
        ("Amount", ...),
        ("PhoneNumber", "0712345678"),
        ("PhoneNumber", "+254712345678"),
        ("PhoneNumber", 254812345678),
        ("PartyA", 254700000001),
        ("PartyB", "abc"),
        ("TransactionType", "CustomerPaybillOnline"),
        ("Timestamp", "2026-01-01"),
        ("Timestamp", 20261301000000),
        ("CallBackURL", "ftp://pay.example.ke/in"),
        ("CallBackURL", "https://Pay.example.ke/in"),
        ("CallBackURL", "https://pay.example.ke/mpesa/1"),
        ("CallBackURL", "https://pay.example.ke/in/aSQLb"),
        ("AccountReference", "INV-123456789"),
        ("AccountReference", ""),
        ("TransactionDesc", "fourteen chars"),
        ("TransactionDesc", "Tea & bread"),
    ],
)
def test_push_names_the_field_it_refuses(customer: Customer, field: str, value: object) -> None:
    answer = customer.push(MANUAL, **{field: value})

    assert error(answer) == (400, "400.002.02", f"Bad Request - Invalid {field}")
    assert customer.simulator.control("GET", "prompts") == []


def test_push_refuses_a_time_stamp_in_utc(customer: Customer) -> None:
    timestamp = f"{datetime.now(UTC):%Y%m%d%H%M%S}"

    answer = customer.push(MANUAL, Timestamp=timestamp)

    assert error(answer)[2] == "Bad Request - Invalid Timestamp"


def test_push_refuses_a_password_of_another_time_stamp(customer: Customer) -> None:
    earlier = f"{datetime.now(EAT) - timedelta(seconds=5):%Y%m%d%H%M%S}"

    answer = customer.push(MANUAL, Timestamp=earlier)

    assert error(answer) == (500, "500.001.1001", "Wrong credentials")


def test_push_refuses_the_short_code_of_another_merchant(customer: Customer) -> None:
    answer = customer.push(MANUAL, BusinessShortCode=TILL.short_code)

    assert error(answer) == (500, "500.001.1001", "Merchant does not exist")


def test_push_refuses_a_body_that_is_no_json(customer: Customer) -> None:
    customer.authenticate()
    bearer = {"authorization": f"Bearer {customer.token}"}

    answer = customer.simulator.http.post(
        "/mpesa/stkpush/v1/processrequest", content=b"{", headers=bearer
    )

    assert error(answer)[:2] == (400, "400.002.05")


def test_push_accepts_numbers_as_text_and_phones_with_1(customer: Customer) -> None:
    answer = customer.push("254112345678", amount="250000", BusinessShortCode="600174")

    assert answer.json()["ResponseCode"] == "0"


def test_push_answers_ids_in_east_african_time_and_both_shapes(customer: Customer) -> None:
    days = [datetime.now(EAT)]
    answers = [customer.push(MANUAL).json() for _ in range(12)]
    days.append(datetime.now(EAT))  # another one at midnight

    checkouts = {answer["CheckoutRequestID"] for answer in answers}
    assert len(checkouts) == 12
    assert {each[: len("ws_CO_ddMMyyyy")] for each in checkouts} <= {
        f"ws_CO_{day:%d%m%Y}" for day in days
    }
    merchants = [answer["MerchantRequestID"] for answer in answers]
    assert {bool(re.fullmatch(r"\d+-\d+-\d", each)) for each in merchants} == {True, False}


def test_same_reference_twice_prompts_and_pays_twice(
    customer: Customer, receiver: Receiver
) -> None:
    customer.push(scenario("00"))
    customer.push(scenario("00"))

    receiver.wait(2)
    assert customer.simulator.log()["counts"]["charges_by_reference"] == {"INV-1": 2}


def test_wrong_pairing_of_till_and_type_fails_later(customer: Customer, receiver: Receiver) -> None:
    customer.merchant = TILL

    answer = customer.push(scenario("00"), PartyB=TILL.short_code)

    assert answer.status_code == 200
    assert codes(receiver.wait()) == ["SFC_IC0003"]


def test_till_is_paid_at_the_till(customer: Customer, receiver: Receiver) -> None:
    customer.merchant = TILL

    customer.push(scenario("00"))

    assert receiver.wait()[0].headers["businessshortcode"] == TILL.short_code
    assert customer.simulator.books()[0]["paid_to"] == TILL.till


# Callbacks and books


def test_paid_prompt_is_called_back_and_booked_with_one_receipt(
    customer: Customer, receiver: Receiver
) -> None:
    answer = customer.push(scenario("00"), amount=1500)

    (callback,) = receiver.wait()
    (entry,) = customer.simulator.books()
    found = items(callback)
    assert callback.path == "/in/k/0123456789abcdef"
    assert callback.headers["content-type"] == "application/json;charset=UTF-8"
    assert callback.headers["businessshortcode"] == PAY_BILL.short_code
    assert result(callback)["CheckoutRequestID"] == checkout(answer)
    assert (found["Amount"], found["PhoneNumber"]) == (1500, int(scenario("00")))
    assert re.fullmatch(r"[A-Z0-9]{10}", found["MpesaReceiptNumber"])
    assert (entry["receipt"], entry["amount"]) == (found["MpesaReceiptNumber"], 1500)
    assert (entry["payer"], entry["account_reference"]) == (scenario("00"), "INV-1")


def test_balances_of_the_books_sum_to_zero(customer: Customer, receiver: Receiver) -> None:
    customer.push(scenario("00"), amount=40)
    customer.push(scenario("11"), amount=2)
    receiver.wait(6)

    statement = customer.simulator.control("GET", "books")

    assert statement["total"] == 42
    assert statement["balances"][PAY_BILL.short_code] == 42
    assert sum(statement["balances"].values()) == 0


def test_callback_is_delivered_once_even_when_it_is_refused(
    customer: Customer, receiver: Receiver
) -> None:
    receiver.status = 500
    began = time.monotonic()
    customer.push(scenario("00"))
    receiver.wait()

    time.sleep(0.3)  # a minute of the simulator's time

    (sent,) = settled(customer.simulator, 1)
    assert len(receiver.received) == 1
    assert sent["status"] == 500
    assert 0 < sent["latency_ms"] < 1000 * (time.monotonic() - began)


def test_callback_to_nobody_is_recorded_and_the_payment_stays(customer: Customer) -> None:
    customer.callback_url = "http://127.0.0.1:9/in/k/0"

    customer.push(scenario("00"))

    (sent,) = settled(customer.simulator, 1)
    assert (sent["status"], sent["error"]) == (None, "ClientConnectorError")
    assert len(customer.simulator.books()) == 1


def test_callback_bodies_take_every_shape_that_was_seen(
    customer: Customer, receiver: Receiver
) -> None:
    for _ in range(30):
        customer.push(scenario("00"))

    callbacks = receiver.wait(30)
    lists = [result(each)["CallbackMetadata"]["Item"] for each in callbacks]
    assert {type(result(each)["ResultCode"]) for each in callbacks} == {int, str}
    assert {type(items(each)["Amount"]) for each in callbacks} == {int, float}
    assert {{} in each for each in lists} == {True, False}
    assert {"Balance" in items(each) for each in callbacks} == {True, False}
    assert {"AccountReference" in items(each) for each in callbacks} == {True, False}
    assert len({tuple(items(each)) for each in callbacks}) > 5
    assert all(items(each).get("Balance") is None for each in callbacks)


def test_callback_bodies_are_plain_when_the_noise_is_off(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.settings(shape_noise=False)

    customer.push(scenario("00"))

    (callback,) = receiver.wait()
    assert result(callback)["ResultCode"] == 0
    assert list(items(callback)) == [
        "Amount", "MpesaReceiptNumber", "Balance", "TransactionDate", "PhoneNumber",
    ]  # fmt: skip


# Scenarios by the last two digits


@pytest.mark.parametrize(
    ("digits", "code"),
    [
        ("01", "1"),
        ("02", "1032"),
        ("03", "1037"),
        ("04", "2001"),
        ("05", "1019"),
        ("06", "26"),
        ("07", "1001"),
        ("08", "SFC_IC0003"),
        ("20", "7777"),
    ],
)
def test_scenario_fails_with_its_code_and_moves_nothing(
    customer: Customer, receiver: Receiver, digits: str, code: str
) -> None:
    answer = customer.push(scenario(digits))

    (callback,) = receiver.wait()
    assert codes([callback]) == [code]
    assert "CallbackMetadata" not in result(callback)
    assert customer.query(checkout(answer)).json()["ResultCode"] == code
    assert customer.simulator.books() == []


def test_scenario_10_calls_back_before_it_answers(customer: Customer, receiver: Receiver) -> None:
    answer = customer.push(scenario("10"))
    answered_at = time.monotonic()

    (callback,) = receiver.received
    assert callback.at < answered_at
    assert result(callback)["CheckoutRequestID"] == checkout(answer)


def test_scenario_11_sends_five_equal_callbacks(customer: Customer, receiver: Receiver) -> None:
    customer.push(scenario("11"))

    callbacks = receiver.wait(5)

    assert len({callback.body for callback in callbacks}) == 1
    assert len(customer.simulator.books()) == 1


def test_scenario_12_loses_the_callback_and_the_query_finds_it(
    customer: Customer, receiver: Receiver
) -> None:
    answer = customer.push(scenario("12"))
    customer.simulator.closed(scenario("12"))

    found = customer.query(checkout(answer)).json()

    assert found["ResultCode"] == "0"
    assert receiver.received == []
    assert len(customer.simulator.books()) == 1


def test_scenario_13_calls_back_ten_minutes_later(customer: Customer, receiver: Receiver) -> None:
    pushed_at = time.monotonic()
    customer.push(scenario("13"))
    paid = customer.simulator.closed(scenario("13"))

    (callback,) = receiver.wait()

    assert paid["state"] == "paid"
    assert callback.at - pushed_at > 600 / SPEED


def test_scenario_14_cancels_and_then_pays(customer: Customer, receiver: Receiver) -> None:
    customer.simulator.settings(speed=CALM)
    customer.push(scenario("14"))

    callbacks = receiver.wait(2)

    assert codes(callbacks) == ["1032", "0"]
    assert customer.simulator.books()[0]["receipt"] == items(callbacks[1])["MpesaReceiptNumber"]


def test_scenario_15_loses_the_answer_and_the_payer_pays(
    customer: Customer, receiver: Receiver
) -> None:
    answer = customer.push(scenario("15"))

    assert (answer.status_code, "html" in answer.text) == (502, True)
    assert codes(receiver.wait()) == ["0"]


def test_scenario_16_loses_the_answer_and_the_payer_cancels(
    customer: Customer, receiver: Receiver
) -> None:
    answer = customer.push(scenario("16"))

    assert answer.status_code == 502
    assert codes(receiver.wait()) == ["1032"]


def test_scenario_17_echoes_another_amount(customer: Customer, receiver: Receiver) -> None:
    customer.push(scenario("17"), amount=100)

    assert items(receiver.wait()[0])["Amount"] == 101
    assert customer.simulator.books()[0]["amount"] == 101


def test_scenario_18_is_forged_from_another_address_and_nothing_was_paid(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.settings(speed=CALM)
    answer = customer.push(scenario("18"))
    receiver.wait()
    customer.simulator.settings(speed=SPEED)

    forged, genuine = receiver.wait(2)
    assert (forged.source, genuine.source) == ("127.0.0.66", "127.0.0.1")
    assert (forged.path, codes([forged, genuine])) == (genuine.path, ["0", "1037"])
    assert items(forged)["Amount"] == 100
    assert result(forged)["CheckoutRequestID"] == checkout(answer)
    assert customer.simulator.books() == []


def test_scenario_19_succeeds_without_a_receipt(customer: Customer, receiver: Receiver) -> None:
    customer.push(scenario("19"))

    (callback,) = receiver.wait()
    assert codes([callback]) == ["0"]
    assert "MpesaReceiptNumber" not in items(callback)
    assert customer.simulator.books()[0]["receipt"]


def test_scenario_21_refuses_three_times_and_recovers(
    customer: Customer, receiver: Receiver
) -> None:
    answers = [customer.push(scenario("21")) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [500, 500, 500, 200]
    assert {error(answer)[1] for answer in answers[:3]} == {"500.003.02"}
    assert codes(receiver.wait()) == ["0"]
    assert customer.simulator.log()["counts"]["prompts_by_phone"] == {scenario("21"): 1}


def test_scenario_22_kills_the_token_and_one_refresh_is_enough(
    customer: Customer, receiver: Receiver
) -> None:
    refused = customer.push(scenario("22"))
    customer.authenticate()

    accepted = customer.push(scenario("22"))

    assert error(refused)[1] in {"401.002.01", "404.001.03", "400.003.01"}
    assert accepted.json()["ResponseCode"] == "0"
    assert codes(receiver.wait()) == ["0"]
    counts = customer.simulator.log()["counts"]
    assert (counts["requests"]["token"], counts["prompts_by_phone"]) == (2, {scenario("22"): 1})


# Query


def test_query_of_an_open_prompt_takes_every_form(customer: Customer) -> None:
    customer.simulator.settings(speed=1, query_open="mixed")
    asked = checkout(customer.push(MANUAL))

    answers = [customer.query(asked) for _ in range(40)]

    seen = {(answer.status_code, answer.json().get("ResultCode")) for answer in answers}
    assert seen == {(200, "4999"), (200, ""), (500, None), (200, None)}


def test_query_of_a_finished_payment_is_noisy_one_time_in_five(
    customer: Customer, receiver: Receiver
) -> None:
    asked = checkout(customer.push(scenario("00")))
    receiver.wait()
    customer.simulator.settings(query_noise=0.2)

    answers = [customer.query(asked) for _ in range(100)]

    noise = [answer for answer in answers if "ResultCode" not in answer.json()]
    assert 5 <= len(noise) <= 40
    assert {answer.status_code for answer in noise} == {200, 500}
    assert {error(answer)[1:] for answer in noise} == {
        ("500.001.1001", ""),
        ("500.001.1001", "The transaction does not Exist"),
    }


def test_query_of_an_unknown_id_says_nothing_certain(customer: Customer) -> None:
    answer = customer.query("ws_CO_01012026000000000000000000")

    assert error(answer)[:2] == (500, "500.001.1001")


def test_query_tells_the_truth_while_callbacks_contradict_each_other(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.arm("contradiction", first="0", then="1032", gap_s=12_000)
    asked = checkout(customer.push(MANUAL))
    receiver.wait()
    customer.simulator.settings(speed=10_000)

    callbacks = receiver.wait(2)

    assert codes(callbacks) == ["0", "1032"]
    assert customer.query(asked).json()["ResultCode"] == "0"
    assert len(customer.simulator.books()) == 1


# Faults by control call


def test_fault_slow_answers_late_and_processes_at_once(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.settings(speed=1)
    customer.simulator.arm("slow", seconds=2)
    customer.simulator.arm("pays", after_s=0)
    started = time.monotonic()

    answer = customer.push(MANUAL)

    answered_at = time.monotonic()
    assert answered_at - started > 2
    assert answer.status_code == 200
    assert receiver.received[0].at < answered_at


@pytest.mark.parametrize(("how", "status"), [("502", 502), ("empty", 200)])
def test_fault_lost_sync_processes_and_answers_nothing_useful(
    customer: Customer, receiver: Receiver, how: str, status: int
) -> None:
    customer.simulator.arm("lost_sync", how=how, phone=scenario("00"))

    answer = customer.push(scenario("00"))

    assert answer.status_code == status
    assert "CheckoutRequestID" not in answer.text
    assert codes(receiver.wait()) == ["0"]


def test_fault_lost_sync_resets_the_connection(customer: Customer, receiver: Receiver) -> None:
    customer.authenticate()
    customer.simulator.arm("lost_sync", how="reset")

    with pytest.raises(httpx.ReadError):
        customer.push(scenario("00"))

    assert codes(receiver.wait()) == ["0"]
    assert customer.simulator.log(phone=scenario("00"))["requests"][0]["status"] is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("500.003.02", (429, "500.003.02", "Error Occurred: Spike Arrest Violation")),
        ("403.002.1001", (403, "403.002.1001", "The app is not authorised for this product")),
        ("500.003.03", (500, "500.003.03", "Error Occurred: Quota Violation")),
    ],
)
def test_fault_refused_processes_nothing(
    customer: Customer, code: str, expected: tuple[int, str, str]
) -> None:
    customer.simulator.arm("refused", code=code)

    refused, accepted = customer.push(MANUAL), customer.push(MANUAL)

    assert error(refused) == expected
    assert accepted.status_code == 200
    assert customer.simulator.log()["counts"]["prompts_by_phone"] == {MANUAL: 1}


def test_fault_refused_carries_the_message_of_a_locked_subscriber(customer: Customer) -> None:
    customer.simulator.arm("refused", code="500.001.1001", message="Unable to lock subscriber")

    assert error(customer.push(MANUAL))[2] == "Unable to lock subscriber"


def test_fault_duplicate_callback_sends_twenty_at_once(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.arm("duplicate_callback", copies=20)
    receiver.slow_s = 0.5

    customer.push(scenario("00"))

    callbacks = receiver.wait(20)
    assert len({callback.body for callback in callbacks}) == 1
    # One after the other, each would wait for the answer to the one before.
    assert callbacks[-1].at - callbacks[0].at < 19 * receiver.slow_s


def test_fault_duplicate_callback_can_space_its_copies(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.settings(speed=1)
    customer.simulator.arm("duplicate_callback", copies=3, concurrent=False)
    customer.simulator.arm("pays", after_s=0)

    customer.push(MANUAL)

    first, _, last = receiver.wait(3)
    assert last.at - first.at > 0.3


def test_fault_late_callback_keeps_the_payment_in_the_books_meanwhile(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.arm("late_callback", after_s=12_000)

    customer.push(scenario("00"))

    assert customer.simulator.closed(scenario("00"))["state"] == "paid"
    assert receiver.received == []
    customer.simulator.settings(speed=10_000)
    assert codes(receiver.wait()) == ["0"]


def test_fault_wrong_amount_can_name_a_currency(customer: Customer, receiver: Receiver) -> None:
    customer.simulator.arm("wrong_amount", delta=0, currency="USD")

    customer.push(scenario("00"))

    found = items(receiver.wait()[0])
    assert (found["Amount"], found["Currency"]) == (100, "USD")


def test_fault_forged_token_knocks_at_another_path(customer: Customer, receiver: Receiver) -> None:
    customer.simulator.settings(speed=CALM)
    customer.simulator.arm("forged", how="token", headers={"X-Forwarded-For": "196.201.212.69"})

    customer.push(MANUAL)

    forged = receiver.wait()[0]
    assert forged.path.startswith("/in/k/")
    assert forged.path != "/in/k/0123456789abcdef"
    assert forged.headers["x-forwarded-for"] == "196.201.212.69"
    assert customer.simulator.books() == []


def test_fault_token_expires_after_a_moment_although_it_promised_an_hour(
    customer: Customer,
) -> None:
    customer.simulator.arm("token_expires", ttl_s=2, code="401.002.01")
    promised = customer.authenticate().json()["expires_in"]
    early = customer.push(MANUAL)
    time.sleep(2)

    late = customer.push(MANUAL)

    assert str(promised) == "3599"
    assert early.status_code == 200
    assert error(late)[:2] == (401, "401.002.01")


@pytest.mark.parametrize("kind", ["html", "truncated", "empty"])
def test_fault_garbage_answers_200_with_no_json(
    customer: Customer, receiver: Receiver, kind: str
) -> None:
    customer.simulator.arm("garbage", kind=kind)

    answer = customer.push(scenario("00"))

    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    assert codes(receiver.wait()) == ["0"]


@pytest.mark.parametrize("kind", ["html", "truncated", "empty"])
def test_fault_garbage_spoils_a_callback(customer: Customer, receiver: Receiver, kind: str) -> None:
    customer.simulator.arm("garbage", kind=kind, at="callback")

    customer.push(scenario("00"))

    with pytest.raises(json.JSONDecodeError):
        json.loads(receiver.wait()[0].body)


def test_fault_garbage_spoils_a_query_and_a_token(customer: Customer, receiver: Receiver) -> None:
    asked = checkout(customer.push(scenario("00")))
    receiver.wait()
    customer.simulator.arm("garbage", at="query", phone=scenario("00"))
    customer.simulator.arm("garbage", at="token", kind="empty")

    queried = customer.query(asked)
    granted = customer.simulator.http.get(
        "/oauth/v1/generate?grant_type=client_credentials",
        auth=(PAY_BILL.consumer_key, PAY_BILL.consumer_secret),
    )

    assert (queried.status_code, queried.text[:6]) == (200, "<html>")
    assert (granted.status_code, granted.content) == (200, b"")


@pytest.mark.parametrize("at", ["push", "any"])
def test_fault_down_answers_503_until_it_is_lifted(customer: Customer, at: str) -> None:
    customer.authenticate()
    customer.simulator.arm("down", sticky=True, at=at)
    refused = [customer.push(MANUAL).status_code for _ in range(3)]
    customer.simulator.control("DELETE", "faults")

    accepted = customer.push(MANUAL).status_code

    assert (refused, accepted) == ([503, 503, 503], 200)
    assert customer.simulator.log()["counts"]["prompts_by_phone"] == {MANUAL: 1}


def test_fault_down_can_be_a_spike_arrest(customer: Customer) -> None:
    customer.simulator.arm("down", spike_arrest=True, at="push")

    assert error(customer.push(MANUAL))[:2] == (429, "500.003.02")


def test_fault_down_at_the_token_leaves_pushes_alone(customer: Customer) -> None:
    customer.authenticate()
    customer.simulator.arm("down", at="token", status=500)

    assert customer.push(MANUAL).status_code == 200
    assert customer.authenticate().status_code == 500


def test_spike_arrest_refuses_what_exceeds_the_rate(customer: Customer) -> None:
    customer.authenticate()
    customer.simulator.settings(spike_arrest_per_s=3)

    statuses = [customer.push(MANUAL).status_code for _ in range(5)]

    assert statuses == [200, 200, 200, 429, 429]


def test_faults_combine_and_each_hits_once(customer: Customer, receiver: Receiver) -> None:
    customer.simulator.arm("lost_sync", phone=MANUAL)
    customer.simulator.arm("duplicate_callback", copies=2, phone=MANUAL)
    customer.simulator.arm("fails", code="2001", phone=MANUAL)

    first = customer.push(MANUAL)
    callbacks = receiver.wait(2)
    other = customer.push(MANUAL)

    assert (first.status_code, other.status_code) == (502, 200)
    assert codes(callbacks) == ["2001", "2001"]
    assert customer.simulator.control("GET", "faults")["armed"] == []


def test_fault_of_one_phone_leaves_others_alone(customer: Customer) -> None:
    customer.simulator.arm("refused", phone=MANUAL)

    assert customer.push("254700000099").status_code == 200
    assert customer.push(MANUAL).status_code == 429


@pytest.mark.parametrize(
    "body",
    [
        {"fault": "nothing"},
        {"fault": "slow", "minutes": 3},
        {"fault": "duplicate_callback", "copies": 1},
        {"fault": "slow", "phone": "0712345678"},
    ],
)
def test_control_refuses_a_fault_it_does_not_know(simulator: Simulator, body: Any) -> None:
    answer = simulator.http.post("/control/faults", json=body)

    assert answer.status_code == 422


@pytest.mark.parametrize("change", [{"pace": 2}, {"speed": 0}, {"mode": "sometimes"}])
def test_control_refuses_a_setting_it_does_not_know(simulator: Simulator, change: Any) -> None:
    answer = simulator.http.post("/control/settings", json=change)

    assert answer.status_code == 422
    assert simulator.control("GET", "settings")["speed"] == SPEED


def test_every_fault_of_the_grid_exists(simulator: Simulator) -> None:
    grid = {
        "slow", "lost_sync", "refused", "callback_first", "duplicate_callback", "late_callback",
        "lost_callback", "contradiction", "wrong_amount", "forged", "unknown_code",
        "token_expires", "garbage", "restart", "down",
    }  # fmt: skip

    known = {name for name in grid if ONE.validate_python({"fault": name})}

    assert known == grid


# A person on the phone


@pytest.mark.parametrize(
    ("action", "code"), [("pay", "0"), ("cancel", "1032"), ("wrong_pin", "2001")]
)
def test_person_decides_an_open_prompt(
    customer: Customer, receiver: Receiver, action: str, code: str
) -> None:
    customer.simulator.settings(speed=1)
    asked = checkout(customer.push(MANUAL))

    customer.simulator.control("POST", f"prompts/{asked}", {"action": action})

    assert codes(receiver.wait()) == [code]


def test_ignored_prompt_ends_unanswered_after_its_life(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.settings(speed=20)
    asked = checkout(customer.push(MANUAL))
    started = time.monotonic()

    customer.simulator.control("POST", f"prompts/{asked}", {"action": "ignore"})

    assert codes(receiver.wait()) == ["1037"]
    assert time.monotonic() - started > 2


def test_decided_prompt_cannot_be_decided_again(customer: Customer, receiver: Receiver) -> None:
    asked = checkout(customer.push(scenario("00")))
    receiver.wait()

    answer = customer.simulator.http.post(f"/control/prompts/{asked}", json={"action": "cancel"})

    assert answer.status_code == 409
    assert len(customer.simulator.books()) == 1


def test_auto_mode_pays_for_phones_without_a_scenario(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.settings(mode="auto")

    customer.push(MANUAL)

    assert codes(receiver.wait()) == ["0"]


# Log, C2B, restart


def test_log_holds_every_request_with_its_result(customer: Customer) -> None:
    customer.push(MANUAL, AccountReference="INV-77")
    customer.push(MANUAL, amount=0)

    requests = customer.simulator.log()["requests"]

    seen = [(each["endpoint"], each["status"], each["result"]) for each in requests]
    assert seen == [
        ("token", 200, "accepted"),
        ("push", 200, "accepted"),
        ("push", 400, "400.002.02"),
    ]
    assert (requests[1]["account_reference"], requests[1]["phone"]) == ("INV-77", MANUAL)


def test_registered_short_code_gets_a_confirmation_twin(
    customer: Customer, receiver: Receiver
) -> None:
    customer.simulator.settings(shape_noise=False)
    customer.authenticate()
    registered = customer.simulator.http.post(
        "/mpesa/c2b/v2/registerurl",
        json={
            "ShortCode": PAY_BILL.short_code,
            "ResponseType": "Completed",
            "ConfirmationURL": f"{receiver.url}/confirmed",
            "ValidationURL": f"{receiver.url}/validated",
        },
        headers={"authorization": f"Bearer {customer.token}"},
    )

    customer.push(scenario("12"))

    twin = json.loads(receiver.wait()[0].body)
    assert registered.json()["ResponseCode"] == "0"
    assert (twin["TransID"], twin["TransAmount"]) == (
        customer.simulator.books()[0]["receipt"],
        "100.00",
    )
    assert (twin["MSISDN"], twin["OrgAccountBalance"]) == ("2547****612", "100.00")


def test_restart_keeps_books_and_the_callbacks_still_to_come(
    tmp_path: Path, receiver: Receiver
) -> None:
    with simulating(tmp_path) as simulator:
        customer = Customer(simulator, f"{receiver.url}/in/k/1")
        simulator.settings(query_noise=0)
        simulator.arm("late_callback", after_s=3)
        simulator.arm("pays", after_s=0)
        asked = checkout(customer.push(MANUAL))
        waiting = checkout(customer.push("254712345699"))
        before = until(simulator.books)
        simulator.control("POST", "restart")
        until(lambda: b"restarting" in (tmp_path / "log").read_bytes() and "seen")
        wait_ready(simulator)

        simulator.control("POST", f"prompts/{waiting}", {"action": "pay"})

        assert codes(receiver.wait(2)) == ["0", "0"]
        assert simulator.books()[0] == before[0]
        assert customer.query(asked).json()["ResultCode"] == "0"
        assert simulator.log()["counts"]["charges_by_phone"] == {MANUAL: 1, "254712345699": 1}


def test_restart_before_the_answer_keeps_the_prompt(tmp_path: Path, receiver: Receiver) -> None:
    with simulating(tmp_path) as simulator:
        customer = Customer(simulator, f"{receiver.url}/in/k/1")
        customer.authenticate()
        simulator.arm("restart", moment="before_answer")

        with pytest.raises(httpx.TransportError):
            customer.push(MANUAL)

        until(lambda: b"restarting" in (tmp_path / "log").read_bytes() and "seen")
        wait_ready(simulator)
        assert simulator.prompt(MANUAL)["state"] == "open"


def test_crash_keeps_the_prompt_open_and_the_payment_booked(
    tmp_path: Path, receiver: Receiver
) -> None:
    with simulating(tmp_path) as simulator:
        customer = Customer(simulator, f"{receiver.url}/in/k/1")
        asked = checkout(customer.push(MANUAL))
        customer.push(scenario("00"), amount=7)
        receiver.wait()
        simulator.process.send_signal(signal.SIGKILL)
        simulator.process.wait()

    with simulating(tmp_path) as again:
        states = [each["state"] for each in again.control("GET", "prompts")]
        again.control("POST", f"prompts/{asked}", {"action": "pay"})

        receiver.wait(2)
        assert len(receiver.received) == 2
        assert states == ["paid", "open"]
        assert sorted(entry["amount"] for entry in again.books()) == [7, 100]


def test_same_seed_gives_the_same_shapes(tmp_path: Path, receiver: Receiver) -> None:
    def shapes(name: str) -> list[list[str]]:
        receiver.received.clear()
        with simulating(tmp_path / name, seed=7) as simulator:
            simulator.settings(speed=SPEED)
            customer = Customer(simulator, f"{receiver.url}/in/k/1")
            for _ in range(8):
                customer.push(scenario("10"))
            return [list(items(each)) for each in receiver.wait(8)]

    assert shapes("one") == shapes("two")


def test_concurrent_pushes_get_prompts_of_their_own(customer: Customer, receiver: Receiver) -> None:
    customer.authenticate()

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: customer.push(scenario("00")), range(48)))

    receiver.wait(48)
    entries = customer.simulator.books()
    assert len({checkout(answer) for answer in answers}) == 48
    assert len({entry["receipt"] for entry in entries}) == 48


def test_password_is_base64_of_short_code_passkey_and_time(customer: Customer) -> None:
    signed = customer.signature()

    decoded = base64.b64decode(signed["Password"]).decode()

    assert decoded == f"600174{PAY_BILL.passkey}{signed['Timestamp']}"
