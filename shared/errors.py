"""Every error a caller can see, as one tree.

    StalelaError
      x RequestRefused                    the caller must change something
        x Malformed                       400 413 415: the request cannot be understood
          · InvalidRequest · IdempotencyKeyInvalid · FieldNotSupported
          · BodyTooLarge · UnsupportedMediaType
        x NotAuthorized                   401 403: who is calling, and what they may do
          · AuthenticationRequired · KeyInvalid · TokenInvalid
          · TenantNotOnboarded · ScopeMissing · RoleNotAllowed
        x Missing                         404 405
          · NotFound · MethodNotAllowed
        x Conflict                        409: the state of the resource says no
          · RequestInProgress · DuplicateExternalRef · InvalidTransition · AlreadyExists
          · ReportExists · NumberConflict
        x Unprocessable                   422: understood, and against a rule
          · IdempotencyConflict · InvalidAmount · WebhookUrlForbidden · EndpointLimitReached
          · PatchFieldNotAllowed · PhoneInvalid
          · RailNotConfigured · PaymentMethodNotAllowed · InvalidParameter
          · CredentialsRefused · EntityDenied · KycTierInsufficient · LimitExceeded
          · RefundExceedsRefundable · StatementNotAccepted
          · IdentityVerificationRequired · RouteNotFound
          · JournalUnbalanced
          · TaxGroupInvalid · ClassificationRuleBroken · TotalsMismatch · ManifestNotInForce
          · InvoiceRuleBroken · CreditExceedsOriginal · LocalSealRefused · AuthorityRefused
        · RateLimited                     429
      x ServiceFault                      we or something behind us failed
        · InternalError · LedgerBroken    500
        · RoutingUnavailable              502
        · DependencyUnavailable · RailUnavailable · AuthorityUnavailable      503

`x` has no code and is never raised. `code`, `status` and the class name are the public catalogue
and never change; `public.error_codes.csv` holds the same rows for SQL and the documentation.
`message` is safe to show; the cause is logged, never sent.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NotRequired, TypedDict

# One field and the rule it broke. `in` is the body when absent, else query, header or path; it is
# a keyword, which is why this is not a class.
FieldError = TypedDict("FieldError", {"pointer": str, "detail": str, "in": NotRequired[str]})

BY_CODE: dict[str, type["StalelaError"]] = {}


class StalelaError(Exception):
    """The root. `retry_after` is in whole seconds; `extras` become members of the problem body.

    `extras["headers"]` is not a member: those headers go beside the answer.
    """

    code: ClassVar[str] = ""
    status: ClassVar[int] = 500
    title: ClassVar[str] = ""
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str = "",
        *,
        errors: Iterable[FieldError] = (),
        retry_after: int | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> None:
        self.message = message or self.title
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extras = dict(extras or {})
        super().__init__(self.message)

    def __init_subclass__(cls) -> None:
        if "code" in cls.__dict__:
            cls.status = int(cls.code[:3])
            BY_CODE[cls.code] = cls


def error_from_sql(
    detail: str | None, message: str | None, hint: str | Mapping[str, Any] | None
) -> StalelaError:
    """The error that `public.refuse(code, message, extras)` raised.

    detail: our five-digit code. hint: the extras, as JSON text or already decoded. A code that is
    not in the catalogue is our defect, so it becomes InternalError and its text is not shown.
    """
    known = BY_CODE.get(detail or "")
    if known is None:
        return InternalError()
    extras = _decode(hint)
    errors = extras.pop("errors", None) or ()
    retry_after = extras.pop("retry_after", None)
    return known(
        message or "",
        errors=errors,
        retry_after=retry_after if isinstance(retry_after, int) else None,
        extras=extras,
    )


def _decode(hint: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """The extras; {} for a hint that a person wrote for a person."""
    if isinstance(hint, str):
        try:
            hint = json.loads(hint)
        except ValueError:
            return {}
    return dict(hint) if isinstance(hint, Mapping) else {}


class RequestRefused(StalelaError):
    """The caller must change something."""


class Malformed(RequestRefused):
    """The request cannot be understood."""


class InvalidRequest(Malformed):
    """A field is missing, has the wrong type or breaks a rule of its shape."""

    code, title = "40001", "Invalid request"


class IdempotencyKeyInvalid(Malformed):
    """Absent, too long, or not visible ASCII."""

    code, title = "40002", "Idempotency-Key is missing or invalid"


class FieldNotSupported(Malformed):
    """A field we do not know. It is refused by name, because ignoring it could cost money."""

    code, title = "40003", "Field is not supported"


class BodyTooLarge(Malformed):
    """Longer than the function reads."""

    code, title = "41301", "Body is too large"


class UnsupportedMediaType(Malformed):
    """The route reads JSON and was sent something else."""

    code, title = "41501", "Unsupported media type"


class NotAuthorized(RequestRefused):
    """Who is calling, and what they may do."""


class AuthenticationRequired(NotAuthorized):
    """Nobody said who they are."""

    code, title = "40101", "Authentication is required"


class KeyInvalid(NotAuthorized):
    """An API key, client secret or internal token that is unknown, revoked or expired."""

    code, title = "40102", "Key is not valid"


class TokenInvalid(NotAuthorized):
    """A user token that is expired, malformed or not signed by our Auth."""

    code, title = "40301", "Token is not valid"


class TenantNotOnboarded(NotAuthorized):
    """The user belongs to no tenant, or the tenant is not active."""

    code, title = "40302", "Tenant is not onboarded"


class ScopeMissing(NotAuthorized):
    """The key lacks the scope that the message names."""

    code, title = "40311", "Scope is missing"


class RoleNotAllowed(NotAuthorized):
    """The user's role may not do this."""

    code, title = "40312", "Role is not allowed to do this"


class Missing(RequestRefused):
    """Nothing is here, or nothing that takes this method."""


class NotFound(Missing):
    """Unknown, or another tenant's, or the other environment's: all three look the same."""

    code, title = "40401", "Not found"


class MethodNotAllowed(Missing):
    """The path exists; the Allow header lists its methods."""

    code, title = "40501", "Method is not allowed"


class Conflict(RequestRefused):
    """The state of the resource says no."""


class RequestInProgress(Conflict):
    """The first request with this Idempotency-Key has not finished."""

    code, title, retryable = "40904", "A request with this key is still running", True


class DuplicateExternalRef(Conflict):
    """Another transfer of the tenant has it; extras carry its `transfer_id`."""

    code, title = "40903", "external_ref is taken"


class InvalidTransition(Conflict):
    """Extras carry `current_state` and the `allowed` moves."""

    code, title = "40911", "Not allowed in the current state"


class AlreadyExists(Conflict):
    """A name or address that must be unique is taken."""

    code, title = "40914", "Already exists"


class ReportExists(Conflict):
    """That business day was closed before; the report is named beside it."""

    code, title = "40921", "Report exists"


class NumberConflict(Conflict):
    """Another document has this fiscal number. It stays; the one that came is kept aside."""

    code, title = "40922", "Another document has this number"


class Unprocessable(RequestRefused):
    """Understood, and against a rule."""


class EntityDenied(Unprocessable):
    """A party may not be paid or pay. Extras: `reason`."""

    code, title = "42201", "Party is not allowed"


class RouteNotFound(Unprocessable):
    """No rail can carry the transfer. Extras: `candidates`, each with what excluded it."""

    code, title = "42202", "No rail reaches this"


class IdentityVerificationRequired(Unprocessable):
    """The tenant's parties are screened, and nobody has said who this one is."""

    code, title = "42203", "Party must be screened first"


class KycTierInsufficient(Unprocessable):
    """The tenant is not known well enough for this. Extras: `tier`, `limit`, `maximum`."""

    code, title = "42204", "Tier is too low"


class LimitExceeded(Unprocessable):
    """A window or corridor is full. Extras: `limit`, `maximum`, `room_at`."""

    code, title = "42206", "Limit is exceeded"


class IdempotencyConflict(Unprocessable):
    """The Idempotency-Key was used before with a different body."""

    code, title = "42241", "Idempotency-Key was used with another body"


class RefundExceedsRefundable(Unprocessable):
    """More than can still go back; extras carry `refundable`."""

    code, title = "42255", "Refund exceeds what can go back"


class InvalidAmount(Unprocessable):
    """Not a decimal of its currency, or outside the rail's limits."""

    code, title = "42251", "Amount is not valid"


class WebhookUrlForbidden(Unprocessable):
    """We do not send there. `rule` in the extras names what is against it."""

    code, title = "42253", "Webhook URL is not allowed"


class EndpointLimitReached(Unprocessable):
    """The tenant has as many webhook endpoints as it may in this environment."""

    code, title = "42254", "Too many webhook endpoints"


class PatchFieldNotAllowed(Unprocessable):
    """The field exists and cannot be changed."""

    code, title = "42258", "Field cannot be changed"


class PhoneInvalid(Unprocessable):
    """Not a mobile number of the rail's country."""

    code, title = "42259", "Phone number is not valid"


class RailNotConfigured(Unprocessable):
    """The tenant stored no credentials for this rail in this environment."""

    code, title = "42260", "Rail is not configured"


class PaymentMethodNotAllowed(Unprocessable):
    """Not among the intent's payment_method_types."""

    code, title = "42261", "Payment method is not allowed"


class InvalidParameter(Unprocessable):
    """A parameter has the right shape and an impossible value."""

    code, title = "42262", "Parameter is not valid"


class CredentialsRefused(Unprocessable):
    """The rail said no to the tenant's credentials."""

    code, title = "42263", "Rail refused the credentials"


class TaxGroupInvalid(Unprocessable):
    """The line's tax group is unknown, or the rules of the manifest demand another."""

    code, title = "42271", "Tax group is not valid"


class ClassificationRuleBroken(Unprocessable):
    """The buyer's classification is unknown, or lacks an identifier it needs."""

    code, title = "42272", "Client classification is not satisfied"


class TotalsMismatch(Unprocessable):
    """A value the client computed differs from ours; the message names both."""

    code, title = "42273", "Totals do not match"


class ManifestNotInForce(Unprocessable):
    """The tax manifest is unknown, or not in force at the invoice's timestamp."""

    code, title = "42274", "Tax manifest is not in force"


class InvoiceRuleBroken(Unprocessable):
    """The document breaks a rule of its type, its currency or its payments."""

    code, title = "42275", "Invoice breaks a rule"


class StatementNotAccepted(Unprocessable):
    """A statement's totals are wrong or a line cannot be read. Extras carry `line` and `kind`."""

    code, title = "42270", "Statement is not accepted"


class JournalUnbalanced(Unprocessable):
    """Debits and credits of a manual journal differ; `currency` and `difference` say where."""

    code, title = "42280", "Journal does not balance"


class CreditExceedsOriginal(Unprocessable):
    """All credits of a document together may not exceed it, in money or in any article."""

    code, title = "42276", "Credit exceeds the original"


class LocalSealRefused(Unprocessable):
    """What a terminal sealed offline is not what its credential allows, or not what it signed."""

    code, title = "42277", "Local seal is not accepted"


class AuthorityRefused(Unprocessable):
    """The tax authority does not take the device or what it was given; detail is its reason."""

    code, title = "42290", "The tax authority refused"


class RateLimited(RequestRefused):
    """A token bucket is empty. `retry_after` says when it holds a token again."""

    code, title, retryable = "42901", "Too many requests", True


class ServiceFault(StalelaError):
    """We, or something behind us, failed."""


class InternalError(ServiceFault):
    """Our defect. The message says nothing; the log has the cause under the request id."""

    code, title = "50000", "Internal error"


class LedgerBroken(ServiceFault):
    """The hash chain does not verify where a report would read it: nothing is reported from it."""

    code, title = "50011", "Ledger does not verify"


class RoutingUnavailable(ServiceFault):
    """Every rail that reaches it is closed; `retry_after` says until when."""

    code, title, retryable = "50201", "The rail is closed", True


class DependencyUnavailable(ServiceFault):
    """The database or Auth did not answer. Whether an effect happened is unknown."""

    code, title, retryable = "50301", "A dependency is unavailable", True


class RailUnavailable(ServiceFault):
    """The rail could not be reached and nothing was sent."""

    code, title, retryable = "50302", "The rail is unavailable", True


class AuthorityUnavailable(ServiceFault):
    """The tax authority could not be asked, or did not say."""

    code, title, retryable = "50304", "The tax authority is unavailable", True
