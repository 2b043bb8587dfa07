"""The M-Pesa rail over a mock transport: what leaves, how often, and what each answer becomes."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from shared.errors import CredentialsRefused, InvalidAmount, InvalidRequest
from shared.money import Money
from shared.rails.base import (
    ChecksBalance,
    ChecksCredentials,
    DepositUrls,
    Instruction,
    Operation,
    Outcome,
    PaysOut,
    RailUnavailable,
    Refunds,
    TakesDeposits,
)
from shared.rails.mpesa.client import DarajaClient
from shared.rails.mpesa.rail import MpesaRail
from shared.transport import Answer, NothingSent, Request
from tests.unit.shared.rails.mpesa.initiators import document

REF = "ws_CO_01032026141503700000111"
TRANSFER = "tr_01kb2m3n4p5q6r7s8t9v0w1x2y"
CREDENTIALS = json.dumps(
    {"consumer_key": "key", "consumer_secret": "secret", "passkey": "pass", "shortcode": "600123"}
).encode()


def answer(status: int, **body: object) -> Answer:
    return Answer(status, json.dumps(body).encode())


ACCEPTED = answer(200, ResponseCode="0", CheckoutRequestID=REF)
BAD_TOKEN = answer(404, errorCode="404.001.03", errorMessage="Invalid Token")

Reply = Answer | NothingSent | None  # None: sent, and silence


@dataclass
class Daraja:
    """A transport. Issues tokens T1, T2, …; `replies` to the rest, the last one repeated."""

    replies: list[Reply] = field(default_factory=lambda: [ACCEPTED])
    token_reply: Reply = ACCEPTED  # as good as none: it holds no token
    refuses_tokens: bool = False
    seen: list[Request] = field(default_factory=list)

    async def send(self, request: Request) -> Answer | None:
        self.seen.append(request)
        await asyncio.sleep(0)
        if "/oauth/v1/generate" in request.url:
            return self._token()
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, NothingSent):
            raise reply
        return reply

    async def aclose(self) -> None:
        """Nothing is open."""

    def refuse_tokens(self, reply: Reply) -> None:
        self.token_reply, self.refuses_tokens = reply, True

    def tokens(self) -> int:
        return len([r for r in self.seen if r.method == "GET"])

    def posts(self) -> list[Request]:
        return [r for r in self.seen if r.method == "POST"]

    def hosts(self) -> list[str]:
        return [str(urlsplit(r.url).hostname) for r in self.seen]

    def _token(self) -> Answer | None:
        if not self.refuses_tokens:
            return answer(200, access_token=f"T{self.tokens()}", expires_in="3599")
        if isinstance(self.token_reply, NothingSent):
            raise self.token_reply
        return self.token_reply


@pytest.fixture
def daraja() -> Daraja:
    return Daraja()


@pytest.fixture
def rail(daraja: Daraja) -> MpesaRail:
    hosts = {"sandbox": "https://sandbox.example", "production": "https://live.example"}
    client = DarajaClient(hosts, transport=daraja)
    return MpesaRail(client, lambda: datetime(2026, 3, 1, 11, 15, 2, tzinfo=UTC))


def instruction(
    minor: int = 150000, environment: str = "sandbox", credentials: bytes = CREDENTIALS
) -> Instruction:
    return Instruction(
        transfer_id="tr_1",
        tenant_id="tn_1",
        environment=environment,
        amount=Money(minor, "KES"),
        credentials=credentials,
        payer="+254700000111",
        callback_url="https://pay.example.ke/functions/v1/momo-callback/0a1b2c",
        account_reference="INV-20418",
        description="Order 20418",
        rail_ref=REF,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )


async def test_a_push_logs_in_and_carries_token_and_trace(rail: MpesaRail, daraja: Daraja) -> None:
    event = await rail.submit(instruction())

    login, push = daraja.seen
    assert (event.outcome, event.rail_ref) == (Outcome.PENDING, REF)
    assert login.url.endswith("/oauth/v1/generate?grant_type=client_credentials")
    assert login.headers["authorization"] == f"Basic {base64.b64encode(b'key:secret').decode()}"
    assert push.headers["authorization"] == "Bearer T1"
    assert push.headers["traceparent"].startswith("00-4bf92f")
    assert json.loads(push.body or b"")["Amount"] == 1500


async def test_environments_go_to_their_own_hosts_with_their_own_tokens(
    rail: MpesaRail, daraja: Daraja
) -> None:
    await rail.submit(instruction(environment="sandbox"))
    await rail.submit(instruction(environment="production"))

    assert daraja.hosts() == ["sandbox.example"] * 2 + ["live.example"] * 2


async def test_a_dead_token_is_refreshed_once_and_the_push_sent_again(
    rail: MpesaRail, daraja: Daraja
) -> None:
    daraja.replies = [BAD_TOKEN, ACCEPTED]

    event = await rail.submit(instruction())

    assert event.outcome is Outcome.PENDING
    assert [r.headers["authorization"] for r in daraja.posts()] == ["Bearer T1", "Bearer T2"]
    assert daraja.posts()[0].body == daraja.posts()[1].body


async def test_a_token_refused_twice_is_not_tried_a_third_time(
    rail: MpesaRail, daraja: Daraja
) -> None:
    daraja.replies = [BAD_TOKEN]

    event = await rail.submit(instruction())

    assert (event.outcome, event.code) == (Outcome.FAILED_RETRYABLE, "404.001.03")
    assert (daraja.tokens(), len(daraja.posts())) == (2, 2)


@pytest.mark.parametrize(
    "reply",
    [
        answer(500, errorCode="500.003.1001"),
        answer(429, errorCode="500.003.02"),
        answer(400, errorCode="400.002.02"),
        Answer(503, b"unavailable"),
        None,
    ],
)
async def test_nothing_but_a_dead_token_sends_a_push_again(
    rail: MpesaRail, daraja: Daraja, reply: Reply
) -> None:
    daraja.replies = [reply]

    await rail.submit(instruction())

    assert len(daraja.posts()) == 1


async def test_twenty_pushes_at_once_log_in_once_and_prompt_twenty_times(
    rail: MpesaRail, daraja: Daraja
) -> None:
    await asyncio.gather(*(rail.submit(instruction()) for _ in range(20)))

    assert (daraja.tokens(), len(daraja.posts())) == (1, 20)


async def test_a_refused_login_fails_the_charge_because_nothing_was_sent(
    rail: MpesaRail, daraja: Daraja
) -> None:
    daraja.refuse_tokens(answer(400, errorCode="400.008.01"))

    event = await rail.submit(instruction())

    assert (event.outcome, event.reason) == (Outcome.FAILED_FINAL, "MERCHANT_CONFIGURATION")
    assert (event.code, daraja.posts()) == ("400.008.01", [])


async def test_a_refused_login_tells_nothing_about_a_sent_charge(
    rail: MpesaRail, daraja: Daraja
) -> None:
    daraja.refuse_tokens(Answer(401, b""))

    event = await rail.query(instruction())

    assert (event.outcome, event.reason) == (Outcome.UNKNOWN, "MERCHANT_CONFIGURATION")


async def test_malformed_stored_credentials_send_nothing(rail: MpesaRail, daraja: Daraja) -> None:
    event = await rail.submit(instruction(credentials=b"{}"))

    assert (event.outcome, daraja.seen) == (Outcome.FAILED_FINAL, [])


async def test_a_fraction_of_a_shilling_sends_nothing(rail: MpesaRail, daraja: Daraja) -> None:
    with pytest.raises(InvalidAmount, match="M-Pesa takes whole shillings"):
        await rail.submit(instruction(minor=150050))

    assert daraja.posts() == []


async def test_an_attempt_without_a_reference_cannot_be_asked_about(
    rail: MpesaRail, daraja: Daraja
) -> None:
    unnamed = Instruction("tr_1", "tn_1", "sandbox", Money(100, "KES"), CREDENTIALS)

    event = await rail.query(unnamed)

    assert (event.outcome, daraja.seen) == (Outcome.UNKNOWN, [])


async def test_silence_after_sending_is_unknown(rail: MpesaRail, daraja: Daraja) -> None:
    daraja.replies = [None]

    pushed, asked = await rail.submit(instruction()), await rail.query(instruction())

    assert (pushed.outcome, pushed.reason) == (Outcome.UNKNOWN, "RAIL_UNAVAILABLE")
    assert (asked.outcome, asked.reason) == (Outcome.UNKNOWN, "RAIL_UNAVAILABLE")


async def test_nothing_sent_is_unavailable(rail: MpesaRail, daraja: Daraja) -> None:
    daraja.replies = [NothingSent()]

    with pytest.raises(RailUnavailable, match="cannot be reached"):
        await rail.submit(instruction())


async def test_checking_credentials_always_logs_in_anew(rail: MpesaRail, daraja: Daraja) -> None:
    await rail.check_credentials(CREDENTIALS, "sandbox")
    await rail.check_credentials(CREDENTIALS, "sandbox")

    assert (daraja.tokens(), daraja.posts()) == (2, [])


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (
            answer(400, errorCode="400.008.01"),
            CredentialsRefused,
            r"consumer key or secret \(400.008.01\)",
        ),
        (Answer(400, b""), CredentialsRefused, r"consumer key or secret \(HTTP 400\)"),
        (Answer(503, b""), RailUnavailable, "gave no token"),
        (Answer(200, b"<html>"), RailUnavailable, "gave no token"),
        (
            answer(429, errorCode="500.003.02"),
            RailUnavailable,
            "gave no token",
        ),
        (NothingSent(), RailUnavailable, "cannot be reached"),
        (None, RailUnavailable, "in time"),
    ],
)
async def test_checking_credentials_says_why_they_fail(
    rail: MpesaRail,
    daraja: Daraja,
    reply: Reply,
    kind: type[Exception],
    says: str,
) -> None:
    daraja.refuse_tokens(reply)

    with pytest.raises(kind, match=says):
        await rail.check_credentials(CREDENTIALS, "sandbox")


async def test_checking_malformed_credentials_asks_nobody(rail: MpesaRail, daraja: Daraja) -> None:
    with pytest.raises(InvalidRequest):
        await rail.check_credentials(b"{}", "sandbox")

    assert daraja.seen == []


def test_the_rail_offers_credential_checks(rail: MpesaRail) -> None:
    assert isinstance(rail, ChecksCredentials)
    assert rail.mask_credentials(CREDENTIALS)["shortcode"] == "600123"


@pytest.mark.parametrize(
    "body",
    [
        b'{"Initiator":"api","SecurityCredential":"S3cr3t==","Amount":10}',
        b'{"x":{"securityCredential" : "S3cr3t=="}}',
        b'{"SecurityCredential":"S3cr3t',
    ],
)
def test_a_security_credential_is_redacted_and_nothing_else(rail: MpesaRail, body: bytes) -> None:
    redacted = rail.redact(body, "timeout")

    assert b"S3cr3t" not in redacted
    assert redacted.replace(b"***", b"") == body.replace(b"S3cr3t", b"").replace(b"==", b"")


OURS = TRANSFER[-20:]


def payout(**changes: Any) -> Instruction:
    fields: dict[str, Any] = {
        "transfer_id": TRANSFER,
        "operation": Operation.PAY_OUT,
        "payee": "+254700000149",
        "credentials": document(),
        "rail_ref": None,
    }
    return replace(instruction(), **(fields | changes))


def refund(**changes: Any) -> Instruction:
    return payout(**{"operation": Operation.REFUND, "original_receipt": "UKL1A2B3C4"} | changes)


def sent(daraja: Daraja) -> tuple[str, dict[str, Any]]:
    """Path and body of the one request that was sent."""
    [post] = daraja.posts()
    return urlsplit(post.url).path, json.loads(post.body or b"")


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (payout, "/mpesa/b2c/v3/paymentrequest"),
        (refund, "/mpesa/reversal/v1/request"),
        (instruction, "/mpesa/stkpush/v1/processrequest"),
    ],
)
async def test_an_instruction_is_submitted_as_its_operation_asks(
    rail: MpesaRail, daraja: Daraja, make: Callable[[], Instruction], path: str
) -> None:
    daraja.replies = [
        answer(200, ResponseCode="0", OriginatorConversationID=OURS, CheckoutRequestID=REF)
    ]

    event = await rail.submit(make())

    assert (event.outcome, sent(daraja)[0]) == (Outcome.PENDING, path)


async def test_silence_about_a_payout_keeps_the_reference_it_can_be_asked_by(
    rail: MpesaRail, daraja: Daraja
) -> None:
    daraja.replies = [None]

    event = await rail.submit(payout())

    assert (event.outcome, event.reason, event.rail_ref) == (
        Outcome.UNKNOWN,
        "RAIL_UNAVAILABLE",
        OURS,
    )


async def test_a_payout_is_asked_about_by_our_reference_when_daraja_gave_none(
    rail: MpesaRail, daraja: Daraja
) -> None:
    daraja.replies = [answer(200, ResponseCode="0")]

    event = await rail.query(payout())

    path, body = sent(daraja)
    assert (path, body["OriginalConversationID"]) == ("/mpesa/transactionstatus/v1/query", OURS)
    assert (event.outcome, event.rail_ref) == (Outcome.PENDING, None)


async def test_a_reversal_that_daraja_never_named_cannot_be_asked_about(
    rail: MpesaRail, daraja: Daraja
) -> None:
    event = await rail.query(refund())

    assert (event.outcome, daraja.seen) == (Outcome.UNKNOWN, [])


async def test_a_merchant_without_an_initiator_pays_nobody_out(
    rail: MpesaRail, daraja: Daraja
) -> None:
    event = await rail.submit(payout(credentials=CREDENTIALS))

    assert (event.outcome, event.reason) == (Outcome.FAILED_FINAL, "MERCHANT_CONFIGURATION")
    assert daraja.seen == []


async def test_a_balance_is_asked_for_and_told_later(rail: MpesaRail, daraja: Daraja) -> None:
    daraja.replies = [answer(200, ResponseCode="0", OriginatorConversationID="1-2-3")]

    event = await rail.request_balance(payout(amount=Money(0, "KES")))

    assert (event.outcome, sent(daraja)[0]) == (Outcome.PENDING, "/mpesa/accountbalance/v1/query")


async def test_deposits_are_registered_once_the_rail_said_so(
    rail: MpesaRail, daraja: Daraja
) -> None:
    daraja.replies = [answer(200, ResponseCode="0"), None]
    urls = DepositUrls("https://pay.example.ke/v", "https://pay.example.ke/c")

    await rail.register_deposits(CREDENTIALS, "sandbox", urls)
    with pytest.raises(RailUnavailable):
        await rail.register_deposits(CREDENTIALS, "sandbox", urls)

    assert daraja.posts()[0].url.endswith("/mpesa/c2b/v2/registerurl")


def test_the_rail_offers_everything_it_can(rail: MpesaRail) -> None:
    abilities = (ChecksCredentials, ChecksBalance, PaysOut, Refunds, TakesDeposits)

    assert [each for each in abilities if not isinstance(rail, each)] == []


def test_a_certificate_that_is_none_is_refused_when_it_is_given(rail: MpesaRail) -> None:
    broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"

    with pytest.raises(InvalidRequest) as caught:
        rail.mask_credentials(document(certificate=broken))

    assert [error["pointer"] for error in caught.value.errors] == ["/certificate"]
