"""STK push on paper: requests built and answers read, without I/O. Rails reference 2.3 to 2.7."""

from base64 import b64encode
from datetime import datetime

from shared.errors import InvalidParameter
from shared.rails.base import (
    RAIL_UNAVAILABLE,
    UNKNOWN_RAIL_ERROR,
    Instruction,
    Outcome,
    RailEvent,
    Source,
)
from shared.rails.mpesa import codes, fields, wire
from shared.rails.mpesa.credentials import MpesaCredentials

PUSH_PATH = "/mpesa/stkpush/v1/processrequest"
QUERY_PATH = "/mpesa/stkpushquery/v1/query"

# Refused before processing, so a fresh token and one resend are safe. Rails reference 2.2.
TOKEN_ERRORS = frozenset({"400.003.01", "401.002.01", "404.001.03"})
_REFUSED, _UNAUTHORIZED = 400, 401

_DESCRIPTION_MAX = 13
_REFERENCE_MAX = 12


def password(credentials: MpesaCredentials, timestamp: str) -> str:
    """Give the Password that goes with exactly this Timestamp."""
    plain = credentials.shortcode + credentials.passkey.get_secret_value() + timestamp
    return b64encode(plain.encode()).decode()


def push_body(instruction: Instruction, credentials: MpesaCredentials, now: datetime) -> wire.Body:
    """Build the push.

    InvalidAmount, PhoneInvalid or InvalidParameter names the field that Daraja could not take.
    """
    payer = fields.msisdn(instruction.payer)
    is_till = credentials.type == "till"
    return {
        **_signed(credentials, now),
        "TransactionType": "CustomerBuyGoodsOnline" if is_till else "CustomerPayBillOnline",
        "Amount": fields.whole_shillings(instruction.amount),
        "PartyA": payer,
        "PartyB": int(credentials.collects_at),
        "PhoneNumber": payer,
        "CallBackURL": fields.callback_url(instruction.callback_url),
        "AccountReference": _account_reference(instruction.account_reference),
        "TransactionDesc": fields.plain(instruction.description, _DESCRIPTION_MAX, "Payment"),
    }


def query_body(rail_ref: str, credentials: MpesaCredentials, now: datetime) -> wire.Body:
    """Build the query for a CheckoutRequestID."""
    return {**_signed(credentials, now), "CheckoutRequestID": rail_ref}


def is_token_error(status: int, body: bytes) -> bool:
    """Say whether Daraja refused the token, before looking at the request itself."""
    if status < _REFUSED:
        return False
    code = wire.error_code(status, wire.read_answer(body))
    return code in TOKEN_ERRORS or code == str(_UNAUTHORIZED)


def read_push(status: int, body: bytes) -> RailEvent:
    """Read the answer to a push. "0" means accepted for prompting, nothing more."""
    answer = wire.read_answer(body)
    error = wire.error_code(status, answer)
    if error:
        text = wire.text(answer.get("errormessage"))
        return codes.api_error(Source.SUBMIT, error, text, None)
    rail_ref = wire.text(answer.get("checkoutrequestid")) or None
    code = wire.text(answer.get("responsecode"))
    message = wire.text(answer.get("responsedescription")) or f"HTTP {status} without a known body"
    if code == "0" and rail_ref:
        return RailEvent(
            Outcome.PENDING, Source.SUBMIT, rail_ref, code=code, message=message, channel="api"
        )
    reason = UNKNOWN_RAIL_ERROR if code else RAIL_UNAVAILABLE
    return RailEvent(
        Outcome.UNKNOWN,
        Source.SUBMIT,
        rail_ref,
        code=code or None,
        message=message,
        reason=reason,
        channel="api",
    )


def read_query(status: int, body: bytes, rail_ref: str) -> RailEvent:
    """Read the answer to a query about `rail_ref`. It carries neither amount nor receipt.

    An API error says that the question failed and nothing about the payment: only "is being
    processed" is news, and no error of the query may ever fail a transfer.
    """
    answer = wire.read_answer(body)
    error = wire.error_code(status, answer)
    if error:
        return _query_error(error, wire.text(answer.get("errormessage")), rail_ref)
    message = wire.text(answer.get("resultdesc")) or f"HTTP {status} without a known body"
    if "resultcode" not in answer:
        return _unknown_query(rail_ref, None, message, RAIL_UNAVAILABLE)
    try:
        code = wire.code(answer["resultcode"], "ResultCode")
    except wire.NotReadable as problem:
        return _unknown_query(rail_ref, None, str(problem), UNKNOWN_RAIL_ERROR)
    if not code:
        return RailEvent(Outcome.PENDING, Source.QUERY, rail_ref, message=message)
    if wire.text(answer.get("checkoutrequestid")) != rail_ref:
        problem_text = "the answer is not about this CheckoutRequestID"
        # Without its code, which is about somebody else's payment.
        return _unknown_query(rail_ref, None, problem_text, UNKNOWN_RAIL_ERROR)
    return stk_event(Source.QUERY, rail_ref, code, message)


def stk_event(source: Source, rail_ref: str, code: str, message: str) -> RailEvent:
    """Translate an STK result code; one that is in no table is UNKNOWN."""
    known = codes.meaning("stk", code, message)
    if known is None:
        known = codes.NOT_KNOWN
    return RailEvent(
        known.outcome,
        source,
        rail_ref,
        code=code,
        message=message,
        reason=known.reason,
        retry_after_s=known.retry_after_s,
        channel="stk",
    )


def _query_error(error: str, message: str, rail_ref: str) -> RailEvent:
    known = codes.meaning("api", error, message)
    if known is None:
        return _unknown_query(rail_ref, error, message, UNKNOWN_RAIL_ERROR)
    is_pending = known.outcome is Outcome.PENDING
    return RailEvent(
        Outcome.PENDING if is_pending else Outcome.UNKNOWN,
        Source.QUERY,
        rail_ref,
        code=error,
        message=message or None,
        reason=known.reason,
        retry_after_s=known.retry_after_s,
        channel="api",
    )


def _unknown_query(rail_ref: str, code: str | None, message: str, reason: str) -> RailEvent:
    return RailEvent(
        Outcome.UNKNOWN, Source.QUERY, rail_ref, code=code, message=message or None, reason=reason
    )


def _signed(credentials: MpesaCredentials, now: datetime) -> wire.Body:
    timestamp = fields.eat_timestamp(now)
    return {
        "BusinessShortCode": int(credentials.shortcode),
        "Password": password(credentials, timestamp),
        "Timestamp": timestamp,
    }


def _account_reference(reference: str) -> str:
    if not 1 <= len(reference) <= _REFERENCE_MAX:
        raise fields.refused(
            InvalidParameter, "account_reference", "M-Pesa takes 1 to 12 characters"
        )
    return reference
