"""STK requests and answers: the rules of the rails reference, 2.3, 2.4 and 2.7."""

import json
from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared.errors import InvalidAmount, InvalidParameter, PhoneInvalid, StalelaError
from shared.money import Money
from shared.rails.base import Instruction, Outcome
from shared.rails.mpesa import stk
from shared.rails.mpesa.credentials import MpesaCredentials, read_credentials

NOW = datetime(2026, 3, 1, 21, 15, 2, tzinfo=UTC)
REF = "ws_CO_01032026141503700000111"


def paybill(**changes: str) -> MpesaCredentials:
    document = {
        "consumer_key": "k",
        "consumer_secret": "s",
        "passkey": "pass",
        "shortcode": "600123",
    }
    return read_credentials(json.dumps(document | changes).encode())


def instruction(**changes: object) -> Instruction:
    plain = Instruction(
        transfer_id="tr_1",
        tenant_id="tn_1",
        environment="sandbox",
        amount=Money(150000, "KES"),
        credentials=b"",
        payer="+254700000111",
        callback_url="https://pay.example.ke/functions/v1/momo-callback/0a1b2c",
        account_reference="INV-20418",
        description="Order 20418",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def answer(**members: object) -> bytes:
    return json.dumps(members).encode()


def test_push_to_a_pay_bill_is_what_daraja_documents() -> None:
    body = stk.push_body(instruction(), paybill(), NOW)

    assert body == {
        "BusinessShortCode": 600123,
        "Password": "NjAwMTIzcGFzczIwMjYwMzAyMDAxNTAy",
        "Timestamp": "20260302001502",
        "TransactionType": "CustomerPayBillOnline",
        "Amount": 1500,
        "PartyA": 254700000111,
        "PartyB": 600123,
        "PhoneNumber": 254700000111,
        "CallBackURL": "https://pay.example.ke/functions/v1/momo-callback/0a1b2c",
        "AccountReference": "INV-20418",
        "TransactionDesc": "Order 20418",
    }


def test_password_is_short_code_passkey_and_the_same_timestamp() -> None:
    body = stk.query_body(REF, paybill(), NOW)

    assert b64decode(str(body["Password"])).decode() == f"600123pass{body['Timestamp']}"


def test_push_to_a_till_pays_the_till_and_signs_with_the_store() -> None:
    till = paybill(type="till", till_number="412345")

    body = stk.push_body(instruction(), till, NOW)

    assert (body["TransactionType"], body["PartyB"], body["BusinessShortCode"]) == (
        "CustomerBuyGoodsOnline",
        412345,
        600123,
    )


@pytest.mark.parametrize(
    ("changes", "kind", "rule"),
    [
        ({"amount": Money(150050, "KES")}, InvalidAmount, "M-Pesa takes whole shillings"),
        ({"amount": Money(1500, "USD")}, InvalidAmount, "M-Pesa takes KES"),
        ({"payer": None}, PhoneInvalid, "phone is not a Kenyan mobile number"),
        ({"payer": "+255712345678"}, PhoneInvalid, "phone is not a Kenyan mobile number"),
        ({"callback_url": None}, InvalidParameter, "M-Pesa needs a callback address"),
        (
            {"callback_url": "https://x.example/M-Pesa/mpEsa/1"},
            InvalidParameter,
            "Daraja refuses a word in the callback address",
        ),
        ({"account_reference": ""}, InvalidParameter, "M-Pesa takes 1 to 12 characters"),
        ({"account_reference": "X" * 13}, InvalidParameter, "M-Pesa takes 1 to 12 characters"),
    ],
)
def test_push_that_daraja_cannot_take_is_refused_by_rule(
    changes: dict[str, object], kind: type[StalelaError], rule: str
) -> None:
    with pytest.raises(kind) as caught:
        stk.push_body(instruction(**changes), paybill(), NOW)

    assert caught.value.errors[0]["detail"] == rule


@pytest.mark.parametrize(
    ("description", "printed"),
    [
        ("Order 20418 for two", "Order 20418 f"),
        ("Kahawa & chai #1", "Kahawa  chai"),
        ("@@", "Payment"),
    ],
)
def test_description_is_cut_to_what_daraja_prints(description: str, printed: str) -> None:
    body = stk.push_body(instruction(description=description), paybill(), NOW)

    assert body["TransactionDesc"] == printed


@pytest.mark.parametrize(
    ("members", "outcome", "reason"),
    [
        ({"ResponseCode": "0", "CheckoutRequestID": REF}, "pending", None),
        ({"ResponseCode": 0, "CheckoutRequestID": REF}, "pending", None),
        ({"ResponseCode": "0"}, "unknown", "UNKNOWN_RAIL_ERROR"),
        ({"ResponseCode": "1", "CheckoutRequestID": REF}, "unknown", "UNKNOWN_RAIL_ERROR"),
        ({"errorCode": "400.002.02", "errorMessage": "Bad Request - Invalid PhoneNumber"},
         "failed_final", "MM_MSISDN_INVALID"),
        ({"ErrorCode": "500.003.02", "ErrorMessage": "Spike arrest"},
         "failed_retryable", "RAIL_UNAVAILABLE"),
        ({"ERRORCODE": "500.001.1001", "ERRORMESSAGE": "Unable to lock subscriber"},
         "failed_retryable", "MM_SUBSCRIBER_LOCKED"),
        ({"errorCode": "500.001.1001", "errorMessage": "[MerchantValidate] - Wrong credentials"},
         "failed_final", "MERCHANT_CONFIGURATION"),
        ({"errorCode": "500.001.1001", "errorMessage": "Something else"}, "unknown", None),
        ({"errorCode": "500.001.1001", "errorMessage": "The transaction is being processed"},
         "unknown", "UNKNOWN_RAIL_ERROR"),
        ({"errorCode": "999.1", "errorMessage": "?"}, "unknown", "UNKNOWN_RAIL_ERROR"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("status", [200, 400, 500])
def test_push_answer_is_read_whatever_the_http_status(
    status: int, members: dict[str, object], outcome: str, reason: str | None
) -> None:
    event = stk.read_push(status, answer(**members))

    assert (event.outcome, event.reason) == (outcome, reason)


def test_bare_401_on_a_push_was_refused_before_processing() -> None:
    event = stk.read_push(401, b'{"fault":{"faultstring":"no apiproduct match found"}}')

    assert (event.outcome, event.reason) == (Outcome.FAILED_FINAL, "MERCHANT_CONFIGURATION")


@pytest.mark.parametrize(
    ("status", "members", "outcome", "reason"),
    [
        (200, {"ResultCode": "0", "CheckoutRequestID": REF}, "succeeded", None),
        (200, {"ResultCode": 0, "CheckoutRequestID": REF}, "succeeded", None),
        (200, {"ResultCode": "4999", "CheckoutRequestID": REF}, "pending", None),
        (200, {"ResultCode": "", "CheckoutRequestID": REF}, "pending", None),
        (200, {"ResultCode": None, "CheckoutRequestID": REF}, "pending", None),
        (200, {"ResultCode": "1032", "CheckoutRequestID": REF}, "failed_final",
         "MM_USER_CANCELLED"),
        (200, {"ResultCode": "1037", "CheckoutRequestID": REF}, "unknown", "MM_TIMEOUT"),
        (200, {"ResultCode": "0", "CheckoutRequestID": "ws_CO_other"}, "unknown",
         "UNKNOWN_RAIL_ERROR"),
        (200, {"ResultCode": "1032"}, "unknown", "UNKNOWN_RAIL_ERROR"),
        (200, {"ResultCode": [0], "CheckoutRequestID": REF}, "unknown", "UNKNOWN_RAIL_ERROR"),
        (200, {"ResponseCode": "0", "CheckoutRequestID": REF}, "unknown", "RAIL_UNAVAILABLE"),
        (500, {"errorCode": "500.001.1001", "errorMessage": "The transaction is being processed"},
         "pending", None),
        (200, {"errorCode": "500.001.1001", "errorMessage": "The transaction is being processed"},
         "pending", None),
        (500, {"errorCode": "500.001.1001", "errorMessage": ""}, "unknown", None),
        (200, {"errorCode": "500.001.1001"}, "unknown", None),
        (500, {"errorCode": "500.001.1001", "errorMessage": "The transaction does not Exist"},
         "unknown", None),
    ],
)  # fmt: skip
def test_query_answer_is_read_as_the_reference_says(
    status: int, members: dict[str, object], outcome: str, reason: str | None
) -> None:
    event = stk.read_query(status, answer(**members), REF)

    assert (event.outcome, event.reason, event.rail_ref) == (outcome, reason, REF)
    assert (event.receipt, event.amount) == (None, None)


@pytest.mark.parametrize(
    "error", ["400.002.02", "400.003.02", "403.002.1001", "404.001.03", "500.003.02", "9.9", ""]
)
def test_no_error_of_the_query_ever_fails_a_transfer(error: str) -> None:
    event = stk.read_query(400, answer(errorCode=error, errorMessage="Wrong credentials"), REF)

    assert event.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("status", "body", "is_token"),
    [
        (401, answer(errorCode="401.002.01"), True),
        (404, answer(errorCode="404.001.03"), True),
        (400, answer(ErrorCode="400.003.01"), True),
        (401, b"", True),
        (401, answer(errorCode="403.002.1001"), False),
        (400, answer(errorCode="400.002.02"), False),
        (500, b"", False),
        (200, answer(ResponseCode="0"), False),
    ],
)
def test_only_token_errors_allow_a_resend(status: int, body: bytes, is_token: bool) -> None:
    assert stk.is_token_error(status, body) is is_token
