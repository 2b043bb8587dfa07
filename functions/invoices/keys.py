"""Keys that give way to others, and entries that wait for an operator."""

from typing import Annotated

from fastapi import Path, Request
from fastapi.responses import Response

from functions.invoices.key_models import Again, Because, Requeued, Rotated, SigningKey
from functions.invoices.signatures import Signatures
from shared.db import Database
from shared.errors import DependencyUnavailable
from shared.http.caller import InternalCaller, UserCaller
from shared.http.problem import answers
from shared.http.routes import Router
from shared.signing.base import NotSigned

router = Router("invoices")

KeyId = Annotated[
    str,
    Path(pattern=r"^[a-z0-9-]{1,64}$", description="The key.", examples=["cd-es256-2026-01"]),
]


@router.post("/rotate", responses=answers(Rotated, 401, 409, 503))
async def rotate_due_keys(caller: InternalCaller, request: Request) -> Rotated:
    """Replace the keys that signed for a year. Woken by cron; repeatable."""
    signatures: Signatures = request.app.state.signatures
    try:
        return Rotated(rotated=await signatures.rotate_due(caller))
    except NotSigned as trouble:
        raise DependencyUnavailable(f"There is no new key: {trouble.reason}.") from trouble


@router.post(
    "/keys/{key_id}/rotate",
    responses=answers(SigningKey, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def rotate_key(
    key_id: KeyId, body: Because, caller: UserCaller, request: Request
) -> Response:
    """Have another key sign from now on; for operators. Answers with the key that took over.

    What is numbered later is signed by it, and each outlet's chain says so before its next entry.
    """
    signatures: Signatures = request.app.state.signatures
    try:
        return (await signatures.rotate(key_id, body.reason, caller)).response()
    except NotSigned as trouble:
        raise DependencyUnavailable(f"There is no new key: {trouble.reason}.") from trouble


@router.post(
    "/keys/{key_id}/revoke",
    responses=answers(SigningKey, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def revoke_key(
    key_id: KeyId, body: Because, caller: UserCaller, request: Request
) -> Response:
    """Declare a key compromised; for operators. What was sealed after this instant is not valid.

    Rotate an active key first: without one, documents are numbered and wait for their signature.
    """
    database: Database = request.app.state.database
    return (
        await database.answer(
            "signing.revoke_key", {"key_id": key_id, "reason": body.reason}, caller
        )
    ).response()


@router.post("/requeue", responses=answers(Requeued, 400, 401, 403, 422, 429, 503))
async def requeue_entries(body: Again, caller: UserCaller, request: Request) -> Response:
    """Have entries signed that nobody could sign, under their own numbers; for operators."""
    database: Database = request.app.state.database
    return (
        await database.answer("signing.requeue", {"fiscal_numbers": body.fiscal_numbers}, caller)
    ).response()
