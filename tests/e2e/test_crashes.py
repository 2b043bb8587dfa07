"""kill -9 of each process at the worst moments: no money lost, none charged twice, nothing stuck.

After every kill the supervisor starts the process again; nobody does anything else by hand.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.support.house import SPEED, House, Merchant, new_key, own_house
from tests.support.simulator import PATIENCE_S, Json, msisdn, new_phone, until


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with own_house("crashes", fsync=True) as house:
        yield house


@pytest.fixture
def merchant(house: House) -> Iterator[Merchant]:
    yield house.merchant()
    house.daraja.disarm()


def kill(house: House, *processes: str) -> None:
    """SIGKILL each and wait until everything answers again."""
    for process in processes:
        house.stack.kill(process)
    house.stack.wait_ready()
    house.reconnect()


def age_claims(house: House) -> None:
    """A minute passes for requests that never got their answer."""
    house.books.run(
        "update public.idempotency_keys set claimed_at = claimed_at - interval '61 seconds'"
        " where status is null"
    )


def confirm_and_kill(
    house: House, merchant: Merchant, intent_id: str, phone: str, key: str
) -> None:
    """Daraja has the push and shows the prompt; the gateway dies before it hears of it."""
    house.daraja.arm("slow", phone=msisdn(phone), seconds=20, wall=True)
    with ThreadPoolExecutor(1) as pool:
        unanswered = pool.submit(merchant.confirm, intent_id, phone, key)
        house.daraja.prompted(phone)
        kill(house, "gateway")
        assert isinstance(unanswered.exception(), httpx.TransportError)


# --- the gateway dies between "sent to Daraja" and "recorded"


def test_payment_sent_before_the_crash_succeeds_after_it(house: House, merchant: Merchant) -> None:
    intent_id, phone, key = merchant.create()["id"], new_phone(), new_key()
    confirm_and_kill(house, merchant, intent_id, phone, key)
    early = merchant.confirm(intent_id, phone, key)

    house.daraja.act(phone, "pay")

    paid = merchant.wait(intent_id, "succeeded")
    assert paid["latest_transfer"]["receipt"] == house.daraja.prompts(phone)[0]["receipt"]
    assert (early.status_code, early.json()["code"]) == (409, "40904")
    assert int(early.headers["Retry-After"]) > 0
    age_claims(house)
    replayed = merchant.confirm(intent_id, phone, key)
    assert replayed.headers["Idempotent-Replayed"] == "true"
    assert replayed.json() == merchant.get(intent_id)
    assert len(house.daraja.prompts(phone)) == 1
    assert merchant.differences() == []


def test_payer_who_cancels_after_the_crash_may_pay_later(house: House, merchant: Merchant) -> None:
    intent_id, phone = merchant.create()["id"], new_phone()
    confirm_and_kill(house, merchant, intent_id, phone, new_key())

    house.daraja.act(phone, "cancel")

    failed = merchant.wait(intent_id, "requires_payment_method")
    assert failed["last_error"]["code"] == "MM_USER_CANCELLED"
    merchant.confirm(intent_id, second := new_phone()).raise_for_status()
    house.daraja.act(second, "pay")
    merchant.wait(intent_id, "succeeded")
    assert merchant.differences() == []


def test_payment_nobody_hears_of_waits_for_a_person_and_is_not_repeated(
    house: House, merchant: Merchant
) -> None:
    intent_id, phone, key = merchant.create()["id"], new_phone("12"), new_key()
    confirm_and_kill(house, merchant, intent_id, phone, key)
    age_claims(house)

    replayed = merchant.confirm(intent_id, phone, key)
    again = merchant.confirm(intent_id, phone)

    assert (replayed.json()["status"], again.status_code) == ("processing", 409)
    ten_minutes_pass(house, merchant)
    waiting = house.ask_until_review(merchant, intent_id)["latest_transfer"]
    assert (waiting["state"], waiting["needs_review"]) == ("SUBMITTED", True)
    assert ("transfer_needs_review", waiting["id"]) in merchant.alerts()
    assert len(house.daraja.prompts(phone)) == 1


def ten_minutes_pass(house: House, merchant: Merchant) -> None:
    """For attempts whose reference we never learned; then nobody can be asked about them."""
    house.books.run(
        "update payments.transfers set submitted_at = submitted_at - interval '10 minutes'"
        " where tenant_id = %s and rail_ref is null",
        merchant.tenant_id,
    )


# --- somebody dies before the attempt is committed


@contextmanager
def stuck_before_commit(
    house: House, merchant: Merchant, intent_id: str, phone: str, key: str
) -> Iterator[Future[httpx.Response]]:
    """A confirm request that waits inside its transaction; the lock is lifted at the end."""
    holder = house.stack.database.connect(autocommit=False)
    holder.execute(
        "select from payments.payment_intents where payment_intent_id = %s for update", [intent_id]
    )
    waiting = (
        "select count(*)::int from pg_stat_activity"
        " where wait_event_type = 'Lock' and query ilike '%%begin_transfer%%'"
    )
    with ThreadPoolExecutor(1) as pool:
        request = pool.submit(merchant.confirm, intent_id, phone, key)
        until(lambda: house.books.value(waiting), "waiting")
        yield request
        holder.close()


@pytest.mark.parametrize("processes", [("postgrest",), ("postgres",), ("postgrest", "postgres")])
def test_crash_before_commit_leaves_intent_and_key_unharmed(
    house: House, merchant: Merchant, processes: tuple[str, ...]
) -> None:
    intent_id, phone, key = merchant.create()["id"], new_phone(), new_key()

    with stuck_before_commit(house, merchant, intent_id, phone, key) as request:
        kill(house, *processes)
    refused = request.result()

    assert (refused.status_code, refused.json()["code"]) == (503, "50301")
    assert int(refused.headers["Retry-After"]) > 0
    assert merchant.get(intent_id)["status"] == "requires_payment_method"
    assert (merchant.transfers(), house.daraja.prompts(phone)) == ([], [])
    again = merchant.confirm(intent_id, phone, key)
    assert (again.status_code, "Idempotent-Replayed" in again.headers) == (200, False)
    house.daraja.act(phone, "pay")
    merchant.wait(intent_id, "succeeded")
    assert merchant.differences() == []


def test_gateway_that_dies_before_the_commit_never_prompts(
    house: House, merchant: Merchant
) -> None:
    intent_id, phone, key = merchant.create()["id"], new_phone(), new_key()

    with stuck_before_commit(house, merchant, intent_id, phone, key) as request:
        house.stack.kill("gateway")
    kill(house)
    age_claims(house)
    replayed = merchant.confirm(intent_id, phone, key)

    assert isinstance(request.exception(), httpx.TransportError)
    # The Data API finished what it had begun: an attempt of which nothing was sent. It waits.
    assert (replayed.status_code, replayed.json()["status"]) == (200, "processing")
    assert [t["state"] for t in merchant.transfers()] == ["SUBMITTED"]
    assert house.daraja.prompts(phone) == []
    ten_minutes_pass(house, merchant)
    assert house.ask_until_review(merchant, intent_id)["status"] == "processing"


# --- the database is away


@pytest.mark.parametrize("process", ["postgrest", "postgres"])
def test_requests_while_the_database_is_away_are_told_to_come_back(
    house: House, merchant: Merchant, process: str
) -> None:
    intent_id = merchant.create()["id"]
    house.stack.kill(process)

    answers = [
        merchant.post("/payment-intents", {"amount": "1.00", "currency": "KES"}),
        merchant.api.get(f"/payment-intents/{intent_id}"),
        house.http.get("/payment-intents/readyz"),
    ]
    alive = house.http.get("/payment-intents/healthz")

    kill(house)
    assert alive.status_code == 200
    assert {answer.status_code for answer in answers} <= {200, 201, 503}
    refused = [answer for answer in answers if answer.status_code == 503]
    assert {answer.json()["code"] for answer in refused} == {"50301"}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert house.http.get("/payment-intents/readyz").status_code == 200
    assert merchant.get(intent_id)["status"] == "requires_payment_method"


@pytest.mark.parametrize("process", ["gateway", "postgrest", "postgres"])
def test_callbacks_that_found_nobody_are_made_up_for_by_asking(
    house: House, merchant: Merchant, process: str
) -> None:
    phones = [new_phone() for _ in range(5)]
    intents = [merchant.start(phone) for phone in phones]

    house.stack.kill(process)
    for phone in phones:
        house.daraja.act(phone, "pay")
    kill(house)

    found = [house.ask_until(merchant, intent_id, "succeeded") for intent_id in intents]
    assert {intent["amount_received"] for intent in found} == {"100.00"}
    assert merchant.differences() == []


# --- a burst with kills in the middle


@pytest.fixture
def slow_payers(house: House) -> Iterator[None]:
    """Payers take half a second, so that kills meet every stage."""
    house.daraja.settings(speed=4)
    yield
    house.daraja.settings(speed=SPEED)


@pytest.mark.usefixtures("slow_payers")
def test_burst_with_kills_ends_with_equal_books(
    house: House, merchant: Merchant, report: Callable[[str], None]
) -> None:
    phones = [new_phone("00") for _ in range(40)]

    with ThreadPoolExecutor(8) as pool:
        payments = [pool.submit(insist, merchant, phone) for phone in phones]
        for process in ("postgrest", "postgres", "postgrest", "postgres"):
            time.sleep(0.4)
            house.stack.kill(process)
            house.stack.wait_ready()
        intents = [payment.result() for payment in payments]

    house.reconnect()
    until(lambda: all(is_over(house, phone) for phone in phones), "the end of all prompts")
    settle(house, merchant)
    states = {transfer["transfer_id"]: transfer for transfer in merchant.transfers()}
    watched = set(house.books.column("select transfer_id from rails.watches"))
    unfinished = [t for t in states.values() if t["state"] not in ("SETTLED", "FAILED")]
    report(
        f"40 payments, 4 kills: {len(states)} attempts, {len(unfinished)} wait for a person,"
        f" {sum(t['state'] == 'SETTLED' for t in states.values())} settled"
    )
    assert len(set(intents)) == 40
    assert {t["transfer_id"] for t in unfinished} <= watched
    assert all(t["review_reason"] == "rail_gave_no_reference" for t in unfinished)
    assert max(len(house.daraja.prompts(phone)) for phone in phones) == 1
    # What is not booked was paid for an attempt that says itself that nobody knows.
    assert len(merchant.differences()) <= len(unfinished)
    assert all("not booked" in line for line in merchant.differences())


def is_over(house: House, phone: str) -> bool:
    return all(prompt["state"] != "open" for prompt in house.daraja.prompts(phone))


def insist(merchant: Merchant, phone: str) -> str:
    """A good client: the same key until there is an answer, for a minute. The intent."""
    body, key = {"amount": "100.00", "currency": "KES"}, new_key()
    created = insistently(lambda: merchant.post("/payment-intents", body, key))
    assert created is not None
    intent_id = str(created["id"])
    insistently(lambda: merchant.confirm(intent_id, phone, key))
    return intent_id


def insistently(send: Callable[[], httpx.Response]) -> Json | None:
    """The answer; None when the house says that it is still at it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            answer = send()
        except httpx.TransportError:
            answer = None
        if answer is not None and answer.is_success:
            return dict(answer.json())
        if answer is not None:
            assert answer.status_code in (503, 409), answer.text
            if answer.status_code == 409:
                return None
        time.sleep(0.1)
    return None


def settle(house: House, merchant: Merchant) -> None:
    """Everything that asking can find out is found out; the rest is given to people."""
    ten_minutes_pass(house, merchant)
    for _ in range(5):
        house.make_due(merchant)
        house.reconcile()
