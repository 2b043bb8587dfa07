"""The M-Pesa rail against the Daraja simulator: two independent readings of one wire format."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from scripts.stack.daraja.credentials import PAY_BILL, TILL, Merchant
from scripts.stack.places import ROOT
from scripts.stack.testing import free_block
from shared.config import Settings
from shared.errors import CredentialsRefused
from shared.money import Money
from shared.rails.base import (
    CallbackNotUnderstood,
    CallbackRequest,
    Instruction,
    Outcome,
    RailEvent,
    RailUnavailable,
)
from shared.rails.mpesa.client import DarajaClient
from shared.rails.mpesa.rail import MpesaRail
from shared.rails.registry import Rails
from shared.transport import Budgets, HttpTransport
from tests.support.simulator import PATIENCE_S, until

SILENCE_S = 3.0  # after which the rail stops waiting for an answer
FAST = 100.0  # virtual seconds per second
ANYBODY = "+254712345699"  # no scenario: a person, or an armed fault, decides


@dataclass
class Daraja:
    """The simulator's control side; `url` is also the host that the rail is given."""

    url: str
    console: Path
    control: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.control = httpx.Client(base_url=self.url, trust_env=False, timeout=15)

    def arm(self, fault: str, **fields: Any) -> None:
        self.control.post("/control/faults", json={"fault": fault, **fields}).raise_for_status()

    def change(self, **settings: Any) -> None:
        self.control.post("/control/settings", json=settings).raise_for_status()

    def reset(self) -> None:
        self.control.post("/control/reset").raise_for_status()
        self.change(speed=FAST, query_noise=0)

    def log(self) -> dict[str, Any]:
        return dict(self.control.get("/control/log").raise_for_status().json())

    def requests(self, endpoint: str) -> int:
        return int(self.log()["counts"]["requests"].get(endpoint, 0))

    def prompts(self) -> list[dict[str, Any]]:
        return list(self.control.get("/control/prompts").raise_for_status().json())

    def receipts(self) -> set[str]:
        return {prompt["receipt"] for prompt in self.prompts() if prompt["receipt"]}

    def starts(self) -> int:
        return self.console.read_bytes().count(b"daraja_simulator_started")

    async def callback_bodies(self, count: int = 1) -> list[bytes]:
        """Wait for the callbacks it tried to deliver; nobody listens, so each failed."""
        for _ in range(int(PATIENCE_S / 0.05)):
            tried = [c for c in self.log()["callbacks"] if c["attempted_at"]]
            if len(tried) >= count:
                return [c["body"].encode() for c in tried]
            await asyncio.sleep(0.05)
        raise AssertionError(f"fewer than {count} callbacks in {PATIENCE_S} s")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daraja]:
    port, state = free_block(), tmp_path_factory.mktemp("daraja")
    command = [sys.executable, "-m", "scripts.stack.daraja"]
    with (state / "console").open("wb") as console:
        process = subprocess.Popen(  # noqa: S603  our own simulator
            [*command, "--port", str(port), "--state", str(state)],
            cwd=ROOT,
            stdout=console,
            stderr=console,
        )
    daraja = Daraja(f"http://127.0.0.1:{port}", state / "console")
    try:
        wait_until_healthy(daraja)
        yield daraja
    finally:
        daraja.control.close()
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture
def daraja(running: Daraja) -> Daraja:
    running.reset()
    return running


@pytest.fixture
async def rail(daraja: Daraja) -> AsyncIterator[MpesaRail]:
    transport = HttpTransport(Budgets(connect_s=SILENCE_S, read_s=SILENCE_S))
    client = DarajaClient({"sandbox": daraja.url}, transport=transport)
    yield MpesaRail(client)
    await client.aclose()


def wait_until_healthy(daraja: Daraja) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            daraja.control.get("/control/health").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(daraja.console.read_text())


def credentials(merchant: Merchant = PAY_BILL, **changes: str) -> bytes:
    document = {
        "consumer_key": merchant.consumer_key,
        "consumer_secret": merchant.consumer_secret,
        "passkey": merchant.passkey,
        "shortcode": merchant.short_code,
    }
    till = {"type": "till", "till_number": merchant.till} if merchant.till else {}
    return json.dumps(document | till | changes).encode()


def charge(
    payer: str = ANYBODY, rail_ref: str | None = None, document: bytes | None = None
) -> Instruction:
    return Instruction(
        transfer_id="tr_e2e",
        tenant_id="tn_e2e",
        environment="sandbox",
        amount=Money(150000, "KES"),
        credentials=document or credentials(),
        payer=payer,
        callback_url="http://127.0.0.1:9/functions/v1/momo-callback/0a1b2c",
        account_reference="INV-20418",
        description="Order 20418",
        rail_ref=rail_ref,
    )


async def ask_until_decided(rail: MpesaRail, rail_ref: str) -> RailEvent:
    for _ in range(int(PATIENCE_S / 0.05)):
        event = await rail.query(charge(rail_ref=rail_ref))
        if event.outcome is not Outcome.PENDING:
            return event
        await asyncio.sleep(0.05)
    raise AssertionError("still pending")


async def test_a_payment_is_prompted_paid_asked_and_called_back(
    daraja: Daraja, rail: MpesaRail
) -> None:
    pushed = await rail.submit(charge("+254712345600"))
    asked = await ask_until_decided(rail, str(pushed.rail_ref))
    [told] = rail.read_callback(CallbackRequest((await daraja.callback_bodies())[0]))

    assert pushed.outcome is Outcome.PENDING
    assert (asked.outcome, asked.receipt) == (Outcome.SUCCEEDED, None)
    assert (told.outcome, told.rail_ref) == (Outcome.SUCCEEDED, pushed.rail_ref)
    assert told.amount == Money(150000, "KES")
    assert {told.receipt} == daraja.receipts()
    assert told.payer_masked == "+2547******00"
    assert told.occurred_at is not None


async def test_a_till_is_paid_with_its_own_pairing(daraja: Daraja, rail: MpesaRail) -> None:
    document = credentials(TILL)

    pushed = await rail.submit(charge("+254712345600", document=document))
    await daraja.callback_bodies()

    [prompt] = daraja.prompts()
    assert (pushed.outcome, prompt["paid_to"], prompt["state"]) == ("pending", TILL.till, "paid")


@pytest.mark.parametrize(
    ("last_digits", "outcome", "reason"),
    [
        ("01", "failed_final", "MM_INSUFFICIENT_FUNDS"),
        ("02", "failed_final", "MM_USER_CANCELLED"),
        ("03", "unknown", "MM_TIMEOUT"),
        ("04", "failed_final", "MM_WRONG_PIN"),
        ("05", "failed_final", "MM_TIMEOUT"),
        ("06", "failed_retryable", "RAIL_UNAVAILABLE"),
        ("07", "failed_retryable", "MM_SUBSCRIBER_LOCKED"),
        ("08", "failed_final", "MERCHANT_CONFIGURATION"),
        ("19", "unknown", None),
        ("20", "unknown", "UNKNOWN_RAIL_ERROR"),
    ],
)
async def test_every_scenario_reads_as_its_row_says(
    daraja: Daraja, rail: MpesaRail, last_digits: str, outcome: str, reason: str | None
) -> None:
    await rail.submit(charge(f"+2547123456{last_digits}"))

    [told] = rail.read_callback(CallbackRequest((await daraja.callback_bodies())[0]))

    assert (told.outcome, told.reason) == (outcome, reason)


async def test_callbacks_of_every_shape_read_the_same(daraja: Daraja, rail: MpesaRail) -> None:
    await asyncio.gather(*(rail.submit(charge(f"+2547123{n:03}00")) for n in range(30)))

    bodies = await daraja.callback_bodies(30)

    events = [rail.read_callback(CallbackRequest(body))[0] for body in bodies]
    assert {e.receipt for e in events} == daraja.receipts()
    assert {(e.outcome, e.amount) for e in events} == {("succeeded", Money(150000, "KES"))}


async def test_a_wrong_amount_is_reported_as_it_was_paid(daraja: Daraja, rail: MpesaRail) -> None:
    await rail.submit(charge("+254712345617"))

    [told] = rail.read_callback(CallbackRequest((await daraja.callback_bodies())[0]))

    [prompt] = daraja.prompts()
    assert told.amount is not None
    assert told.amount.minor == prompt["paid_amount"] * 100 != 150000


@pytest.mark.parametrize("kind", ["html", "truncated", "empty"])
async def test_a_garbled_callback_is_not_understood(
    daraja: Daraja, rail: MpesaRail, kind: str
) -> None:
    daraja.arm("garbage", at="callback", kind=kind)
    await rail.submit(charge("+254712345600"))

    [body] = await daraja.callback_bodies()

    with pytest.raises(CallbackNotUnderstood):
        rail.read_callback(CallbackRequest(body))


async def test_twenty_pushes_at_once_share_one_token(daraja: Daraja, rail: MpesaRail) -> None:
    events = await asyncio.gather(*(rail.submit(charge(f"+2547123456{n}")) for n in range(40, 60)))

    assert {event.outcome for event in events} == {Outcome.PENDING}
    assert (daraja.requests("token"), len(daraja.prompts())) == (1, 20)


@pytest.mark.parametrize("code", ["401.002.01", "404.001.03", "400.003.01"])
async def test_a_token_that_dies_mid_flight_is_refreshed_exactly_once(
    daraja: Daraja, rail: MpesaRail, code: str
) -> None:
    daraja.arm("token_expires", mid_flight=True, code=code)

    event = await rail.submit(charge())

    assert event.outcome is Outcome.PENDING
    assert (daraja.requests("token"), daraja.requests("push")) == (2, 2)
    assert len(daraja.prompts()) == 1


async def test_a_token_that_dies_under_twenty_is_refreshed_once_for_all(
    daraja: Daraja, rail: MpesaRail
) -> None:
    daraja.arm("token_expires", ttl_s=2)
    await rail.submit(charge())
    await asyncio.sleep(2)

    events = await asyncio.gather(*(rail.submit(charge(f"+2547123456{n}")) for n in range(40, 60)))

    assert {event.outcome for event in events} == {Outcome.PENDING}
    assert (daraja.requests("token"), len(daraja.prompts())) == (2, 21)


SILENCES = [
    ("slow", {"seconds": SILENCE_S + 0.5, "wall": True}),
    ("lost_sync", {"how": "502"}),
    ("lost_sync", {"how": "empty"}),
    ("lost_sync", {"how": "reset"}),
    ("garbage", {"kind": "html"}),
    ("garbage", {"kind": "truncated"}),
    ("garbage", {"kind": "empty"}),
]


@pytest.mark.parametrize(("fault", "fields"), SILENCES)
async def test_a_lost_answer_is_unknown_and_the_payer_is_prompted_once(
    daraja: Daraja, rail: MpesaRail, fault: str, fields: dict[str, Any]
) -> None:
    daraja.arm(fault, **fields)

    event = await rail.submit(charge())

    assert (event.outcome, event.reason) == (Outcome.UNKNOWN, "RAIL_UNAVAILABLE")
    assert event.rail_ref is None
    assert (daraja.requests("push"), len(daraja.prompts())) == (1, 1)


@pytest.mark.parametrize(("fault", "fields"), SILENCES)
async def test_a_lost_answer_to_a_query_is_unknown(
    daraja: Daraja, rail: MpesaRail, fault: str, fields: dict[str, Any]
) -> None:
    pushed = await rail.submit(charge())
    daraja.arm(fault, at="query", **fields)

    event = await rail.query(charge(rail_ref=pushed.rail_ref))

    assert (event.outcome, event.reason) == (Outcome.UNKNOWN, "RAIL_UNAVAILABLE")


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [("4999", "pending"), ("empty", "pending"), ("500.001.1001", "pending")],
)
async def test_an_open_prompt_is_pending_in_every_wording(
    daraja: Daraja, rail: MpesaRail, answer: str, outcome: str
) -> None:
    pushed = await rail.submit(charge())
    daraja.change(query_open=answer, speed=1)

    events = [await rail.query(charge(rail_ref=pushed.rail_ref)) for _ in range(8)]

    assert {event.outcome for event in events} == {outcome}


async def test_a_query_that_pretends_not_to_know_fails_nothing(
    daraja: Daraja, rail: MpesaRail
) -> None:
    pushed = await rail.submit(charge("+254712345602"))
    await daraja.callback_bodies()
    daraja.change(query_noise=1)

    events = [await rail.query(charge(rail_ref=pushed.rail_ref)) for _ in range(8)]

    assert {(event.outcome, event.reason) for event in events} == {("unknown", None)}


@pytest.mark.parametrize(
    ("code", "message", "outcome", "reason"),
    [
        ("500.003.02", None, "failed_retryable", "RAIL_UNAVAILABLE"),
        ("00.002.1001", None, "failed_retryable", "RAIL_UNAVAILABLE"),
        ("500.001.1001", "Unable to lock subscriber", "failed_retryable", "MM_SUBSCRIBER_LOCKED"),
        ("403.002.1001", None, "failed_final", "MERCHANT_CONFIGURATION"),
        ("500.003.1001", None, "unknown", "RAIL_UNAVAILABLE"),
        ("500.777.77", None, "unknown", "UNKNOWN_RAIL_ERROR"),
    ],
)
async def test_a_refused_push_prompts_nobody(
    daraja: Daraja, rail: MpesaRail, code: str, message: str | None, outcome: str, reason: str
) -> None:
    daraja.arm("refused", code=code, message=message)

    event = await rail.submit(charge())

    assert (event.outcome, event.reason) == (outcome, reason)
    assert (daraja.requests("push"), daraja.prompts()) == (1, [])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"passkey": "wrong"}, "500.001.1001"),
        ({"shortcode": "600288"}, "500.001.1001"),
        ({"consumer_secret": "wrong"}, "400.008.01"),
        ({"type": "till", "till_number": "880288"}, "SFC_IC0003"),
    ],
)
async def test_wrong_credentials_are_the_merchants_to_correct(
    daraja: Daraja, rail: MpesaRail, changes: dict[str, str], code: str
) -> None:
    event = await rail.submit(charge(document=credentials(**changes)))
    if event.outcome is Outcome.PENDING:  # a wrong pairing shows only in the result
        [event] = rail.read_callback(CallbackRequest((await daraja.callback_bodies())[0]))

    assert (event.outcome, event.code) == (Outcome.FAILED_FINAL, code)
    assert event.reason == "MERCHANT_CONFIGURATION"


async def test_credentials_are_checked_at_the_token_endpoint(
    daraja: Daraja, rail: MpesaRail
) -> None:
    await rail.check_credentials(credentials(), "sandbox")

    with pytest.raises(CredentialsRefused, match=r"400\.008\.01"):
        await rail.check_credentials(credentials(consumer_secret="wrong"), "sandbox")
    assert (daraja.requests("token"), daraja.requests("push")) == (2, 0)


async def test_a_token_endpoint_that_is_down_sends_no_charge(
    daraja: Daraja, rail: MpesaRail
) -> None:
    daraja.arm("down", at="token")

    with pytest.raises(RailUnavailable) as caught:
        await rail.submit(charge())

    assert caught.value.retry_after_s > 0
    assert daraja.requests("push") == 0


async def test_a_restart_around_the_answer_is_unknown_then_found_in_the_books(
    daraja: Daraja, rail: MpesaRail
) -> None:
    daraja.arm("pays")
    daraja.arm("restart", moment="before_answer")
    before = daraja.starts()

    event = await rail.submit(charge())
    until(lambda: daraja.starts() > before, "a new start")  # it goes on answering for a moment
    wait_until_healthy(daraja)
    [told] = rail.read_callback(CallbackRequest((await daraja.callback_bodies())[0]))

    assert event.outcome is Outcome.UNKNOWN
    assert (told.outcome, {told.receipt}) == (Outcome.SUCCEEDED, daraja.receipts())


async def test_a_host_that_refuses_connections_was_sent_nothing() -> None:
    client = DarajaClient({"sandbox": f"http://127.0.0.1:{free_block() + 4}"})

    with pytest.raises(RailUnavailable):
        await MpesaRail(client).submit(charge())

    await client.aclose()


async def test_the_registry_leaves_a_failing_rail_alone(daraja: Daraja) -> None:
    rails = Rails(
        Settings(
            function_name="e2e",
            data_api_url=daraja.url,
            data_api_token=SecretStr("none"),
            supabase_url=daraja.url,
            functions_url=daraja.url,
            daraja_sandbox_url=daraja.url,
        )
    )
    daraja.arm("down", at="push", sticky=True)

    outcomes = [(await rails.get("mpesa").submit(charge())).outcome for _ in range(5)]
    with pytest.raises(RailUnavailable) as caught:
        await rails.get("mpesa").submit(charge())
    await rails.aclose()

    assert (outcomes, daraja.requests("push")) == ([Outcome.UNKNOWN] * 5, 5)
    assert caught.value.retry_after_s == 30
