"""Payouts, reversals, status and balance on paper: requests built, answers read, without I/O.

Rails reference 2.9. Each is only acknowledged at once; what happened is told to an address.
"""

from typing import Literal

from shared.errors import FieldError, InvalidAmount, InvalidParameter, InvalidRequest
from shared.rails.base import (
    RAIL_UNAVAILABLE,
    UNKNOWN_RAIL_ERROR,
    Instruction,
    Outcome,
    RailEvent,
    Source,
)
from shared.rails.mpesa import codes, fields, wire
from shared.rails.mpesa.credentials import Initiator, MpesaCredentials
from shared.rails.mpesa.security import security_credential

PAYOUT_PATH = "/mpesa/b2c/v3/paymentrequest"
REVERSAL_PATH = "/mpesa/reversal/v1/request"
STATUS_PATH = "/mpesa/transactionstatus/v1/query"
BALANCE_PATH = "/mpesa/accountbalance/v1/query"

PAYOUT_SHILLINGS_MIN, PAYOUT_SHILLINGS_MAX = 10, 250_000
_ACCEPTED = frozenset({"0", "00000000"})
_REMARKS_MAX = 100
_ORGANISATION = 4
_REVERSAL_PARTY = "11"


def payout_body(instruction: Instruction, credentials: MpesaCredentials) -> wire.Body:
    """Build a B2C payment out of the utility account.

    Our reference in it is unique at Daraja, so the same payout twice is refused the second time.
    InvalidAmount, PhoneInvalid or InvalidParameter names the field; InvalidRequest: no initiator.
    """
    initiator = _initiator(credentials)
    shillings = fields.whole_shillings(instruction.amount)
    if not PAYOUT_SHILLINGS_MIN <= shillings <= PAYOUT_SHILLINGS_MAX:
        rule = f"M-Pesa pays out {PAYOUT_SHILLINGS_MIN} to {PAYOUT_SHILLINGS_MAX} shillings"
        raise fields.refused(InvalidAmount, "amount", rule)
    return {
        "OriginatorConversationID": instruction.originator_ref,
        "InitiatorName": initiator.name,
        "SecurityCredential": _sealed(initiator),
        "CommandID": "BusinessPayment",
        "Amount": shillings,
        "PartyA": int(credentials.payout_shortcode),
        "PartyB": fields.msisdn(instruction.payee),
        "Remarks": fields.plain(instruction.description, _REMARKS_MAX, "Payout"),
        **_addresses(instruction, "result"),
        "Occassion": instruction.originator_ref,
    }


def reversal_body(instruction: Instruction, credentials: MpesaCredentials) -> wire.Body:
    """Build the reversal, full or partial, of the payment with `original_receipt`.

    Raises like `payout_body`. Daraja takes no reference of ours: it may never be sent twice.
    """
    initiator = _initiator(credentials)
    shillings = fields.whole_shillings(instruction.amount)
    if shillings < 1:
        raise fields.refused(InvalidAmount, "amount", "M-Pesa reverses one shilling or more")
    if not instruction.original_receipt:
        raise fields.refused(
            InvalidParameter, "original_receipt", "M-Pesa reverses a payment by its receipt"
        )
    return {
        **_identity(initiator, "TransactionReversal"),
        "TransactionID": instruction.original_receipt,
        "Amount": shillings,
        "ReceiverParty": int(credentials.collects_at),
        "RecieverIdentifierType": _REVERSAL_PARTY,
        "Remarks": fields.plain(instruction.description, _REMARKS_MAX, "Refund"),
        **_addresses(instruction, "result"),
        "Occasion": instruction.originator_ref,
    }


def status_body(
    instruction: Instruction, conversation: str, credentials: MpesaCredentials
) -> wire.Body:
    """Build the question about the payout or reversal of that OriginatorConversationID."""
    initiator = _initiator(credentials)
    return {
        **_identity(initiator, "TransactionStatusQuery"),
        "OriginalConversationID": conversation,
        "PartyA": int(credentials.payout_shortcode),
        "IdentifierType": _ORGANISATION,
        "Remarks": "Status",
        **_addresses(instruction, "status"),
        "Occasion": instruction.originator_ref,
    }


def balance_body(instruction: Instruction, credentials: MpesaCredentials) -> wire.Body:
    """Build the question for all accounts of the short code that pays out."""
    initiator = _initiator(credentials)
    return {
        **_identity(initiator, "AccountBalance"),
        "PartyA": int(credentials.payout_shortcode),
        "IdentifierType": _ORGANISATION,
        "Remarks": "Balance",
        **_addresses(instruction, "balance"),
    }


def read_acknowledgement(status: int, body: bytes, ours: str | None) -> RailEvent:
    """Read the answer to a payout or reversal; accepted is PENDING, nothing more.

    `ours` is the reference that we sent, None where Daraja takes none and gives its own.
    """
    answer = wire.read_answer(body)
    told = wire.text(answer.get("originatorconversationid"))
    rail_ref = told or ours
    error = wire.error_code(status, answer)
    if error:
        return codes.api_error(
            Source.SUBMIT, error, wire.text(answer.get("errormessage")), rail_ref
        )
    code = wire.text(answer.get("responsecode"))
    message = wire.text(answer.get("responsedescription")) or f"HTTP {status} without a known body"
    is_accepted = code in _ACCEPTED and rail_ref is not None
    unknown = UNKNOWN_RAIL_ERROR if code else RAIL_UNAVAILABLE
    return RailEvent(
        Outcome.PENDING if is_accepted else Outcome.UNKNOWN,
        Source.SUBMIT,
        rail_ref,
        code=code or None,
        message=message,
        reason=None if is_accepted else unknown,
        channel="api",
    )


def read_question(status: int, body: bytes) -> RailEvent:
    """Read the answer to a status or balance question: asked (PENDING), or not (UNKNOWN).

    Without a reference and without a code: nothing in it is about the transfer.
    """
    answer = wire.read_answer(body)
    error = wire.error_code(status, answer)
    code = error or wire.text(answer.get("responsecode"))
    if not error and code in _ACCEPTED:
        return RailEvent(Outcome.PENDING, Source.QUERY, message="Daraja will tell", channel="api")
    text = wire.text(answer.get("errormessage" if error else "responsedescription"))
    known = codes.meaning("api", code, text) or codes.NOT_KNOWN
    return RailEvent(
        Outcome.UNKNOWN,
        Source.QUERY,
        message=f"Not asked: {code or f'HTTP {status}'} {text}".strip(),
        reason=known.reason if code else RAIL_UNAVAILABLE,
        retry_after_s=known.retry_after_s,
        channel="api",
    )


def _initiator(credentials: MpesaCredentials) -> Initiator:
    initiator = credentials.initiator
    if initiator is None:
        rule = "initiator_name, initiator_password and certificate are needed for this"
        raise InvalidRequest(
            f"The M-Pesa credentials have no initiator: {rule}",
            errors=[FieldError(pointer="/initiator_name", detail=rule)],
        )
    return initiator


def _identity(initiator: Initiator, command: str) -> wire.Body:
    return {
        "Initiator": initiator.name,
        "SecurityCredential": _sealed(initiator),
        "CommandID": command,
    }


def _sealed(initiator: Initiator) -> str:
    return security_credential(initiator.password.get_secret_value(), initiator.certificate)


def _addresses(instruction: Instruction, kind: Literal["result", "status", "balance"]) -> wire.Body:
    return {
        "QueueTimeOutURL": fields.callback_url(instruction.callback_url, "timeout"),
        "ResultURL": fields.callback_url(instruction.callback_url, kind),
    }
