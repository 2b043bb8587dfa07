"""What operators see of a payment, and what they must never see."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.stack.daraja.credentials import PAY_BILL
from tests.support.house import House, Merchant, new_key, own_house
from tests.support.simulator import Json, Tap, callback_body, msisdn, new_phone, until

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"  # the caller's span; ours must be others
FUNCTIONS = ("payment-intents", "momo-callback", "reconcile")


@pytest.fixture(scope="module")
def tap() -> Iterator[Tap]:
    """Between our production rail and the simulator."""
    tap = Tap()
    yield tap
    tap.seat.close()


@pytest.fixture(scope="module")
def house(tap: Tap) -> Iterator[House]:
    with own_house("observed", daraja_production_url=tap.url) as house:
        yield house


@pytest.fixture
def merchant(house: House) -> Merchant:
    return house.merchant()


def words(house: House) -> list[str]:
    """What our processes said; the simulator is another party and keeps its own log."""
    log = Path(house.stack.state / "log").read_text()
    return [line for line in log.splitlines() if not line.startswith("daraja |")]


def said(house: House, *about: str) -> list[str]:
    """The lines that hold all of these words, as soon as there is one."""
    return until(
        lambda: [line for line in words(house) if all(word in line for word in about)],
        f"a line about {about}",
    )


def call_back(url: str, content: bytes) -> httpx.Response:
    return httpx.post(
        url, content=content, headers={"content-type": "application/json"}, trust_env=False
    )


# --- logs


def test_logs_hold_no_phone_no_secret_and_no_body(house: House, merchant: Merchant) -> None:
    phone, failing = new_phone(), new_phone()
    planted: Json = {
        "customer": {"name": "Wanjiku Planted", "email": "planted@acacia.example"},
        "description": "planted description",
        "metadata": {"planted_key": "planted value"},
        "return_url": "https://planted.example/back",
    }
    intent = merchant.create("100.00", **planted)
    key = "planted-idempotency-key"
    merchant.confirm(intent["id"], phone, key).raise_for_status()
    prompt = house.daraja.prompted(phone)
    callback_token = prompt["callback_url"].rpartition("/")[2]
    stream_token = merchant.api.post(f"/payment-intents/{intent['id']}/stream-token").json()
    # What goes wrong is what tempts people to log.
    merchant.confirm(intent["id"], "0712 planted")
    merchant.post("/payment-intents", {"amount": "planted amount", "currency": "KES"})
    merchant.post("/payment-intents", {"planted_field": "planted", "amount": "1", "currency": "X"})
    merchant.api.get(f"/payment-intents/pi_planted_{phone}")
    merchant.api.get("/payment-intents", params={"planted": "planted", "cursor": phone})
    house.client(f"sk_test_planted{'0' * 36}").get("/payment-intents")
    house.client("planted.user.token").get("/payment-intents")
    house.http.get(f"/payment-intents/{intent['id']}/events", params={"token": "plantedtoken"})
    call_back(prompt["callback_url"], b"<html>planted body</html>")
    call_back(prompt["callback_url"], b'{"Body":{"stkCallback":{"ResultDesc":"planted \\u0000"}}}')
    unmatched = house.stack.functions_url + "/momo-callback/plantedpathtoken"
    call_back(unmatched, b'{"planted": "body"}')
    house.daraja.arm("fails", phone=msisdn(failing), code="2001", after_s=1)
    merchant.wait(merchant.start(failing), "requires_payment_method")
    house.daraja.act(phone, "pay")
    paid = merchant.wait(intent["id"], "succeeded")
    house.reconcile()

    said(house, "rail_callback_received", paid["latest_transfer"]["id"])
    text = "\n".join(words(house))

    assert '"outcome":"pending"' in text
    secrets = [
        merchant.secret,
        merchant.publishable,
        intent["client_secret"],
        stream_token["token"],
        callback_token,
        PAY_BILL.consumer_key,
        PAY_BILL.consumer_secret,
        PAY_BILL.passkey,
        house.stack.keys["internal_token"],
        house.stack.keys["vault_keys"]["1"],
        key,
    ]
    personal = [p for n in (phone, failing) for p in (n, n[1:], msisdn(n))]
    receipt = paid["latest_transfer"]["receipt"]
    assert [found for found in [*secrets, *personal, receipt] if found in text] == []
    assert re.findall(r".*planted.*", text, re.IGNORECASE) == []
    assert "Wanjiku" not in text


def test_every_line_of_a_function_is_one_json_object_with_the_request(
    house: House, merchant: Merchant
) -> None:
    answer = merchant.api.get("/payment-intents", headers={"x-request-id": "req-of-the-caller-1"})

    lines = said(house, "req-of-the-caller-1")

    assert answer.headers["x-request-id"] == "req-of-the-caller-1"
    assert len(lines) == 1
    assert '"event":"request_answered"' in lines[0]
    assert '"route":"/"' in lines[0]
    assert '"status":200' in lines[0]


# --- one trace from the merchant to the rail


def test_trace_of_the_caller_reaches_events_logs_and_rail(house: House, tap: Tap) -> None:
    live = house.merchant(environment="production")
    trace = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    body = {"payment_method": {"type": "mpesa", "phone": new_phone()}}
    intent_id = live.create()["id"]
    before = len(tap.heard)

    with tap.open_to(house.daraja.url):
        live.api.post(
            f"/payment-intents/{intent_id}/confirm",
            json=body,
            headers=trace | {"Idempotency-Key": new_key()},
        ).raise_for_status()

    pushes = [headers for path, headers in tap.heard[before:] if "stkpush" in path]
    assert [headers["traceparent"].split("-")[1] for headers in pushes] == [TRACE]
    events = house.books.column(
        "select distinct split_part(traceparent, '-', 2) from ("
        " select payment_intent_id, type, traceparent from payments.transfer_events"
        " union all select payment_intent_id, type, traceparent from payments.intent_events"
        ") as e where payment_intent_id = %s and type <> 'payment_intent.created'",
        intent_id,
    )
    assert events == [TRACE]
    spans = house.books.column(
        "select split_part(traceparent, '-', 3) from payments.transfer_events"
        " where payment_intent_id = %s",
        intent_id,
    )
    assert CALLER not in spans
    assert len(said(house, TRACE, "request_answered", '"outcome":"pending"')) == 1


def test_malformed_trace_is_replaced_not_passed_on(house: House, merchant: Merchant) -> None:
    answer = merchant.post("/payment-intents", {"amount": "1.00", "currency": "KES"})
    odd = merchant.api.post(
        "/payment-intents",
        json={"amount": "1.00", "currency": "KES"},
        headers={"traceparent": "00-zz-zz-01", "Idempotency-Key": new_key()},
    )

    traces = house.books.column(
        "select traceparent from payments.intent_events where tenant_id = %s", merchant.tenant_id
    )
    assert answer.is_success
    assert odd.is_success
    assert all(re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", t) for t in traces)
    assert len(set(traces)) == 2


# --- numbers


def calls(house: House) -> dict[str, float]:
    """Data API calls so far, by SQL function."""
    text = house.http.get("/payment-intents/metrics").text
    text += house.http.get("/momo-callback/metrics").text
    sample = r'^stalela_data_api_calls_total\{.*rpc="([^"]+)".*\} (\S+)$'
    return {rpc: float(value) for rpc, value in re.findall(sample, text, re.MULTILINE)}


def test_payment_costs_one_call_to_create_two_to_confirm_one_to_call_back(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone()
    intent_id = merchant.start(phone)
    before = calls(house)

    key, second = new_key(), new_phone()
    other = merchant.post("/payment-intents", {"amount": "1.00", "currency": "KES"}).json()["id"]
    merchant.confirm(other, second, key).raise_for_status()
    prompt = house.daraja.prompted(second)
    call_back(prompt["callback_url"], json.dumps(callback_body(prompt, 1)).encode())

    after = calls(house)
    spent = {rpc: after[rpc] - before.get(rpc, 0) for rpc in after if after[rpc] != before.get(rpc)}
    assert spent == {
        "payments.create_intent": 1,
        "payments.begin_transfer": 1,
        "payments.record_submission": 1,
        "rails.receive_callback": 1,
    }
    assert merchant.get(intent_id)["status"] == "processing"


def test_metrics_count_requests_and_time_them(house: House, merchant: Merchant) -> None:
    name, labels = "stalela_requests_total", {"route": "/", "status": "201"}
    before = house.metric("payment-intents", name, **labels)

    merchant.create()
    merchant.create()

    assert house.metric("payment-intents", name, **labels) == before + 2
    timed = house.metric("payment-intents", "stalela_request_duration_seconds_count", route="/")
    assert timed >= before + 2


def test_metrics_never_hold_a_path(house: House, merchant: Merchant) -> None:
    intent_id = merchant.create()["id"]
    call_back(house.stack.functions_url + "/momo-callback/sometokenofsomebody", b"{}")

    text = "".join(house.http.get(f"/{function}/metrics").text for function in FUNCTIONS)

    assert 'route="/{payment_intent_id}"' not in text or intent_id not in text
    assert intent_id not in text
    assert "sometokenofsomebody" not in text
    assert 'route="/{token}"' in text


def test_rail_calls_are_counted_by_outcome(house: House, merchant: Merchant) -> None:
    name = "stalela_rail_calls_total"
    before = house.metric("payment-intents", name, rail="mpesa", operation="submit")
    refused = new_phone()
    house.daraja.arm("refused", phone=msisdn(refused), code="500.003.02")

    merchant.start(new_phone())
    merchant.start(refused)

    counted = [
        house.metric("payment-intents", name, operation="submit", outcome=outcome)
        for outcome in ("pending", "failed_retryable")
    ]
    assert min(counted) >= 1
    assert house.metric("payment-intents", name, rail="mpesa", operation="submit") == before + 2


def test_answers_say_how_long_they_took(merchant: Merchant) -> None:
    answer = merchant.api.get("/payment-intents")

    assert float(answer.headers["x-stalela-processing-ms"]) > 0
    assert "db;dur=" in answer.headers["server-timing"]


# --- health


@pytest.mark.parametrize("function", FUNCTIONS)
def test_health_needs_no_credential(house: House, function: str) -> None:
    answers: dict[str, Json] = {
        page: house.http.get(f"/{function}/{page}").raise_for_status().json()
        for page in ("healthz", "readyz", "version")
    }

    assert answers["healthz"] == {"status": "ok"}
    assert answers["readyz"] == {"status": "ok"}
    assert answers["version"]["function"] == function.replace("-", "_")
