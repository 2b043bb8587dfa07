"""Refunds, payouts, deposits and direct transfers, over the real stack and the Daraja simulator."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.house import House, Merchant, new_key, own_house
from tests.support.simulator import Json, msisdn, new_phone, until

FUNCTIONS = ("momo_callback", "payment_intents", "reconcile", "refunds", "payouts", "transfers")
LARGE = "60000.00"


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with own_house("money_out", functions=FUNCTIONS) as house:
        yield house


@pytest.fixture
def merchant(house: House) -> Iterator[Merchant]:
    yield house.merchant()
    house.daraja.disarm()


def paid(merchant: Merchant, amount: str = "100.00", phone: str | None = None) -> Json:
    """An intent that was paid by a prompt, with its receipt known."""
    intent_id = merchant.start(phone or new_phone("00"), amount)
    merchant.wait(intent_id, "succeeded")
    return until(
        lambda: (i := merchant.get(intent_id))["latest_transfer"]["receipt"] and i, "a receipt"
    )


def refund(
    merchant: Merchant, intent_id: str, key: str | None = None, **body: Any
) -> httpx.Response:
    return merchant.post("/refunds", {"payment_intent": intent_id} | body, key)


def payout(merchant: Merchant, phone: str, key: str | None = None, **body: Any) -> httpx.Response:
    wanted = {
        "amount": "1500.00",
        "currency": "KES",
        "destination": {"type": "mpesa", "phone": phone},
    }
    return merchant.post("/payouts", wanted | body, key)


def wait(merchant: Merchant, kind: str, move_id: str, status: str) -> Json:
    """The refund or payout once it has this status."""

    def reached() -> Json | None:
        found = dict(merchant.api.get(f"/{kind}/{move_id}").raise_for_status().json())
        return found if found["status"] == status else None

    return until(reached, f"{move_id} {status}")


def ask_until(house: House, merchant: Merchant, kind: str, move_id: str, status: str) -> Json:
    """Reconcile, with the waits brought forward, until the move has this status."""

    def look() -> Json | None:
        house.make_due(merchant)
        house.reconcile()
        found = dict(merchant.api.get(f"/{kind}/{move_id}").raise_for_status().json())
        return found if found["status"] == status else None

    return until(look, f"{move_id} {status}")


def people(house: House, merchant: Merchant) -> tuple[httpx.Client, httpx.Client]:
    """Two persons of the merchant's finance: one who asks, another one who decides."""
    return house.client(merchant.token("finance")), house.client(merchant.token("finance"))


def ask(person: httpx.Client, kind: str, body: Json) -> httpx.Response:
    return person.post(f"/{kind}", json=body, headers={"Idempotency-Key": new_key()})


def approve(person: httpx.Client, kind: str, move_id: str) -> httpx.Response:
    return ask(person, f"{kind}/{move_id}/approve", {"reason": "Seen with the customer"})


def sent(house: House, phone: str, operation: str = "payout") -> list[Json]:
    """What the simulator was asked to pay to a phone, newest first."""
    asked = house.daraja.http.get("/control/conversations", params={"phone": msisdn(phone)})
    return [one for one in asked.raise_for_status().json() if one["kind"] == operation]


# Refunds


def test_a_payment_goes_back_whole_by_reversal(house: House, merchant: Merchant) -> None:
    intent = paid(merchant)
    before = house.daraja.balances()["working"]

    made = refund(merchant, intent["id"], reason="broken")
    done = wait(merchant, "refunds", made.json()["id"], "succeeded")

    assert made.status_code == 201
    assert (made.json()["amount"], made.json()["method"]) == ("100.00", "reversal")
    assert done["receipt"]
    after = merchant.get(intent["id"])
    assert (after["status"], after["amount_refunded"]) == ("succeeded", "100.00")
    assert after["latest_transfer"]["state"] == "RETURNED"
    assert house.daraja.balances()["working"] == before - 100
    assert merchant.types(intent["id"])[-2:] == ["transfer.returned", "payment_intent.refunded"]


def test_part_of_a_payment_is_paid_out_to_its_payer(house: House, merchant: Merchant) -> None:
    phone = new_phone("30")  # pays, and is paid
    intent_id = merchant.start(phone)
    house.daraja.act(phone, "pay")
    merchant.wait(intent_id, "succeeded")

    made = refund(merchant, intent_id, amount="40.00", currency="KES")
    wait(merchant, "refunds", made.json()["id"], "succeeded")

    assert made.json()["method"] == "payout"
    (conversation,) = sent(house, phone)
    assert conversation["amount"] == 40
    after = merchant.get(intent_id)
    assert (after["amount_refunded"], after["latest_transfer"]["state"]) == ("40.00", "SETTLED")


def test_a_large_refund_leaves_only_with_a_second_persons_word(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone("00")
    intent = paid(merchant, LARGE, phone)
    asker, other = people(house, merchant)
    waiting = ask(asker, "refunds", {"payment_intent": intent["id"]})
    refund_id = waiting.json()["id"]

    by_asker = approve(asker, "refunds", refund_id)
    before = sent(house, phone, "reversal")
    approved = approve(other, "refunds", refund_id)
    again = approve(other, "refunds", refund_id)
    done = wait(merchant, "refunds", refund_id, "succeeded")

    assert (waiting.status_code, waiting.json()["status"]) == (202, "pending_approval")
    assert (by_asker.status_code, by_asker.json()["code"], before) == (403, "40312", [])
    assert (approved.status_code, approved.json()["status"]) == (200, "pending")
    assert (again.status_code, again.json()["code"]) == (409, "40911")
    assert done["receipt"]
    assert merchant.get(intent["id"])["amount_refunded"] == LARGE
    assert [one["amount"] for one in sent(house, phone, "reversal")] == [60000]


def test_more_than_was_paid_does_not_go_back(merchant: Merchant) -> None:
    intent = paid(merchant)

    refused = refund(merchant, intent["id"], amount="100.01", currency="KES")
    too_much = refund(merchant, intent["id"], amount="101.00", currency="KES")

    assert refused.status_code == 422
    problem = too_much.json()
    assert (too_much.status_code, problem["code"]) == (422, "42255")
    assert problem["refundable"] == "100.00"
    assert problem["errors"][0]["pointer"] == "/amount"


def test_the_same_refund_request_twice_is_one_refund(house: House, merchant: Merchant) -> None:
    intent, key = paid(merchant), new_key()

    first = refund(merchant, intent["id"], key)
    again = refund(merchant, intent["id"], key)

    assert again.json()["id"] == first.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    wait(merchant, "refunds", first.json()["id"], "succeeded")
    listed = merchant.api.get("/refunds", params={"payment_intent": intent["id"]}).json()["data"]
    assert [one["id"] for one in listed] == [first.json()["id"]]


def test_many_clients_at_once_get_back_what_was_paid_and_no_more(
    house: House, merchant: Merchant
) -> None:
    intent = paid(merchant, "200.00")

    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(
                lambda _: refund(merchant, intent["id"], amount="30.00", currency="KES"), range(60)
            )
        )

    counts = Counter(answer.status_code for answer in answers)
    assert counts == {201: 6, 422: 54}
    for answer in answers:
        if answer.status_code == 201:
            ask_until(house, merchant, "refunds", answer.json()["id"], "succeeded")
    assert merchant.get(intent["id"])["amount_refunded"] == "180.00"


def test_a_refund_needs_its_own_scope_and_a_payment_of_ones_own(
    house: House, merchant: Merchant
) -> None:
    intent = paid(merchant)
    other = house.merchant()
    till = house.merchant(scopes=("payments:write", "payments:read"))

    assert refund(other, intent["id"]).status_code == 404
    missing = refund(till, intent["id"]).json()
    assert (missing["code"], missing["detail"]) == ("40311", "This needs the scope refunds:write.")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"payment_intent": "pi_x"}, "/payment_intent"),
        ({"amount": "1.00"}, ""),
        ({"amount": 5, "currency": "KES"}, "/amount"),
        ({"speed": "fast"}, "/speed"),
    ],
)
def test_a_refund_that_makes_no_sense_is_told_which_field(
    merchant: Merchant, body: Json, pointer: str
) -> None:
    wanted = {"payment_intent": "pi_01kaj3v7wvf4fr8mnp5sye2s6k"} if body else {}

    refused = merchant.post("/refunds", wanted | body)

    assert refused.status_code == 400
    assert any(error["pointer"].startswith(pointer) for error in refused.json()["errors"])


# Payouts


def test_a_payout_arrives_once(house: House, merchant: Merchant) -> None:
    phone = new_phone("30")

    made = payout(merchant, phone, description="Commission", external_ref=new_key())
    done = wait(merchant, "payouts", made.json()["id"], "succeeded")

    assert (made.status_code, made.json()["status"]) == (201, "pending")
    assert (done["amount"], done["destination"]["type"]) == ("1500.00", "mpesa")
    assert done["receipt"]
    assert phone.lstrip("+0") not in str(done)
    assert len(sent(house, phone)) == 1


@pytest.mark.parametrize(("suffix", "code"), [("31", "1"), ("32", "2040")])
def test_a_payout_that_the_rail_refuses_fails_with_its_code(
    merchant: Merchant, suffix: str, code: str
) -> None:
    made = payout(merchant, new_phone(suffix))

    failed = wait(merchant, "payouts", made.json()["id"], "failed")

    assert failed["failure"]["rail_code"] == code


def test_a_timeout_that_was_paid_after_all_is_one_payout(house: House, merchant: Merchant) -> None:
    phone = new_phone("33")

    made = payout(merchant, phone)
    wait(merchant, "payouts", made.json()["id"], "succeeded")

    assert len(sent(house, phone)) == 1


def test_a_timeout_after_which_nothing_comes_is_asked_about_and_never_sent_again(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone("34")
    made = payout(merchant, phone).json()

    def asked() -> bool:
        house.make_due(merchant)
        return house.reconcile() > 0

    until(asked, "a status query")

    still = merchant.api.get(f"/payouts/{made['id']}").json()
    assert still["status"] in ("pending", "failed")
    assert len(sent(house, phone)) == 1


def test_a_result_that_overtakes_the_acknowledgement_counts(merchant: Merchant) -> None:
    made = payout(merchant, new_phone("35"))

    wait(merchant, "payouts", made.json()["id"], "succeeded")


def test_a_result_twice_is_one_payout(house: House, merchant: Merchant) -> None:
    phone = new_phone("36")

    made = payout(merchant, phone).json()
    wait(merchant, "payouts", made["id"], "succeeded")

    types = [
        event["type"]
        for event in merchant.api.get(f"/transfers/{made['id']}/events").json()["data"]
    ]
    assert types.count("transfer.settled") == types.count("payout.succeeded") == 1


def test_a_payout_whose_result_was_lost_is_found_by_asking(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone("30")
    house.daraja.arm("lost_callback", phone=msisdn(phone), at="outgoing")

    made = payout(merchant, phone).json()
    done = ask_until(house, merchant, "payouts", made["id"], "succeeded")

    assert done["receipt"]
    assert len(sent(house, phone)) == 1


def test_a_payout_whose_acknowledgement_was_lost_is_found_by_our_reference(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone("30")
    house.daraja.arm("lost_sync", phone=msisdn(phone), at="payout")
    house.daraja.arm("lost_callback", phone=msisdn(phone), at="outgoing")

    made = payout(merchant, phone).json()
    done = ask_until(house, merchant, "payouts", made["id"], "succeeded")

    assert made["status"] == "pending"
    assert done["receipt"]
    assert len(sent(house, phone)) == 1


def test_a_crash_between_sent_and_recorded_is_made_up_for_by_asking(
    house: House, merchant: Merchant
) -> None:
    phone, key = new_phone("30"), new_key()
    house.daraja.arm("slow", phone=msisdn(phone), at="payout", seconds=20, wall=True)
    house.daraja.arm("lost_callback", phone=msisdn(phone), at="outgoing")
    with ThreadPoolExecutor(1) as pool:
        unanswered = pool.submit(payout, merchant, phone, key)
        until(lambda: sent(house, phone), "the payout at the rail")
        house.stack.kill("gateway")
        assert isinstance(unanswered.exception(), httpx.TransportError)
    house.stack.wait_ready()
    house.books.run(
        "update public.idempotency_keys set claimed_at = claimed_at - interval '61 seconds'"
        " where status is null"
    )

    again = payout(merchant, phone, key)
    done = ask_until(house, merchant, "payouts", again.json()["id"], "succeeded")

    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["status"] == "pending"
    assert done["receipt"]
    assert len(sent(house, phone)) == 1


def test_a_large_payout_leaves_only_with_a_second_persons_word(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone("30")
    waiting = payout(merchant, phone, amount=LARGE)
    payout_id = waiting.json()["id"]
    finance = {"Authorization": f"Bearer {merchant.token('finance')}", "Idempotency-Key": new_key()}
    by_key = merchant.post(f"/payouts/{payout_id}/approve", {"reason": "seen it"})

    approved = house.http.post(
        f"/payouts/{payout_id}/approve", json={"reason": "Invoice 12 seen"}, headers=finance
    )
    done = wait(merchant, "payouts", payout_id, "succeeded")

    assert (waiting.status_code, waiting.json()["status"]) == (202, "pending_approval")
    assert by_key.status_code == 403
    assert (approved.status_code, approved.json()["approval"]["status"]) == (200, "approved")
    assert done["approval"]["reason"] == "Invoice 12 seen"
    assert len(sent(house, phone)) == 1


def test_a_rejected_payout_never_leaves(house: House, merchant: Merchant) -> None:
    phone = new_phone("30")
    payout_id = payout(merchant, phone, amount=LARGE).json()["id"]
    finance = {"Authorization": f"Bearer {merchant.token('finance')}", "Idempotency-Key": new_key()}

    rejected = house.http.post(
        f"/payouts/{payout_id}/reject", json={"reason": "paid in cash"}, headers=finance
    )

    assert rejected.json()["status"] == "rejected"
    assert sent(house, phone) == []


def test_the_rail_tells_what_there_is_to_pay_out(house: House, merchant: Merchant) -> None:
    asked = merchant.api.post("/payouts/balance")

    def told() -> Json | None:
        balance = dict(merchant.api.get("/payouts/balance").raise_for_status().json())
        return balance if balance["status"] != "pending" else None

    balance = until(told, "the balance")

    assert asked.status_code == 202
    assert balance["status"] == "told"
    names = {account["name"] for account in balance["accounts"]}
    assert "Utility Account" in names


# Deposits


def opened(merchant: Merchant) -> None:
    answer = merchant.api.post("/transfers/deposits")
    assert answer.status_code == 201, answer.text


def deposits(merchant: Merchant) -> list[Json]:
    found = merchant.api.get("/transfers", params={"purpose": "c2b"}).raise_for_status()
    return list(found.json()["data"])


def test_a_payer_who_types_the_account_number_pays_the_intent(
    house: House, merchant: Merchant
) -> None:
    opened(merchant)
    intent = merchant.create("100.00")

    house.daraja.deposit(msisdn(new_phone()), 100, intent["account_reference"])
    merchant.wait(intent["id"], "succeeded")

    (deposit,) = deposits(merchant)
    assert (deposit["payment_intent"], deposit["state"]) == (intent["id"], "SETTLED")


def test_a_deposit_for_nobody_waits_until_somebody_says_whose_it_is(
    house: House, merchant: Merchant
) -> None:
    opened(merchant)
    intent = merchant.create("100.00")
    house.daraja.deposit(msisdn(new_phone()), 100, "shop")
    deposit = until(lambda: next(iter(deposits(merchant)), None), "the deposit")
    person = {"Authorization": f"Bearer {merchant.token('finance')}", "Idempotency-Key": new_key()}

    assigned = house.http.post(
        f"/transfers/{deposit['id']}/assign",
        json={"payment_intent": intent["id"], "reason": "the payer called"},
        headers=person,
    )

    assert deposit["unallocated_reason"] == "no_open_intent"
    assert assigned.json()["payment_intent"] == intent["id"]
    assert merchant.get(intent["id"])["status"] == "succeeded"


def test_a_prompt_whose_payment_is_also_told_as_a_deposit_is_one_payment(
    house: House, merchant: Merchant
) -> None:
    opened(merchant)

    intent = paid(merchant)
    kinds = "select kind from rails.callbacks where tenant_id = %s"
    until(
        lambda: {"collect", "confirmation"} <= set(house.books.column(kinds, merchant.tenant_id)),
        "both reports",
    )

    assert deposits(merchant) == []
    assert merchant.get(intent["id"])["amount_received"] == "100.00"


# Direct transfers


def settled(merchant: Merchant, transfer_id: str) -> Json:
    """The transfer once it is settled."""

    def reached() -> Json | None:
        found = dict(merchant.api.get(f"/transfers/{transfer_id}").raise_for_status().json())
        return found if found["state"] == "SETTLED" else None

    return until(reached, f"{transfer_id} settled")


def test_a_direct_transfer_asks_the_payer_and_settles(house: House, merchant: Merchant) -> None:
    phone, reference = new_phone("00"), new_key()
    body = {
        "intent": "PULL",
        "amount": " 250.0",
        "currency": "kes",
        "payer": {"type": "MOBILE_MONEY", "id": phone, "provider": "mpesa"},
        "external_ref": reference,
        "end_user_ref": "",
    }
    key = new_key()

    made = merchant.post("/transfers", body, key)
    again = merchant.post(
        "/transfers", body | {"amount": "250.00", "currency": "KES", "end_user_ref": "  "}, key
    )
    other = merchant.post("/transfers", body)

    transfer = made.json()
    assert (made.status_code, transfer["amount"], transfer["currency"]) == (201, "250.00", "KES")
    assert again.json()["id"] == transfer["id"]
    assert (other.status_code, other.json()["transfer_id"]) == (409, transfer["id"])
    done = settled(merchant, transfer["id"])
    assert [event["type"] for event in done["events"]][-1] == "transfer.settled"
    assert len(done["body_hash"]) == 64
    listed = merchant.api.get("/transfers", params={"external_ref": reference}).json()["data"]
    assert [one["id"] for one in listed] == [transfer["id"]]


def test_a_large_transfer_leaves_only_with_a_second_persons_word(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone("30")
    asker, other = people(house, merchant)
    body = {
        "intent": "PUSH",
        "amount": LARGE,
        "currency": "KES",
        "payee": {"type": "MOBILE_MONEY", "id": phone, "provider": "mpesa"},
    }
    house.daraja.control("POST", "topups", {"amount": 60000})  # other tests pay out as well
    waiting = ask(asker, "transfers", body)
    transfer_id = waiting.json()["id"]

    by_asker = approve(asker, "transfers", transfer_id)
    before = sent(house, phone)
    approved = approve(other, "transfers", transfer_id)
    again = approve(other, "transfers", transfer_id)
    done = settled(merchant, transfer_id)

    assert (waiting.status_code, waiting.json()["approval"]) == (202, "pending")
    assert (by_asker.status_code, by_asker.json()["code"], before) == (403, "40312", [])
    assert (approved.status_code, approved.json()["approval"]) == (200, "approved")
    assert again.json()["detail"] == "This transfer does not wait for approval."
    assert done["receipt"]
    assert [one["amount"] for one in sent(house, phone)] == [60000]


@pytest.mark.parametrize("intent", ["AUTH", "CAPTURE"])
def test_mpesa_authorises_nothing(merchant: Merchant, intent: str) -> None:
    refused = merchant.post(
        "/transfers",
        {
            "intent": intent,
            "amount": "10.00",
            "currency": "KES",
            "payer": {"type": "MOBILE_MONEY", "id": new_phone(), "provider": "mpesa"},
        },
    )

    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == "/intent"
    assert "M-Pesa has no" in refused.json()["detail"]


def test_readers_of_payments_do_not_see_the_client_secret(house: House) -> None:
    merchant = house.merchant(scopes=("payments:write", "payments:read"))
    intent_id = merchant.create()["id"]
    reader = "sk_test_reader_" + new_key()
    house.add_key(merchant.tenant_id, "sandbox", reader, ("payments:read",))

    seen = house.client(reader).get(f"/payment-intents/{intent_id}").json()
    page = house.client(reader).get("/payment-intents").json()["data"]

    assert seen["client_secret"] is None
    assert [one["client_secret"] for one in page] == [None]
    assert merchant.get(intent_id)["client_secret"].startswith("pics_")
