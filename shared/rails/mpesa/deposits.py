"""C2B: payments that nobody was prompted for, asked about and reported. Rails reference 2.8."""

from shared.errors import CredentialsRefused
from shared.money import Money
from shared.rails.base import (
    CallbackNotUnderstood,
    Deposit,
    DepositRefusal,
    DepositUrls,
    Outcome,
    RailUnavailable,
)
from shared.rails.mpesa import codes, fields, wire
from shared.rails.mpesa.credentials import MpesaCredentials

REGISTER_PATH = "/mpesa/c2b/v2/registerurl"
_RETRY_AFTER_S = 60
_ALREADY = "already registered"  # in the text of 500.003.1001; production changes in the portal
_REFERENCE_MAX = 20
_REFUSALS = {
    DepositRefusal.PAYER: ("C2B00011", "Invalid MSISDN"),
    DepositRefusal.ACCOUNT: ("C2B00012", "Invalid Account Number"),
    DepositRefusal.AMOUNT: ("C2B00013", "Invalid Amount"),
    DepositRefusal.KYC: ("C2B00014", "Invalid KYC Details"),
    DepositRefusal.PAID_TO: ("C2B00015", "Invalid Shortcode"),
    DepositRefusal.OTHER: ("C2B00016", "Other Error"),
}


def register_body(credentials: MpesaCredentials, urls: DepositUrls) -> wire.Body:
    """Build the registration. InvalidParameter when Daraja would refuse an address.

    "Completed": a payment goes through when our validation cannot be reached. It is the payer's
    money and the merchant's account; an unreachable function must not turn customers away.
    """
    return {
        "ShortCode": int(credentials.shortcode),
        "ResponseType": "Completed",
        "ConfirmationURL": fields.callback_url(urls.confirmation),
        "ValidationURL": fields.callback_url(urls.validation),
    }


def read_registration(status: int, body: bytes) -> None:
    """Return when registered. RailUnavailable: not said; CredentialsRefused: the app may not."""
    answer = wire.read_answer(body)
    code = wire.error_code(status, answer)
    text = wire.text(answer.get("errormessage"))
    if _ALREADY in text.lower():
        return
    if not code and wire.text(answer.get("responsecode")) in ("0", "00000000"):
        return
    known = codes.meaning("api", code, text)
    if known is not None and known.outcome is Outcome.FAILED_FINAL:
        raise CredentialsRefused(
            f"M-Pesa refused to register the addresses ({code})", extras={"rail_code": code}
        )
    raise RailUnavailable("M-Pesa registered no addresses", retry_after_s=_RETRY_AFTER_S)


def read_deposit(body: bytes) -> Deposit:
    """Read a validation or a confirmation. CallbackNotUnderstood for any other body."""
    try:
        return _read(wire.read_object(body))
    except wire.NotReadable as problem:
        raise CallbackNotUnderstood(str(problem)) from None


def answer_validation(refusal: DepositRefusal | None, validation_ref: str | None) -> dict[str, str]:
    """Give the answer that lets the payment through, or the code that stops it."""
    code, text = _REFUSALS[refusal] if refusal else ("0", "Accepted")
    reference = {"ThirdPartyTransID": validation_ref} if validation_ref else {}
    return {"ResultCode": code, "ResultDesc": text, **reference}


def _read(told: wire.Node) -> Deposit:
    return Deposit(
        receipt=_needed(told, "TransID"),
        amount=_amount(told.get("transamount"), "TransAmount"),
        paid_to=_needed(told, "BusinessShortCode"),
        account_reference=wire.text(told.get("billrefnumber"), _REFERENCE_MAX),
        payer_masked=fields.masked(told.get("msisdn")),
        payer_name=_name(told),
        occurred_at=fields.instant(told.get("transtime")),
        transaction_type=wire.text(told.get("transactiontype")) or None,
        balance=_balance(told.get("orgaccountbalance")),
        validation_ref=wire.text(told.get("thirdpartytransid")) or None,
    )


def _needed(told: wire.Node, name: str) -> str:
    value = wire.text(told.get(name.lower()))
    if not value:
        raise wire.NotReadable(f"{name} is missing")
    return value


def _amount(value: object, name: str) -> Money:
    if value is None or value == "":
        raise wire.NotReadable(f"{name} is missing")
    amount = wire.amount(value)
    if amount.minor == 0:
        raise wire.NotReadable(f"{name} is nothing")
    return amount


def _balance(value: object) -> Money | None:
    """Blank in a validation, and in some confirmations; it decides nothing."""
    try:
        return wire.amount(value) if value not in (None, "") else None
    except wire.NotReadable:
        return None


def _name(told: wire.Node) -> str | None:
    parts = (wire.text(told.get(name)) for name in ("firstname", "middlename", "lastname"))
    return fields.person(" ".join(part for part in parts if part))
