"""Our M-Pesa rail against the Daraja simulator: payouts, reversals, questions and deposits."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from scripts.stack.daraja.credentials import PAY_BILL, TILL, Merchant
from scripts.stack.daraja.statement import COLUMNS
from scripts.stack.daraja.testing import (
    Received,
    Receiver,
    Simulator,
    receiving,
    simulating,
    until,
    wait_ready,
)
from shared.errors import CredentialsRefused
from shared.money import Money
from shared.rails.base import (
    CallbackNotUnderstood,
    CallbackRequest,
    Deposit,
    DepositRefusal,
    DepositUrls,
    Instruction,
    Operation,
    Outcome,
    RailEvent,
)
from shared.rails.mpesa.client import DarajaClient
from shared.rails.mpesa.rail import MpesaRail
from shared.transport import Budgets, HttpTransport

SPEED = 100
APART_S = 100  # between two results: a second, so that they arrive in this order
PAYER = "254712345678"  # no scenario ends in 78
FIXTURE = Path(__file__).parents[1] / "fixtures/rails/mpesa_statement.csv"
numbers = iter(range(10_000))

Fault = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    state = tmp_path_factory.mktemp("daraja")
    with simulating(state) as simulator:
        yield simulator
    assert b"Traceback" not in (state / "log").read_bytes()


@pytest.fixture
def simulator(process: Simulator) -> Simulator:
    """Empty books, fast, every shape of body."""
    process.control("POST", "reset")
    process.settings(speed=SPEED, query_noise=0)
    return process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
async def rail(simulator: Simulator) -> AsyncIterator[MpesaRail]:
    transport = HttpTransport(Budgets(connect_s=5.0, read_s=5.0, total_s=11.0))
    made = MpesaRail(DarajaClient({"sandbox": simulator.url}, transport=transport))
    yield made
    await made.aclose()


@dataclass
class Shop:
    """A merchant's side: instructions out, what was told back."""

    simulator: Simulator
    receiver: Receiver
    rail: MpesaRail

    def instruction(self, operation: Operation, **changes: Any) -> Instruction:
        fields: dict[str, Any] = {
            "transfer_id": f"tr_01kb2m3n4p5q6r7s8t9v{next(numbers):06d}",
            "tenant_id": "tn_1",
            "environment": "sandbox",
            "amount": Money(250000, "KES"),
            "credentials": json.dumps(self.simulator.credentials()).encode(),
            "callback_url": f"{self.receiver.url}/in/k/0a1b",
            "description": "November",
            "operation": operation,
        } | changes
        return Instruction(**fields)

    def payout(self, payee: str = PAYER, **changes: Any) -> Instruction:
        return self.instruction(Operation.PAY_OUT, payee=f"+{payee}", **changes)

    def refund(self, receipt: str, shillings: int, **changes: Any) -> Instruction:
        amount = Money(shillings * 100, "KES")
        return self.instruction(
            Operation.REFUND, original_receipt=receipt, amount=amount, **changes
        )

    async def told(self, count: int = 1) -> list[RailEvent]:
        """What the callbacks so far say, once there are `count`."""
        received = await asyncio.to_thread(self.receiver.wait, count)
        return [self.read(each) for each in received]

    def read(self, received: Received) -> RailEvent:
        [event] = self.rail.read_callback(CallbackRequest(received.body, kind=kind_of(received)))
        return event

    async def ask(self, instruction: Instruction) -> RailEvent:
        """The status, by way of the address it is told to."""
        already = len(self.receiver.received)
        asked = await self.rail.query(instruction)
        assert asked.outcome is Outcome.PENDING
        return (await self.told(already + 1))[already]

    async def collect(self, shillings: int, payer: str = PAYER) -> str:
        """A deposit of a payer, which gives the receipt that a refund needs."""
        made = self.simulator.deposit(payer, shillings, "INV-1")
        await asyncio.to_thread(until, self.simulator.books)
        return str(made["receipt"])


def kind_of(received: Received) -> Any:
    return urlsplit(received.path).path.rpartition("/")[2]


@pytest.fixture
def shop(simulator: Simulator, receiver: Receiver, rail: MpesaRail) -> Shop:
    return Shop(simulator, receiver, rail)


# Payouts


async def test_scenario_30_is_paid_told_and_out_of_the_utility_account(shop: Shop) -> None:
    instruction = shop.payout("254712345630")

    sent = await shop.rail.submit(instruction)
    [told] = await shop.told()

    [entry] = shop.simulator.books()
    assert (sent.outcome, sent.rail_ref) == (Outcome.PENDING, instruction.originator_ref)
    assert (told.outcome, told.rail_ref) == (Outcome.SUCCEEDED, instruction.originator_ref)
    assert (told.amount, told.receipt) == (Money(250000, "KES"), entry["receipt"])
    assert told.payer_masked == "+2547******30"
    assert (entry["kind"], entry["paid_to"], entry["amount"]) == ("payout", "254712345630", 2500)
    assert shop.simulator.balances()["utility"] == 97_500


@pytest.mark.parametrize(
    ("digits", "outcome", "reason"),
    [
        ("31", Outcome.FAILED_RETRYABLE, "MERCHANT_NO_FLOAT"),
        ("32", Outcome.FAILED_FINAL, "MM_NOT_REGISTERED"),
    ],
)
async def test_scenarios_31_and_32_fail_and_move_nothing(
    shop: Shop, digits: str, outcome: Outcome, reason: str
) -> None:
    await shop.rail.submit(shop.payout(f"2547123456{digits}"))

    [told] = await shop.told()

    assert (told.outcome, told.reason, told.receipt) == (outcome, reason, None)
    assert shop.simulator.books() == []


async def test_scenario_33_times_out_and_is_paid_nevertheless(shop: Shop) -> None:
    instruction = shop.payout("254712345633")
    shop.simulator.settings(speed=5)  # seconds apart stay apart, on a busy machine too

    await shop.rail.submit(instruction)
    events = await shop.told(2)

    assert [event.outcome for event in events] == [Outcome.UNKNOWN, Outcome.SUCCEEDED]
    assert {event.rail_ref for event in events} == {instruction.originator_ref}
    assert len(shop.simulator.books()) == 1


async def test_scenario_34_times_out_and_nobody_ever_knows(shop: Shop) -> None:
    instruction = shop.payout("254712345634")

    await shop.rail.submit(instruction)
    [timeout] = await shop.told()
    asked = await shop.ask(instruction)

    assert (timeout.outcome, timeout.code) == (Outcome.UNKNOWN, "QueueTimeOut")
    assert (asked.outcome, asked.code) == (Outcome.UNKNOWN, None)
    assert shop.simulator.books() == []


async def test_a_timeout_echoes_our_secret_and_it_is_redacted(shop: Shop) -> None:
    await shop.rail.submit(shop.payout("254712345634"))

    body = (await asyncio.to_thread(shop.receiver.wait))[0].body

    assert len(json.loads(body)["SecurityCredential"]) == 344
    assert json.loads(shop.rail.redact(body, "timeout"))["SecurityCredential"] == "***"


async def test_scenario_35_tells_the_result_before_the_acknowledgement(shop: Shop) -> None:
    sent = await shop.rail.submit(shop.payout("254712345635"))

    assert sent.outcome is Outcome.PENDING
    assert [shop.read(each).outcome for each in shop.receiver.received] == [Outcome.SUCCEEDED]


async def test_scenario_36_tells_the_same_twice(shop: Shop) -> None:
    await shop.rail.submit(shop.payout("254712345636"))

    first, second = await shop.told(2)

    assert first == second
    assert len(shop.simulator.books()) == 1


async def test_results_of_every_shape_read_the_same(shop: Shop) -> None:
    payees = [f"2547{n:06d}30" for n in range(25)]
    shop.simulator.control("POST", "topups", {"amount": 200_000})

    await asyncio.gather(*(shop.rail.submit(shop.payout(payee)) for payee in payees))
    events = await shop.told(25)

    receipts = {entry["receipt"] for entry in shop.simulator.books() if entry["kind"] == "payout"}
    assert {event.receipt for event in events} == receipts
    assert {(e.outcome, e.amount) for e in events} == {(Outcome.SUCCEEDED, Money(250000, "KES"))}


async def test_the_same_payout_twice_is_paid_once(shop: Shop) -> None:
    instruction = shop.payout("254712345630")

    first = await shop.rail.submit(instruction)
    second = await shop.rail.submit(instruction)
    await shop.told()

    assert (first.outcome, second.outcome) == (Outcome.PENDING, Outcome.UNKNOWN)
    assert (second.reason, second.rail_ref) == ("DUPLICATE_AT_RAIL", instruction.originator_ref)
    assert len(shop.simulator.books()) == 1


@pytest.mark.parametrize("how", ["502", "empty", "reset"])
async def test_a_payout_whose_answer_is_lost_is_found_by_our_reference(
    shop: Shop, how: str
) -> None:
    shop.simulator.arm("lost_sync", at="payout", how=how)
    shop.simulator.arm("lost_callback", at="payout")
    instruction = shop.payout()

    sent = await shop.rail.submit(instruction)
    await asyncio.to_thread(until, shop.simulator.books)
    asked = await shop.ask(instruction)

    [entry] = shop.simulator.books()
    assert (sent.outcome, sent.rail_ref) == (Outcome.UNKNOWN, instruction.originator_ref)
    assert (asked.outcome, asked.receipt) == (Outcome.SUCCEEDED, entry["receipt"])
    assert asked.amount == Money(250000, "KES")


async def test_a_payout_that_is_under_way_is_pending(shop: Shop) -> None:
    shop.simulator.arm("pays", at="payout", after_s=10_000)
    instruction = shop.payout()

    await shop.rail.submit(instruction)
    asked = await shop.ask(instruction)

    assert (asked.outcome, asked.receipt) == (Outcome.PENDING, None)


async def test_a_declined_payout_is_declined_when_asked(shop: Shop) -> None:
    shop.simulator.arm("fails", at="payout", code="2040")
    shop.simulator.arm("lost_callback", at="payout")
    instruction = shop.payout()

    await shop.rail.submit(instruction)
    await asyncio.to_thread(
        until,
        lambda: shop.simulator.control("GET", "conversations")[0]["state"] == "failed" and "failed",
    )
    asked = await shop.ask(instruction)

    assert (asked.outcome, asked.code, asked.receipt) == (Outcome.FAILED_FINAL, "Declined", None)


async def test_a_float_that_is_used_up_pays_no_more(shop: Shop) -> None:
    big = Money(6_000_000, "KES")

    await shop.rail.submit(shop.payout(amount=big))
    await shop.told()
    await shop.rail.submit(shop.payout(amount=big))
    _, second = await shop.told(2)

    assert (second.outcome, second.code) == (Outcome.FAILED_RETRYABLE, "1")
    assert shop.simulator.balances()["utility"] == 40_000


async def test_a_charge_is_paid_from_the_float(shop: Shop) -> None:
    shop.simulator.settings(payout_charge=9)

    await shop.rail.submit(shop.payout())
    await shop.told()

    assert shop.simulator.balances() == {"working": 0, "utility": 97_491, "charged": 9}


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"initiator_password": "Wrong#1"}, "2001"), ({"initiator_name": "x"}, "2001")],
)
async def test_a_wrong_initiator_is_the_merchants_to_correct(
    shop: Shop, changes: dict[str, str], code: str
) -> None:
    document = json.dumps(shop.simulator.credentials(**changes)).encode()

    await shop.rail.submit(shop.payout(credentials=document))
    [told] = await shop.told()

    assert (told.outcome, told.code) == (Outcome.FAILED_FINAL, code)
    assert told.reason == "MERCHANT_CONFIGURATION"


async def test_a_payout_from_another_short_code_is_refused_at_once(shop: Shop) -> None:
    document = json.dumps(shop.simulator.credentials(b2c_shortcode=TILL.short_code)).encode()

    sent = await shop.rail.submit(shop.payout(credentials=document))

    assert (sent.outcome, sent.code) == (Outcome.FAILED_FINAL, "400.003.02")


async def test_a_token_that_is_refused_pays_once_on_a_fresh_one(shop: Shop) -> None:
    shop.simulator.arm("refused", at="payout", code="404.001.03")

    sent = await shop.rail.submit(shop.payout())
    await shop.told()

    assert sent.outcome is Outcome.PENDING
    assert len(shop.simulator.books()) == 1


GRID: dict[str, tuple[list[Fault], list[str], int]] = {
    # fault: (armed, what the results say in order, times that money moved)
    "slow": ([("slow", {"seconds": 6, "wall": True})], ["succeeded"], 1),
    "lost answer": ([("lost_sync", {})], ["succeeded"], 1),
    "garbage answer": ([("garbage", {"kind": "truncated"})], ["succeeded"], 1),
    "result first": ([("callback_first", {})], ["succeeded"], 1),
    "duplicates": ([("duplicate_callback", {"copies": 20})], ["succeeded"] * 20, 1),
    "spaced": ([("duplicate_callback", {"copies": 3, "concurrent": False})], ["succeeded"] * 3, 1),
    "late": ([("late_callback", {"after_s": 60})], ["succeeded"], 1),
    "late and lost answer": (
        [("late_callback", {"after_s": 60}), ("lost_sync", {"how": "reset"})],
        ["succeeded"],
        1,
    ),
    "failed, then paid": (
        [("contradiction", {"first": "2040", "then": "0", "gap_s": APART_S})],
        ["failed_final", "succeeded"],
        1,
    ),
    "paid, then failed": (
        [("contradiction", {"first": "0", "then": "1", "gap_s": APART_S})],
        ["succeeded", "failed_retryable"],
        1,
    ),
    "unknown code": ([("unknown_code", {})], ["unknown"], 0),
    "no receipt": ([("no_receipt", {})], ["unknown"], 1),
    "timeout, then paid": ([("queue_timeout", {"gap_s": APART_S})], ["unknown", "succeeded"], 1),
    "timeout, then nothing": ([("queue_timeout", {"then": "nothing"})], ["unknown"], 0),
    "busy": ([("fails", {"code": "17"})], ["unknown"], 0),  # a limit of a prompt, unknown here
}


@pytest.mark.parametrize("name", GRID)
async def test_every_fault_of_a_payout_ends_with_what_was_told_and_moved_at_most_once(
    shop: Shop, name: str
) -> None:
    faults, outcomes, moved = GRID[name]
    for fault, fields in faults:
        shop.simulator.arm(fault, at="payout", **fields)

    sent = await shop.rail.submit(shop.payout())
    events = await shop.told(len(outcomes))

    assert sent.outcome in (Outcome.PENDING, Outcome.UNKNOWN)
    assert [event.outcome for event in events] == outcomes
    assert len(shop.simulator.books()) == moved
    assert {e.rail_ref for e in events} == {sent.rail_ref}


@pytest.mark.parametrize("fault", ["refused", "down"])
async def test_a_payout_that_was_refused_at_the_edge_moves_nothing(shop: Shop, fault: str) -> None:
    shop.simulator.arm(fault, at="payout")

    sent = await shop.rail.submit(shop.payout())

    expected = Outcome.FAILED_RETRYABLE if fault == "refused" else Outcome.UNKNOWN
    assert sent.outcome is expected
    assert shop.simulator.control("GET", "conversations") == []


async def test_a_wrong_amount_is_told_as_it_was_said(shop: Shop) -> None:
    shop.simulator.arm("wrong_amount", at="payout", delta=7)

    await shop.rail.submit(shop.payout())
    [told] = await shop.told()

    assert (told.outcome, told.amount) == (Outcome.SUCCEEDED, Money(250700, "KES"))


@pytest.mark.parametrize("kind", ["html", "truncated", "empty"])
async def test_a_garbled_result_is_not_understood(shop: Shop, kind: str) -> None:
    shop.simulator.arm("garbage", at="callback", kind=kind)

    await shop.rail.submit(shop.payout())
    received = await asyncio.to_thread(shop.receiver.wait)

    with pytest.raises(CallbackNotUnderstood):
        shop.read(received[0])


async def test_a_forged_result_comes_from_elsewhere_and_nothing_moved(shop: Shop) -> None:
    shop.simulator.arm("forged", at="payout")
    shop.simulator.arm("queue_timeout", at="payout", then="nothing")
    shop.simulator.arm("pays", at="payout", after_s=1000)

    await shop.rail.submit(shop.payout())
    [forged] = await asyncio.to_thread(shop.receiver.wait)

    assert forged.source == "127.0.0.66"
    assert shop.read(forged).outcome is Outcome.SUCCEEDED  # its address gives it away
    assert shop.simulator.books() == []


async def test_a_restart_around_the_answer_pays_once(tmp_path: Path, receiver: Receiver) -> None:
    with simulating(tmp_path) as simulator:
        client = DarajaClient({"sandbox": simulator.url})
        shop = Shop(simulator, receiver, MpesaRail(client))
        instruction = shop.payout()
        simulator.arm("pays", at="payout", after_s=2)  # the restart takes half a second
        simulator.arm("restart", at="payout", moment="before_answer")

        sent = await shop.rail.submit(instruction)
        await asyncio.to_thread(until, lambda: starts(tmp_path) == 2 and "twice")
        await asyncio.to_thread(wait_ready, simulator)
        [told] = await shop.told()
        await client.aclose()

        assert (sent.outcome, told.outcome) == (Outcome.UNKNOWN, Outcome.SUCCEEDED)
        assert [entry["receipt"] for entry in simulator.books()] == [told.receipt]


def starts(state: Path) -> int:
    return (state / "log").read_bytes().count(b"daraja_simulator_started")


# Refunds


async def test_a_payment_is_reversed_in_parts_and_never_beyond_what_was_paid(shop: Shop) -> None:
    receipt = await shop.collect(1500)

    for number, shillings in enumerate((500, 1000, 1), 1):
        await shop.rail.submit(shop.refund(receipt, shillings))
        await shop.told(number)
    first, second, third = await shop.told(3)

    assert first.outcome in (Outcome.SUCCEEDED, Outcome.UNKNOWN)  # it may tell no amount
    assert second.outcome in (Outcome.SUCCEEDED, Outcome.UNKNOWN)
    assert (third.outcome, third.code) == (Outcome.UNKNOWN, "R000001")
    assert shop.simulator.balances()["working"] == 0
    assert [e["reverses"] for e in shop.simulator.books()[1:]] == [receipt, receipt]


async def test_a_reversal_is_asked_about_by_the_conversation_daraja_named(shop: Shop) -> None:
    receipt = await shop.collect(1500)
    instruction = shop.refund(receipt, 400)

    sent = await shop.rail.submit(instruction)
    await shop.told()
    named = shop.refund(receipt, 400, rail_ref=sent.rail_ref)
    asked = await shop.ask(named)

    assert (asked.outcome, asked.amount) == (Outcome.SUCCEEDED, Money(40000, "KES"))
    assert asked.receipt == shop.simulator.books()[-1]["receipt"]
    assert sent.rail_ref == asked.rail_ref != instruction.originator_ref


async def test_reversals_of_every_shape_read_the_same(shop: Shop) -> None:
    receipt = await shop.collect(2500)

    await asyncio.gather(*(shop.rail.submit(shop.refund(receipt, 100)) for _ in range(25)))
    events = await shop.told(25)

    whole = [event for event in events if event.amount is not None]
    assert {(e.outcome, e.amount) for e in whole} == {(Outcome.SUCCEEDED, Money(10000, "KES"))}
    assert {event.outcome for event in events if event.amount is None} <= {Outcome.UNKNOWN}
    receipts = {e["receipt"] for e in shop.simulator.books() if e["kind"] == "reversal"}
    assert {event.receipt for event in events} == receipts


async def test_a_receipt_nobody_knows_is_not_reversed(shop: Shop) -> None:
    await shop.rail.submit(shop.refund("UKL0000000", 100))

    [told] = await shop.told()

    assert (told.outcome, told.code) == (Outcome.FAILED_FINAL, "R000002")


# Balance


async def test_balances_move_with_the_money(shop: Shop) -> None:
    await shop.collect(1500)

    asked = await shop.rail.request_balance(shop.payout(amount=Money(0, "KES")))
    body = (await asyncio.to_thread(shop.receiver.wait))[0]
    report = shop.rail.read_balance(CallbackRequest(body.body, kind="balance"))

    assert (asked.outcome, kind_of(body)) == (Outcome.PENDING, "balance")
    assert {account.name: account.available_minor for account in report.accounts} == {
        "Working Account": 150_000,
        "Utility Account": 10_000_000,
        "Charges Paid Account": 0,
    }


# Deposits


async def register(shop: Shop, merchant: Merchant = PAY_BILL) -> None:
    urls = DepositUrls(
        f"{shop.receiver.url}/c2b/0a1b/validation", f"{shop.receiver.url}/c2b/0a1b/confirmation"
    )
    document = json.dumps(shop.simulator.credentials(merchant)).encode()
    await shop.rail.register_deposits(document, "sandbox", urls)


def deposits(shop: Shop, kind: str) -> list[Deposit]:
    return [
        shop.rail.read_deposit(CallbackRequest(each.body, kind=kind_of(each)))
        for each in shop.receiver.received
        if kind_of(each) == kind
    ]


def answers(shop: Shop, refusal: DepositRefusal | None, reference: str | None = None) -> bytes:
    return json.dumps(shop.rail.answer_validation(refusal, reference)).encode()


async def settled(shop: Shop, receipt: str) -> str:
    """How a deposit ended."""

    def look() -> str | bool:
        [made] = [d for d in shop.simulator.control("GET", "deposits") if d["receipt"] == receipt]
        return made["state"] if made["state"] != "open" else False

    return await asyncio.to_thread(until, look)


async def test_a_deposit_is_asked_about_booked_and_confirmed(shop: Shop) -> None:
    await register(shop)
    shop.receiver.says = answers(shop, None, "dep_1")

    made = shop.simulator.deposit(PAYER, 1500, "rent nov 4B")
    state = await settled(shop, made["receipt"])
    await asyncio.to_thread(shop.receiver.wait, 2)

    [asked], [confirmed] = deposits(shop, "validation"), deposits(shop, "confirmation")
    assert (state, asked.receipt, confirmed.receipt) == ("paid", made["receipt"], made["receipt"])
    assert (asked.balance, asked.validation_ref) == (None, None)
    assert (confirmed.balance, confirmed.validation_ref) == (Money(150000, "KES"), "dep_1")
    assert confirmed.account_reference == "rent nov 4B"
    assert confirmed.payer_masked == "+2547******78"


@pytest.mark.parametrize("refusal", list(DepositRefusal))
async def test_a_deposit_that_we_refuse_is_not_made(shop: Shop, refusal: DepositRefusal) -> None:
    await register(shop)
    shop.receiver.says = answers(shop, refusal)

    made = shop.simulator.deposit(PAYER, 1500, "INV-1")

    assert await settled(shop, made["receipt"]) == "refused"
    assert shop.simulator.books() == []


@pytest.mark.parametrize("silence", ["garbage", "error", "slow"])
async def test_a_validation_that_says_nothing_lets_the_deposit_through(
    shop: Shop, silence: str
) -> None:
    await register(shop)
    shop.simulator.settings(validation_deadline_s=0.3)
    shop.receiver.says = b"<html>" if silence == "garbage" else b"{}"
    shop.receiver.status = 503 if silence == "error" else 200
    shop.receiver.slow_s = 0.6 if silence == "slow" else 0

    made = shop.simulator.deposit(PAYER, 1500, "INV-1")

    assert await settled(shop, made["receipt"]) == "paid"


async def test_a_registration_that_exists_is_no_error(shop: Shop) -> None:
    shop.simulator.settings(c2b_register_once=True)

    await register(shop)
    await register(shop)


async def test_a_short_code_of_somebody_else_is_not_registered(shop: Shop) -> None:
    document = json.dumps(shop.simulator.credentials(shortcode=TILL.short_code)).encode()

    with pytest.raises(CredentialsRefused):
        await shop.rail.register_deposits(
            document, "sandbox", DepositUrls("https://a.example/v", "https://a.example/c")
        )


async def test_a_paid_prompt_is_confirmed_as_a_deposit_of_the_same_receipt(shop: Shop) -> None:
    await register(shop)
    shop.receiver.says = answers(shop, None)
    prompt = shop.instruction(Operation.COLLECT, payer="+254712345600", account_reference="INV-7")

    await shop.rail.submit(prompt)
    received = await asyncio.to_thread(shop.receiver.wait, 2)

    [confirmed] = deposits(shop, "confirmation")
    [told] = [r for r in received if kind_of(r) == "0a1b"]
    [event] = shop.rail.read_callback(CallbackRequest(told.body))
    assert (confirmed.receipt, confirmed.amount) == (event.receipt, event.amount)
    assert confirmed.account_reference == "INV-7"


async def test_a_registration_that_was_forgotten_confirms_nothing(shop: Shop) -> None:
    await register(shop)
    shop.simulator.control("DELETE", "c2b")

    made = shop.simulator.deposit(PAYER, 1500, "INV-1")

    assert await settled(shop, made["receipt"]) == "paid"
    assert shop.receiver.received == []


@pytest.mark.parametrize("version", [1, 2])
async def test_payers_are_masked_or_hashed(shop: Shop, version: int) -> None:
    shop.simulator.http.post(
        f"/mpesa/c2b/v{version}/registerurl",
        json={
            "ShortCode": PAY_BILL.short_code,
            "ResponseType": "Completed",
            "ConfirmationURL": f"{shop.receiver.url}/confirmation",
            "ValidationURL": f"{shop.receiver.url}/validation",
        },
        headers={"authorization": f"Bearer {await token(shop)}"},
    ).raise_for_status()
    shop.receiver.says = answers(shop, None)

    for _ in range(10):
        shop.simulator.deposit(PAYER, 10, "x")
    await asyncio.to_thread(shop.receiver.wait, 20)

    seen = {deposit.payer_masked for deposit in deposits(shop, "confirmation")}
    assert seen == ({None} if version == 1 else {"+2547******78"})
    assert all(PAYER not in str(d.payer_name) for d in deposits(shop, "confirmation"))


async def token(shop: Shop) -> str:
    answer = shop.simulator.http.get(
        "/oauth/v1/generate",
        params={"grant_type": "client_credentials"},
        auth=(PAY_BILL.consumer_key, PAY_BILL.consumer_secret),
    )
    return str(answer.json()["access_token"])


async def test_the_sandbox_simulates_a_deposit(shop: Shop) -> None:
    answer = shop.simulator.http.post(
        "/mpesa/c2b/v2/simulate",
        json={
            "ShortCode": int(PAY_BILL.short_code),
            "CommandID": "CustomerPayBillOnline",
            "Amount": 25,
            "Msisdn": int(PAYER),
            "BillRefNumber": "INV-9",
        },
        headers={"authorization": f"Bearer {await token(shop)}"},
    )
    await asyncio.to_thread(until, shop.simulator.books)

    [entry] = shop.simulator.books()
    assert (answer.status_code, entry["kind"], entry["amount"]) == (200, "deposit", 25)


# The statement


def read_statement(content: bytes) -> tuple[dict[str, str], list[dict[str, str]]]:
    """(header lines by name, rows oldest first)."""
    lines = list(csv.reader(io.StringIO(content.decode(), newline="")))
    columns = next(n for n, line in enumerate(lines) if line and line[0] == COLUMNS[0])
    header = {line[0]: line[1] for line in lines[1:columns] if line}
    rows = [dict(zip(lines[columns], line, strict=True)) for line in lines[columns + 1 :]]
    return header, rows[::-1]


async def test_the_statement_holds_every_movement_and_adds_up(shop: Shop) -> None:
    shop.simulator.settings(payout_charge=9)
    receipt = await shop.collect(1500)
    await shop.rail.submit(shop.refund(receipt, 400))
    await shop.rail.submit(shop.payout("254712345630"))
    await shop.told(2)
    shop.simulator.control("POST", "settlements", {"amount": 1000})

    header, rows = read_statement(shop.simulator.statement())

    books = {entry["receipt"]: entry for entry in shop.simulator.books()}
    assert [row["Receipt No."] for row in rows if "Charge" not in row["Reason Type"]] == list(books)
    assert {row["Reason Type"]: (row["Paid In"], row["Withdrawn"]) for row in rows} == {
        "Pay Bill": ("1500.00", ""),
        "Transaction Reversal via API": ("", "-400.00"),
        "Business Payment to Customer via API": ("", "-2500.00"),
        "Business Payment Charge": ("", "-9.00"),
        "Business Transfer of Funds": ("", "-1000.00"),
    }
    [reversal] = [row for row in rows if row["Linked Transaction ID"]]
    assert reversal["Linked Transaction ID"] == receipt
    balances = shop.simulator.balances()
    assert header["Closing Balance:"] == rows[-1]["Balance"]
    assert rows[-1]["Balance"] == f"{balances['working'] + balances['utility']}.00"


def test_the_statement_has_the_shape_of_the_fixture(simulator: Simulator) -> None:
    header, _ = read_statement(simulator.statement())
    known, rows = read_statement(FIXTURE.read_bytes())

    assert list(header) == list(known)
    assert tuple(rows[0]) == COLUMNS


def test_the_page_offers_the_statement(simulator: Simulator) -> None:
    page = simulator.http.get("/").text

    answer = simulator.http.get(f"/page/statement/{PAY_BILL.short_code}")

    assert f'href="/page/statement/{PAY_BILL.short_code}"' in page
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].startswith("attachment")
