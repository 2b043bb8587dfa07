"""Money out over M-Pesa: scenarios 30 to 36 of the simulator, through the public API."""

from collections.abc import Iterator

import pytest

from scripts.stack.stack import Stack
from tests.support.house import House, Merchant, living_in, new_key
from tests.support.simulator import Json, msisdn, new_phone, until

OPEN = ("pending", "processing")


@pytest.fixture(scope="module")
def house(stack: Stack) -> Iterator[House]:
    with living_in(stack) as house:
        yield house


@pytest.fixture
def merchant(house: House) -> Merchant:
    return house.merchant()


def pay_out(merchant: Merchant, phone: str, key: str | None = None, amount: str = "250.00") -> Json:
    body = {
        "amount": amount,
        "currency": "KES",
        "destination": {"type": "mpesa", "phone": phone},
        "description": "November",
    }
    return dict(merchant.post("/payouts", body, key).raise_for_status().json())


def refund(merchant: Merchant, intent_id: str, amount: str | None = None) -> Json:
    """All that is left, or part of it."""
    part = {"amount": amount, "currency": "KES"} if amount else {}
    answer = merchant.post("/refunds", {"payment_intent": intent_id} | part)
    assert answer.is_success, answer.text
    return dict(answer.json())


def ended(merchant: Merchant, noun: str, made: Json) -> Json:
    """The payout or refund once nobody waits for it any more."""

    def look() -> Json | None:
        now = dict(merchant.api.get(f"/{noun}/{made['id']}").raise_for_status().json())
        return None if now["status"] in OPEN else now

    return until(look, f"the end of {made['id']}")


def paid(merchant: Merchant, phone: str, amount: str = "100.00") -> str:
    """A payment by a phone whose scenario pays; the intent's id."""
    intent_id = merchant.start(phone, amount)
    merchant.wait(intent_id, "succeeded")
    return intent_id


def moved(house: House, kind: str, phone: str) -> list[Json]:
    """What the simulator's books say went to a phone."""
    entries = house.daraja.books()
    return [e for e in entries if e["kind"] == kind and e["paid_to"] == msisdn(phone)]


@pytest.mark.parametrize("scenario", ["30", "33", "35", "36"])
def test_a_payout_is_paid_once_however_it_is_told(
    house: House, merchant: Merchant, scenario: str
) -> None:
    phone = new_phone(scenario)

    payout = ended(merchant, "payouts", pay_out(merchant, phone))

    [entry] = moved(house, "payout", phone)
    assert (payout["status"], payout["receipt"]) == ("succeeded", entry["receipt"])
    assert entry["amount"] == 250


@pytest.mark.parametrize(
    ("scenario", "code"), [("31", "MERCHANT_NO_FLOAT"), ("32", "MM_NOT_REGISTERED")]
)
def test_a_payout_that_fails_moves_nothing_and_says_why(
    house: House, merchant: Merchant, scenario: str, code: str
) -> None:
    phone = new_phone(scenario)

    payout = ended(merchant, "payouts", pay_out(merchant, phone))

    assert (payout["status"], payout["failure"]["code"]) == ("failed", code)
    assert moved(house, "payout", phone) == []


def test_a_timeout_then_nothing_stays_open_and_is_never_sent_again(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone("34")

    payout, sent = pay_out(merchant, phone), house.daraja.requests("payout")
    house.daraja.delivered(phone, 1)
    for _ in range(3):
        house.make_due(merchant)
        house.reconcile()

    now = merchant.api.get(f"/payouts/{payout['id']}").json()
    assert now["status"] in OPEN
    assert house.daraja.requests("payout") == sent
    assert moved(house, "payout", phone) == []


@pytest.mark.parametrize("how", ["502", "reset"])
def test_a_payout_whose_answer_and_result_are_lost_is_found_by_asking(
    house: House, merchant: Merchant, how: str
) -> None:
    phone = new_phone()
    house.daraja.arm("lost_sync", at="payout", phone=msisdn(phone), how=how)
    house.daraja.arm("lost_callback", at="payout", phone=msisdn(phone))

    made = pay_out(merchant, phone)
    until(lambda: moved(house, "payout", phone), "the payout")
    house.make_due(merchant)
    house.reconcile()

    payout = ended(merchant, "payouts", made)
    [entry] = moved(house, "payout", phone)
    assert (payout["status"], payout["receipt"]) == ("succeeded", entry["receipt"])


def test_the_same_key_pays_once(house: House, merchant: Merchant) -> None:
    phone, key = new_phone("30"), new_key()

    first, second = pay_out(merchant, phone, key), pay_out(merchant, phone, key)
    ended(merchant, "payouts", first)

    assert first["id"] == second["id"]
    assert len(moved(house, "payout", phone)) == 1


def test_a_whole_payment_goes_back_by_reversal(house: House, merchant: Merchant) -> None:
    phone = new_phone("00")
    intent_id = paid(merchant, phone)

    made = ended_or_asked(house, merchant, refund(merchant, intent_id))
    again = merchant.post("/refunds", {"payment_intent": intent_id})

    [entry] = moved(house, "reversal", phone)
    assert (made["status"], made["receipt"]) == ("succeeded", entry["receipt"])
    assert (entry["amount"], again.json()["code"]) == (100, "42255")


def test_a_part_of_a_payment_goes_back_as_a_payout_to_its_payer(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone("00")
    intent_id = paid(merchant, phone)

    made = ended(merchant, "refunds", refund(merchant, intent_id, "40.00"))

    [entry] = moved(house, "payout", phone)
    assert (made["status"], made["receipt"]) == ("succeeded", entry["receipt"])
    assert (entry["amount"], moved(house, "reversal", phone)) == (40, [])


def ended_or_asked(house: House, merchant: Merchant, made: Json) -> Json:
    """A refund's end. A reversal may tell no amount, and then the rail is asked for it."""

    def look() -> Json | None:
        now = dict(merchant.api.get(f"/refunds/{made['id']}").raise_for_status().json())
        if now["status"] not in OPEN:
            return now
        house.make_due(merchant)
        house.reconcile()
        return None

    return until(look, f"the end of {made['id']}")
