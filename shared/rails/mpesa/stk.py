"""STK push on paper: requests built and answers read, without I/O. Rails reference 2.3 to 2.7."""

import re
from base64 import b64encode
from datetime import datetime, timedelta, timezone

from shared.errors import FieldError, InvalidAmount, InvalidParameter, PhoneInvalid, StalelaError
from shared.rails.base import (
    RAIL_UNAVAILABLE,
    UNKNOWN_RAIL_ERROR,
    Instruction,
    Outcome,
    RailEvent,
    Source,
)
from shared.rails.mpesa import codes, wire
from shared.rails.mpesa.credentials import MpesaCredentials

PUSH_PATH = "/mpesa/stkpush/v1/processrequest"
QUERY_PATH = "/mpesa/stkpushquery/v1/query"
EAT = timezone(timedelta(hours=3), "EAT")  # Daraja's clock; no daylight saving

# Refused before processing, so a fresh token and one resend are safe. Rails reference 2.2.
TOKEN_ERRORS = frozenset({"400.003.01", "401.002.01", "404.001.03"})
_UNAUTHORIZED = 401

# Daraja refuses callback addresses that contain these, wherever they are. Rails reference 2.3.
_FORBIDDEN_IN_URL = ("mpesa", "safaricom", "exe", "exec", "cmd", "sql", "query")
_PAYER = re.compile(r"\+254[17][0-9]{8}")
_DESCRIPTION_MAX = 13
_REFERENCE_MAX = 12


def eat_timestamp(now: datetime) -> str:
    """Give `now` (aware) as yyyyMMddHHmmss in Nairobi."""
    assert now.tzinfo is not None, "a naive time would be read in this machine's zone"
    return now.astimezone(EAT).strftime("%Y%m%d%H%M%S")


def password(credentials: MpesaCredentials, timestamp: str) -> str:
    """Give the Password that goes with exactly this Timestamp."""
    plain = credentials.shortcode + credentials.passkey.get_secret_value() + timestamp
    return b64encode(plain.encode()).decode()


def push_body(instruction: Instruction, credentials: MpesaCredentials, now: datetime) -> wire.Body:
    """Build the push.

    InvalidAmount, PhoneInvalid or InvalidParameter names the field that Daraja could not take.
    """
    payer = _payer_digits(instruction.payer)
    is_till = credentials.type == "till"
    return {
        **_signed(credentials, now),
        "TransactionType": "CustomerBuyGoodsOnline" if is_till else "CustomerPayBillOnline",
        "Amount": _whole_shillings(instruction),
        "PartyA": payer,
        "PartyB": int(credentials.till_number or credentials.shortcode),
        "PhoneNumber": payer,
        "CallBackURL": _callback_url(instruction.callback_url),
        "AccountReference": _account_reference(instruction.account_reference),
        "TransactionDesc": _plain(instruction.description),
    }


def query_body(rail_ref: str, credentials: MpesaCredentials, now: datetime) -> wire.Body:
    """Build the query for a CheckoutRequestID."""
    return {**_signed(credentials, now), "CheckoutRequestID": rail_ref}


def is_token_error(status: int, body: bytes) -> bool:
    """Say whether Daraja refused the token, before looking at the request itself."""
    code = _error_code(_answer(body))
    return code in TOKEN_ERRORS or (status == _UNAUTHORIZED and not code)


def read_push(status: int, body: bytes) -> RailEvent:
    """Read the answer to a push. "0" means accepted for prompting, nothing more."""
    answer = _answer(body)
    error = _error_code(answer) or (str(status) if status == _UNAUTHORIZED else "")
    if error:
        return _push_error(error, wire.text(answer.get("errormessage")))
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
    answer = _answer(body)
    error = _error_code(answer) or (str(status) if status == _UNAUTHORIZED else "")
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


def _push_error(error: str, message: str) -> RailEvent:
    known = codes.meaning("api", error, message)
    # A push that Daraja calls "being processed" gave us no CheckoutRequestID: we know nothing.
    if known is None or known.outcome is Outcome.PENDING:
        known = codes.NOT_KNOWN
    return RailEvent(
        known.outcome,
        Source.SUBMIT,
        code=error,
        message=message or None,
        reason=known.reason,
        retry_after_s=known.retry_after_s,
        channel="api",
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


def _answer(body: bytes) -> wire.Node:
    try:
        return wire.read_object(body)
    except wire.NotReadable:
        return {}  # garbage says nothing; every reader takes an empty answer for UNKNOWN


def _error_code(answer: wire.Node) -> str:
    return wire.text(answer.get("errorcode"))


def _signed(credentials: MpesaCredentials, now: datetime) -> wire.Body:
    timestamp = eat_timestamp(now)
    return {
        "BusinessShortCode": int(credentials.shortcode),
        "Password": password(credentials, timestamp),
        "Timestamp": timestamp,
    }


def _whole_shillings(instruction: Instruction) -> int:
    if instruction.amount.currency != wire.CURRENCY:
        raise _refused(InvalidAmount, "currency", "M-Pesa takes KES")
    shillings, rest = divmod(instruction.amount.minor, 100)
    if rest:
        raise _refused(InvalidAmount, "amount", "M-Pesa takes whole shillings")
    return shillings


def _payer_digits(payer: str | None) -> int:
    if payer is None or not _PAYER.fullmatch(payer):
        raise _refused(PhoneInvalid, "phone", "phone is not a Kenyan mobile number")
    return int(payer.removeprefix("+"))


def _callback_url(url: str | None) -> str:
    if not url:
        raise _refused(InvalidParameter, "callback_url", "M-Pesa needs a callback address")
    if any(word in url.lower() for word in _FORBIDDEN_IN_URL):
        raise _refused(
            InvalidParameter, "callback_url", "Daraja refuses a word in the callback address"
        )
    return url


def _account_reference(reference: str) -> str:
    if not 1 <= len(reference) <= _REFERENCE_MAX:
        raise _refused(InvalidParameter, "account_reference", "M-Pesa takes 1 to 12 characters")
    return reference


def _plain(description: str) -> str:
    """Keep what Daraja prints: specials are reported to fail silently. Rails reference 2.3."""
    return re.sub(r"[^A-Za-z0-9 .-]", "", description)[:_DESCRIPTION_MAX].strip() or "Payment"


def _refused(kind: type[StalelaError], field: str, rule: str) -> StalelaError:
    return kind(f"{field}: {rule}", errors=[FieldError(pointer=f"/{field}", detail=rule)])
