"""The organisation itself: sign-up, what a caller is there, the audit trail."""

from typing import Annotated

from fastapi import Path, Query
from fastapi.responses import Response

from functions.merchants import models
from functions.merchants.state import Db
from shared.errors import InvalidParameter
from shared.http.caller import ApiCaller, Caller, UserCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern

router = Router("account")

TenantId = Annotated[
    str,
    Path(
        pattern=pattern("tn"),
        description="The organisation's id.",
        examples=["tn_01kaj3v7wvf4fr8mnp5sye2s6k"],
    ),
]

_EMAIL_LIMIT = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets


@router.post(
    "/",
    status_code=201,
    responses=answers(models.Account, 400, 401, 403, 409, 422, 429, 503, status=201),
)
async def sign_up(body: models.SignUp, key: IdempotencyKey, caller: UserCaller, db: Db) -> Response:
    """Sign up an organisation; you become its owner.

    Refresh the access token afterwards: the next one names the organisation. Until the platform
    has activated the organisation it works in the sandbox only.
    """
    _require_email(caller)
    arguments = {
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "name": body.name,
        "country": body.country,
    }
    return (await db.answer("public.create_tenant", arguments, caller)).response()


@router.get("/me", responses=answers(models.Me, 400, 401, 403, 429, 503))
async def get_account(caller: ApiCaller, db: Db) -> Response:
    """Your organisation, and what you may do there."""
    return (await db.answer("public.get_account", {}, caller, idempotent=True)).response()


@router.get(
    "/audit",
    responses=answers(models.AuditPage, 400, 401, 403, 422, 429, 503),
)
async def list_audit(page: Annotated[models.Page, Query()], caller: ApiCaller, db: Db) -> Response:
    """Who did what, newest first: of this environment and of the organisation as a whole."""
    arguments = {"page_size": page.limit, "page_after": page.cursor}
    return (await db.answer("public.list_audit", arguments, caller, idempotent=True)).response()


@router.patch(
    "/{tenant_id}",
    responses=answers(models.Account, 400, 401, 403, 404, 409, 429, 503),
)
async def set_account_status(
    tenant_id: TenantId, body: models.SetStatus, caller: UserCaller, db: Db
) -> Response:
    """Activate, suspend or close an organisation; for operators of the platform."""
    arguments = {"tenant_id": tenant_id, "status": body.status, "reason": body.reason}
    return (await db.answer("public.set_tenant_status", arguments, caller)).response()


def _require_email(caller: Caller) -> None:
    # Invitations and notices go there; an account by phone number alone has none.
    email = caller.user.email if caller.user else ""
    if not 0 < len(email) <= _EMAIL_LIMIT:
        raise InvalidParameter(
            f"Your user account needs an e-mail address, in ASCII, of {_EMAIL_LIMIT} characters "
            "at most."
        )
