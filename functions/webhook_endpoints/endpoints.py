"""Endpoints and their secrets. A secret is made here and leaves once; SQL sees it sealed."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Path, Request
from fastapi.responses import Response

from functions.webhook_endpoints import models
from shared import log
from shared.db import Database
from shared.errors import WebhookUrlForbidden
from shared.http.caller import ApiCaller, Caller, InternalCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import new_id, pattern
from shared.once import shown_once
from shared.outbound import Outbound, UrlRefused
from shared.vault import Vault, VaultError
from shared.webhooks.signing import new_secret, reseal_secret, seal_secret

router = Router("webhook endpoints")

_BATCH: Final = 50  # sealed again per call

EndpointId = Annotated[
    str,
    Path(
        pattern=pattern("whe"),
        description="The endpoint's id.",
        examples=[models.ENDPOINT_ID],
    ),
]


@router.post(
    "/",
    status_code=201,
    responses=answers(models.EndpointWithSecret, 400, 401, 403, 409, 422, 429, 503, status=201),
)
async def create_webhook_endpoint(
    body: models.CreateEndpoint, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Create an endpoint. Its `secret` is in this answer and nowhere else; a replay shows null.

    https only, and only to public addresses; 42253 says which rule the URL breaks.
    """
    await _check_url(body.url, request)
    # The seal is bound to the id, so the id is made before the row.
    endpoint_id, secret, vault = new_id("whe"), new_secret(), _vault(request)
    arguments = {
        "idempotency_key": key,
        "body_hash": body_hash(body),
        "endpoint_id": endpoint_id,
        "url": body.url,
        "event_types": body.event_types,
        "description": body.description,
        "secret_sealed": seal_secret(vault, secret, endpoint_id),
        "key_version": vault.current_version,
    }
    answer = await _db(request).answer("webhooks.create_endpoint", arguments, caller)
    return shown_once(answer, secret=secret).response()


@router.get("/", responses=answers(models.Endpoints, 400, 401, 403, 429, 503))
async def list_webhook_endpoints(caller: ApiCaller, request: Request) -> Response:
    """The endpoints of this environment, oldest first, without their secrets."""
    db = _db(request)
    return (await db.answer("webhooks.list_endpoints", {}, caller, idempotent=True)).response()


@router.get("/{endpoint_id}", responses=answers(models.Endpoint, 400, 401, 403, 404, 429, 503))
async def get_webhook_endpoint(
    endpoint_id: EndpointId, caller: ApiCaller, request: Request
) -> Response:
    """One endpoint, without its secret."""
    arguments = {"endpoint_id": endpoint_id}
    return (await _db(request).answer("webhooks.get_endpoint", arguments, caller)).response()


@router.patch(
    "/{endpoint_id}", responses=answers(models.Endpoint, 400, 401, 403, 404, 422, 429, 503)
)
async def update_webhook_endpoint(
    endpoint_id: EndpointId, body: models.UpdateEndpoint, caller: ApiCaller, request: Request
) -> Response:
    """Change url, event types or description. What waits already goes to the new url."""
    if "url" in body.model_fields_set:
        await _check_url(body.url, request)
    arguments = {"endpoint_id": endpoint_id, "patch": body.model_dump(exclude_unset=True)}
    return (await _db(request).answer("webhooks.update_endpoint", arguments, caller)).response()


@router.delete(
    "/{endpoint_id}", responses=answers(models.EndpointDeleted, 400, 401, 403, 404, 429, 503)
)
async def delete_webhook_endpoint(
    endpoint_id: EndpointId, caller: ApiCaller, request: Request
) -> Response:
    """Delete an endpoint and what waits for it."""
    arguments = {"endpoint_id": endpoint_id}
    return (await _db(request).answer("webhooks.delete_endpoint", arguments, caller)).response()


@router.post(
    "/{endpoint_id}/rotate-secret",
    responses=answers(models.EndpointWithSecret, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def rotate_webhook_secret(
    endpoint_id: EndpointId, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Make a new secret. For 24 hours both sign, so that receivers can change over."""
    secret, vault = new_secret(), _vault(request)
    arguments = {
        "idempotency_key": key,
        "body_hash": body_hash(None),
        "endpoint_id": endpoint_id,
        "secret_sealed": seal_secret(vault, secret, endpoint_id),
        "key_version": vault.current_version,
    }
    answer = await _db(request).answer("webhooks.rotate_secret", arguments, caller)
    return shown_once(answer, secret=secret).response()


@router.post(
    "/{endpoint_id}/enable", responses=answers(models.Endpoint, 400, 401, 403, 404, 429, 503)
)
async def enable_webhook_endpoint(
    endpoint_id: EndpointId, caller: ApiCaller, request: Request
) -> Response:
    """Send to it again, from the next event on; a replay brings what it missed. Repeatable."""
    arguments = {"endpoint_id": endpoint_id}
    return (await _db(request).answer("webhooks.enable_endpoint", arguments, caller)).response()


@router.post(
    "/{endpoint_id}/disable", responses=answers(models.Endpoint, 400, 401, 403, 404, 429, 503)
)
async def disable_webhook_endpoint(
    endpoint_id: EndpointId, caller: ApiCaller, request: Request
) -> Response:
    """Send nothing more to it. What it misses is on record and can be replayed. Repeatable."""
    arguments = {"endpoint_id": endpoint_id}
    return (await _db(request).answer("webhooks.disable_endpoint", arguments, caller)).response()


@router.post(
    "/{endpoint_id}/test",
    status_code=202,
    responses=answers(models.Delivery, 400, 401, 403, 404, 409, 429, 503, status=202),
)
async def send_test_webhook(
    endpoint_id: EndpointId, caller: ApiCaller, request: Request
) -> Response:
    """Send an event of type `webhook_endpoint.test`, whatever the filters."""
    arguments = {"endpoint_id": endpoint_id}
    return (await _db(request).answer("webhooks.test_endpoint", arguments, caller)).response()


@router.post("/reseal", responses=answers(models.Resealed, 401, 503))
async def reseal_webhook_secrets(caller: InternalCaller, request: Request) -> models.Resealed:
    """Seal all secrets again that are under an older master key. Woken by cron; repeatable."""
    db, vault = _db(request), _vault(request)
    resealed, failed, last = 0, 0, ""
    while rows := await _claim_reseal(db, vault, last, caller):
        for row in rows:
            try:
                resealed += await _reseal(db, vault, row, caller)
            except VaultError as stuck:
                failed += 1
                log.error("webhook_reseal_failed", stuck, subject_id=row["endpoint_id"])
        last = rows[-1]["endpoint_id"]
    log.event("webhook_secrets_resealed", count=resealed, failed=failed)
    return models.Resealed(resealed=resealed, failed=failed)


async def _claim_reseal(
    db: Database, vault: Vault, last: str, caller: Caller
) -> list[Mapping[str, Any]]:
    arguments = {"below_version": vault.current_version, "after_id": last, "max_rows": _BATCH}
    rows: list[Mapping[str, Any]] = await db.call("webhooks.claim_reseal", arguments, caller)
    return rows


async def _reseal(db: Database, vault: Vault, row: Mapping[str, Any], caller: Caller) -> bool:
    """Whether it was stored; rotated meanwhile, it was not. Raises VaultError."""
    endpoint_id, former = row["endpoint_id"], row["former_secret_sealed"]
    arguments = {
        "endpoint_id": endpoint_id,
        "revision": row["revision"],
        "secret_sealed": reseal_secret(vault, row["secret_sealed"], endpoint_id),
        "former_secret_sealed": former and reseal_secret(vault, former, endpoint_id),
        "key_version": vault.current_version,
    }
    stored: bool = await db.call("webhooks.record_reseal", arguments, caller, idempotent=True)
    return stored


async def _check_url(url: str, request: Request) -> None:
    outbound: Outbound = request.app.state.outbound
    try:
        await outbound.check(url)
    except UrlRefused as refused:
        raise WebhookUrlForbidden(
            f"url: {refused}",
            errors=[{"pointer": "/url", "detail": f"{refused.rule}: {refused}"}],
            extras={"rule": refused.rule},
        ) from None


def _db(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _vault(request: Request) -> Vault:
    vault: Vault = request.app.state.vault
    return vault
