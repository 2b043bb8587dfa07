"""API keys. The secret is made here and leaves once; SQL sees its SHA-256 and its last four."""

import json
from typing import Annotated

from fastapi import Path
from fastapi.responses import Response

from functions.merchants import models
from functions.merchants.key_secrets import KeySecret, make_key_secret
from functions.merchants.state import Db
from shared.db import Database
from shared.errors import NotFound
from shared.http.caller import ApiCaller, Caller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern
from shared.once import shown_once

router = Router("API keys", prefix="/api-keys")

KeyId = Annotated[
    str,
    Path(
        pattern=pattern("key"),
        description="The key's id, not its secret.",
        examples=["key_01kaj3v7wvf4fr8mnp5sye2s6k"],
    ),
]


@router.get("", responses=answers(models.ApiKeys, 400, 401, 403, 429, 503))
async def list_api_keys(caller: ApiCaller, db: Db) -> Response:
    """The keys of this environment, newest first, revoked ones too, without their secrets."""
    return (await db.answer("public.list_api_keys", {}, caller, idempotent=True)).response()


@router.post(
    "",
    status_code=201,
    responses=answers(models.NewApiKey, 400, 401, 403, 409, 422, 429, 503, status=201),
)
async def create_api_key(
    body: models.CreateApiKey, key: IdempotencyKey, caller: ApiCaller, db: Db
) -> Response:
    """Create a key. Its `secret` is in this answer and nowhere else; a replay shows null."""
    # A person is where their header says. A live key that leaves this out is refused by SQL.
    environment = body.environment or caller.environment or "sandbox"
    secret = make_key_secret(body.kind, environment)
    arguments = {
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "name": body.name,
        "kind": body.kind,
        "scopes": body.scopes,
        "environment": environment,
        "expires_in_s": body.expires_in,
        "key_hash": secret.hash,
        "last4": secret.last4,
    }
    answer = await db.answer("public.create_api_key", arguments, caller)
    return shown_once(answer, secret=secret.text).response()


@router.post(
    "/{key_id}/rotate",
    status_code=201,
    responses=answers(models.NewApiKey, 400, 401, 403, 404, 409, 422, 429, 503, status=201),
)
async def rotate_api_key(
    key_id: KeyId,
    key: IdempotencyKey,
    caller: ApiCaller,
    db: Db,
    body: models.RotateApiKey | None = None,
) -> Response:
    """Create a successor with the same scopes; this key ends after `overlap_s` seconds."""
    body = body or models.RotateApiKey()
    secret = await _successor_secret(key_id, caller, db)
    arguments = {
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "key_id": key_id,
        "overlap_s": body.overlap_s,
        "key_hash": secret.hash,
        "last4": secret.last4,
    }
    answer = await db.answer("public.rotate_api_key", arguments, caller)
    return shown_once(answer, secret=secret.text).response()


@router.delete(
    "/{key_id}",
    responses=answers(models.ApiKey, 400, 401, 403, 404, 429, 503),
)
async def revoke_api_key(key_id: KeyId, caller: ApiCaller, db: Db) -> Response:
    """Revoke a key: it is refused from the next request on. Repeatable."""
    arguments = {"key_id": key_id}
    return (await db.answer("public.revoke_api_key", arguments, caller, idempotent=True)).response()


async def _successor_secret(key_id: str, caller: Caller, db: Database) -> KeySecret:
    # The prefix of a secret says kind and environment, which only the former key's row knows.
    listed = await db.answer("public.list_api_keys", {}, caller, idempotent=True)
    for former in json.loads(listed.body)["data"]:
        if former["id"] == key_id:
            return make_key_secret(former["kind"], former["environment"])
    raise NotFound(f"There is no API key {key_id} here.")
