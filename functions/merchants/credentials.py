"""A tenant's credentials at the rails. Storing and deleting takes a person.

Whoever replaces them decides where the money goes, so a leaked API key must not be able to.
"""

from typing import Annotated

from fastapi import Path, Query
from fastapi.responses import Response

from functions.merchants import models
from functions.merchants.state import Db, Sealed
from shared.http.caller import ApiCaller, InternalCaller, UserCaller
from shared.http.problem import answers
from shared.http.routes import Router

router = Router("rail credentials")

_FIRST = answers(models.RailCredentials, status=201)
RailName = Annotated[
    str,
    Path(
        pattern=r"^[a-z][a-z0-9_]{0,30}$",
        description="The rail, as in payment_method_types.",
        examples=["mpesa"],
    ),
]


@router.get(
    "/credentials",
    responses=answers(models.StoredCredentials, 400, 401, 403, 429, 503),
)
async def list_credentials(caller: ApiCaller, db: Db) -> Response:
    """The credentials of this environment, masked."""
    return (await db.answer("rails.list_credentials", {}, caller, idempotent=True)).response()


@router.put(
    "/credentials/{rail}",
    responses=answers(models.RailCredentials, 400, 401, 403, 404, 422, 429, 503) | _FIRST,
)
async def put_credentials(
    rail: RailName,
    body: models.Credentials,
    options: Annotated[models.PutOptions, Query()],
    caller: UserCaller,
    sealed: Sealed,
) -> Response:
    """Store or replace the credentials of one rail in this environment.

    They are tried at the rail first, moving nothing; what it refuses is not stored (42263).
    Send `?test=false` to store them untried, as when the rail is down.
    """
    return (await sealed.put(rail, body, caller, is_tested=options.test)).response()


@router.post(
    "/credentials/{rail}/test",
    responses=answers(models.RailCredentials, 400, 401, 403, 404, 422, 429, 503),
)
async def test_credentials(rail: RailName, caller: ApiCaller, sealed: Sealed) -> Response:
    """Try the stored credentials at the rail, moving nothing. 42263 says why it refused them."""
    return (await sealed.test(rail, caller)).response()


@router.delete(
    "/credentials/{rail}",
    responses=answers(models.CredentialsDeleted, 400, 401, 403, 404, 409, 429, 503),
)
async def delete_credentials(rail: RailName, caller: UserCaller, db: Db) -> Response:
    """Delete them; refused with 409 while the outcome of a payment must still be asked for."""
    return (await db.answer("rails.delete_credentials", {"rail": rail}, caller)).response()


@router.post("/reseal", responses=answers(models.Resealed, 401, 503))
async def reseal_credentials(caller: InternalCaller, sealed: Sealed) -> models.Resealed:
    """Seal all credentials again that are under an older master key. Woken by cron; repeatable."""
    return await sealed.reseal(caller)
