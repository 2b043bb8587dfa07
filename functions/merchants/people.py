"""Who belongs to an organisation. Changing that takes a person: a leaked key makes no owners."""

import secrets
from typing import Annotated
from uuid import UUID

from fastapi import Path
from fastapi.responses import Response

from functions.merchants import models
from functions.merchants.state import Db
from shared.http.caller import ApiCaller, UserCaller, digest
from shared.http.problem import answers
from shared.http.routes import Router
from shared.once import shown_once

router = Router("people", prefix="/users")

UserId = Annotated[
    UUID,
    Path(description="The user's id at Auth.", examples=["5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11"]),
]


@router.get("", responses=answers(models.People, 400, 401, 403, 429, 503))
async def list_users(caller: ApiCaller, db: Db) -> Response:
    """The members of the organisation and its open invitations, oldest first."""
    return (await db.answer("public.list_users", {}, caller, idempotent=True)).response()


@router.post(
    "/invitations",
    status_code=201,
    responses=answers(models.NewInvitation, 400, 401, 403, 409, 422, 429, 503, status=201),
)
async def invite_user(body: models.Invite, caller: UserCaller, db: Db) -> Response:
    """Invite an address. Hand the token on: it is shown here and never again.

    A second invitation of the same address replaces the first.
    """
    token = f"invite_{secrets.token_urlsafe(32)}"
    arguments = {"email": body.email, "app_role": body.app_role, "token_hash": digest(token)}
    answer = await db.answer("public.invite_user", arguments, caller)
    return shown_once(answer, token=token).response()


@router.post(
    "/invitations/accept",
    responses=answers(models.Joined, 400, 401, 403, 404, 409, 429, 503),
)
async def accept_invitation(body: models.AcceptInvitation, caller: UserCaller, db: Db) -> Response:
    """Join with the token of an invitation, signed in under the invited address.

    Refresh the access token afterwards: the next one names the organisation.
    """
    arguments = {"token_hash": digest(body.token)}
    return (await db.answer("public.accept_invitation", arguments, caller)).response()


@router.patch(
    "/{user_id}",
    responses=answers(models.RoleChanged, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def change_user_role(
    user_id: UserId, body: models.ChangeRole, caller: UserCaller, db: Db
) -> Response:
    """Give a member another role; it holds for their next request. The last owner stays owner."""
    arguments = {"user_id": str(user_id), "app_role": body.app_role}
    return (await db.answer("public.change_user_role", arguments, caller)).response()


@router.delete(
    "/{user_id}",
    responses=answers(models.UserRemoved, 400, 401, 403, 404, 409, 429, 503),
)
async def remove_user(user_id: UserId, caller: UserCaller, db: Db) -> Response:
    """End a membership at once. `api_keys_to_rotate` are keys whose secrets the person has seen."""
    return (await db.answer("public.remove_user", {"user_id": str(user_id)}, caller)).response()
