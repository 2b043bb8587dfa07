"""Payouts, reversals, status and balance questions: the requests and their acknowledgements."""

import json
from typing import Any

import pytest

from shared.errors import InvalidAmount, InvalidParameter, InvalidRequest, PhoneInvalid
from shared.money import Money
from shared.rails.base import Instruction, Operation, Outcome
from shared.rails.mpesa import initiator
from shared.rails.mpesa.credentials import MpesaCredentials, read_credentials
from tests.unit.shared.rails.mpesa.initiators import PASSWORD, document, opened

TRANSFER = "tr_01kb2m3n4p5q6r7s8t9v0w1x2y"
OURS = TRANSFER[-20:]
CALLBACK = "https://pay.example.ke/functions/v1/momo-callback/0a1b2c"


def known(**changes: object) -> MpesaCredentials:
    return read_credentials(document(**changes))


def payout(**changes: Any) -> Instruction:
    fields = {
        "transfer_id": TRANSFER,
        "tenant_id": "tn_1",
        "environment": "sandbox",
        "amount": Money(250000, "KES"),
        "credentials": b"",
        "payee": "+254700000149",
        "callback_url": CALLBACK,
        "description": "Salary; November #7",
        "operation": Operation.PAY_OUT,
    } | changes
    return Instruction(**fields)


def refund(**changes: Any) -> Instruction:
    return payout(**{"operation": Operation.REFUND, "original_receipt": "UKL1A2B3C4"} | changes)


def answer(**members: object) -> bytes:
    return json.dumps(members).encode()


def test_payout_is_built_as_b2c_v3_asks() -> None:
    body = initiator.payout_body(payout(), known())

    assert opened(body.pop("SecurityCredential")) == PASSWORD
    assert body == {
        "OriginatorConversationID": OURS,
        "InitiatorName": "acaciaapi",
        "CommandID": "BusinessPayment",
        "Amount": 2500,
        "PartyA": 600123,
        "PartyB": 254700000149,
        "Remarks": "Salary November 7",
        "QueueTimeOutURL": f"{CALLBACK}/timeout",
        "ResultURL": f"{CALLBACK}/result",
        "Occassion": OURS,
    }


def test_payout_leaves_from_its_own_short_code_when_there_is_one() -> None:
    body = initiator.payout_body(payout(), known(b2c_shortcode="600999"))

    assert body["PartyA"] == 600999


def test_security_credential_differs_each_time_and_fills_a_2048_bit_key() -> None:
    first, second = (
        str(initiator.payout_body(payout(), known())["SecurityCredential"]) for _ in range(2)
    )

    assert first != second
    assert len(first) == len(second) == 344


@pytest.mark.parametrize(
    ("changes", "kind", "says"),
    [
        ({"amount": Money(900, "KES")}, InvalidAmount, "10 to 250000 shillings"),
        ({"amount": Money(25000100, "KES")}, InvalidAmount, "10 to 250000 shillings"),
        ({"amount": Money(250050, "KES")}, InvalidAmount, "whole shillings"),
        ({"amount": Money(250000, "USD")}, InvalidAmount, "takes KES"),
        ({"payee": None}, PhoneInvalid, "Kenyan mobile"),
        ({"payee": "+15550100"}, PhoneInvalid, "Kenyan mobile"),
        ({"callback_url": None}, InvalidParameter, "callback"),
        ({"callback_url": "https://mpesa.example/x"}, InvalidParameter, "refuses a word"),
    ],
)
def test_payout_names_what_daraja_would_refuse(
    changes: dict[str, Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says):
        initiator.payout_body(payout(**changes), known())


def test_reversal_names_the_receipt_and_the_account_that_gives_back() -> None:
    body = initiator.reversal_body(refund(amount=Money(50000, "KES")), known())

    assert opened(body.pop("SecurityCredential")) == PASSWORD
    assert body == {
        "Initiator": "acaciaapi",
        "CommandID": "TransactionReversal",
        "TransactionID": "UKL1A2B3C4",
        "Amount": 500,
        "ReceiverParty": 600123,
        "RecieverIdentifierType": "11",
        "Remarks": "Salary November 7",
        "QueueTimeOutURL": f"{CALLBACK}/timeout",
        "ResultURL": f"{CALLBACK}/result",
        "Occasion": OURS,
    }


def test_reversal_of_a_till_payment_is_given_back_by_the_till() -> None:
    body = initiator.reversal_body(refund(), known(type="till", till_number="880288"))

    assert body["ReceiverParty"] == 880288


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"original_receipt": None}, InvalidParameter),
        ({"amount": Money(0, "KES")}, InvalidAmount),
        ({"amount": Money(150, "KES")}, InvalidAmount),
    ],
)
def test_reversal_names_what_daraja_would_refuse(
    changes: dict[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        initiator.reversal_body(refund(**changes), known())


def test_status_is_asked_by_conversation_and_told_elsewhere_than_results() -> None:
    body = initiator.status_body(payout(), OURS, known())

    assert opened(body.pop("SecurityCredential")) == PASSWORD
    assert body == {
        "Initiator": "acaciaapi",
        "CommandID": "TransactionStatusQuery",
        "OriginalConversationID": OURS,
        "PartyA": 600123,
        "IdentifierType": 4,
        "Remarks": "Status",
        "QueueTimeOutURL": f"{CALLBACK}/timeout",
        "ResultURL": f"{CALLBACK}/status",
        "Occasion": OURS,
    }


def test_balance_is_asked_for_the_short_code_that_pays_out() -> None:
    body = initiator.balance_body(payout(amount=Money(0, "KES")), known(b2c_shortcode="600999"))

    assert (body["CommandID"], body["PartyA"]) == ("AccountBalance", 600999)
    assert body["ResultURL"] == f"{CALLBACK}/balance"


def test_credentials_without_an_initiator_cannot_pay_out() -> None:
    collecting = known(initiator_name=None, initiator_password=None, certificate=None)

    with pytest.raises(InvalidRequest, match="no initiator"):
        initiator.payout_body(payout(), collecting)


@pytest.mark.parametrize("code", ["0", "00000000", 0])
def test_an_acknowledgement_is_pending_and_nothing_more(code: object) -> None:
    body = answer(
        ConversationID="AG_1", OriginatorConversationID=OURS, ResponseCode=code, x="accepted"
    )

    event = initiator.read_acknowledgement(200, body, OURS)

    assert (event.outcome, event.rail_ref) == (Outcome.PENDING, OURS)


@pytest.mark.parametrize(
    ("status", "members", "outcome", "reason"),
    [
        (200, {}, Outcome.UNKNOWN, "RAIL_UNAVAILABLE"),
        (502, {}, Outcome.UNKNOWN, "RAIL_UNAVAILABLE"),
        (200, {"ResponseCode": "1"}, Outcome.UNKNOWN, "UNKNOWN_RAIL_ERROR"),
        (500, {"errorCode": "500.002.1001"}, Outcome.UNKNOWN, "DUPLICATE_AT_RAIL"),
        (500, {"errorCode": "500.003.1001"}, Outcome.UNKNOWN, "RAIL_UNAVAILABLE"),
        (429, {"errorCode": "500.003.02"}, Outcome.FAILED_RETRYABLE, "RAIL_UNAVAILABLE"),
        (400, {"errorCode": "400.002.02"}, Outcome.FAILED_FINAL, "MERCHANT_CONFIGURATION"),
        (401, {}, Outcome.FAILED_FINAL, "MERCHANT_CONFIGURATION"),
    ],
)
def test_a_payout_that_was_not_acknowledged_keeps_our_reference(
    status: int, members: dict[str, object], outcome: Outcome, reason: str
) -> None:
    event = initiator.read_acknowledgement(status, answer(**members), OURS)

    assert (event.outcome, event.reason, event.rail_ref) == (outcome, reason, OURS)


def test_a_reversal_is_known_by_the_conversation_that_daraja_gave_it() -> None:
    body = answer(OriginatorConversationID="7071-4170-a0e5", ResponseCode="0")

    assert initiator.read_acknowledgement(200, body, None).rail_ref == "7071-4170-a0e5"


def test_a_reversal_without_a_conversation_is_unknown() -> None:
    event = initiator.read_acknowledgement(200, answer(ResponseCode="0"), None)

    assert (event.outcome, event.rail_ref) == (Outcome.UNKNOWN, None)


def test_a_question_that_was_taken_says_nothing_about_the_transfer() -> None:
    body = answer(OriginatorConversationID="3211-1", ConversationID="AG_2", ResponseCode="0")

    event = initiator.read_question(200, body)

    assert (event.outcome, event.rail_ref, event.code) == (Outcome.PENDING, None, None)


@pytest.mark.parametrize(
    ("status", "members", "reason"),
    [
        (500, {}, "RAIL_UNAVAILABLE"),
        (200, {"ResponseCode": "1"}, "UNKNOWN_RAIL_ERROR"),
        (400, {"errorCode": "400.002.02"}, "MERCHANT_CONFIGURATION"),
        (429, {"errorCode": "500.003.02"}, "RAIL_UNAVAILABLE"),
    ],
)
def test_a_question_that_was_not_taken_fails_no_transfer(
    status: int, members: dict[str, object], reason: str
) -> None:
    event = initiator.read_question(status, answer(**members))

    assert (event.outcome, event.reason, event.code) == (Outcome.UNKNOWN, reason, None)
