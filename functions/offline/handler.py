"""Serves /offline: numbers for terminals that sell without a connection, and what they sold."""

from typing import Annotated, Final

from fastapi import FastAPI, Path, Request
from fastapi.responses import Response

from functions.offline import models
from functions.offline.reconciling import Reconciler, minor_of
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, FunctionCaller, UserCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern

router = Router("offline")

MAX_BODY_BYTES: Final = 512 * 1024  # 500 lines
CredentialId = Annotated[
    str, Path(pattern=pattern("crd"), description="The credential.", examples=[models.CREDENTIAL])
]


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Offline",
        description="Blocks of numbers for terminals that seal offline, and what they sealed.",
        max_body_bytes=MAX_BODY_BYTES,
    )
    app.state.database = Database(settings)
    app.state.reconciler = Reconciler(app.state.database)
    return app


@router.post(
    "/blocks",
    status_code=202,
    responses=answers(models.Block, 400, 401, 403, 404, 409, 422, 429, 503, status=202),
)
async def provision_block(
    body: models.BlockOrder, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Give a terminal up to 500 numbers for 12 hours, one block at a time.

    The credential is signed within seconds: read it until `signature` is there, and keep it.
    """
    database: Database = request.app.state.database
    arguments = {
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "outlet_id": body.outlet_id,
        "pos_terminal_id": body.pos_terminal_id,
        "cashier_id": body.cashier_id,
        "public_key_spki": body.public_key,
        "size": body.size,
        "policy": minor_of(body.policy),
    }
    return (await database.answer("fiscal.provision_block", arguments, caller)).response()


@router.get(
    "/blocks/{credential_id}", responses=answers(models.Block, 400, 401, 403, 404, 429, 503)
)
async def get_block(credential_id: CredentialId, caller: ApiCaller, request: Request) -> Response:
    """Read a credential: its signature, its state, the numbers that are still out."""
    database: Database = request.app.state.database
    arguments = {"credential_id": credential_id}
    return (
        await database.answer("fiscal.get_block", arguments, caller, idempotent=True)
    ).response()


@router.post(
    "/blocks/{credential_id}/documents",
    status_code=201,
    responses=answers(models.Reconciled, 400, 401, 403, 404, 409, 422, 429, 503, status=201)
    | answers(models.Reconciled),
)
async def reconcile_document(
    credential_id: CredentialId, body: models.LocalSeal, caller: ApiCaller, request: Request
) -> Response:
    """Take one document that was sealed offline into the chain, in the order of its numbers.

    201: it is there; 200: it was there already. A document that is not what the credential allows
    is refused and people are told; one with the number of another is kept aside (409).
    """
    reconciler: Reconciler = request.app.state.reconciler
    return (await reconciler.reconcile(credential_id, body, caller)).response()


@router.post(
    "/blocks/{credential_id}/revoke",
    responses=answers(models.Block, 400, 401, 403, 404, 422, 429, 503),
)
async def revoke_block(
    credential_id: CredentialId, body: models.Because, caller: ApiCaller, request: Request
) -> Response:
    """End what a terminal may seal, at once. What it sealed before still comes back."""
    database: Database = request.app.state.database
    arguments = {"credential_id": credential_id, "reason": body.reason}
    return (
        await database.answer("fiscal.revoke_block", arguments, caller, idempotent=True)
    ).response()


@router.post(
    "/blocks/{credential_id}/void",
    responses=answers(models.Block, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def void_numbers(
    credential_id: CredentialId, body: models.Because, caller: UserCaller, request: Request
) -> Response:
    """Close, after review, the numbers that did not come back: an entry of the chain each."""
    database: Database = request.app.state.database
    arguments = {"credential_id": credential_id, "reason": body.reason}
    return (
        await database.answer("fiscal.void_numbers", arguments, caller, idempotent=True)
    ).response()


@router.get("/revocations", responses=answers(models.Revocations, 429, 503))
async def list_revocations(caller: FunctionCaller, request: Request) -> models.Revocations:
    """List the credentials that were revoked, and when."""
    database: Database = request.app.state.database
    found = await database.call("fiscal.list_revocations", {}, caller, idempotent=True)
    return models.Revocations.model_validate(found)
