"""Serves /reconcile: asks the rails about silent transfers, and lets people decide the rest."""

import asyncio
from typing import Any, Final

from fastapi import FastAPI, Request

from functions.reconcile import reviews
from functions.reconcile.models import Reconciled
from shared import log
from shared.config import Settings
from shared.db import Database
from shared.errors import StalelaError
from shared.http.app import create_app
from shared.http.caller import Caller, InternalCaller
from shared.http.problem import problem_responses
from shared.http.routes import Router
from shared.rails.base import RailUnavailable
from shared.rails.instructions import callback_url, instruction_from
from shared.rails.registry import Rails
from shared.vault import Vault, VaultError

router = Router("reconciliation")
router.add(reviews.router)

# Daraja refuses bursts ("spike arrest"), so few questions are in the air at once; no more are
# leased than that, or leases would run out before their question was asked.
IN_FLIGHT: Final = 4


def create(settings: Settings) -> FastAPI:
    """Build the app."""
    app = create_app(
        settings,
        router,
        title="Reconcile",
        description="Asks the rails about transfers that have been silent; never sends a charge.",
        # pg_net calls from one address.
        limit_addresses=False,
    )
    app.state.database, app.state.vault = Database(settings), Vault(settings.vault_keys)
    app.state.rails = Rails(settings)
    app.state.draining = asyncio.Lock()
    return app


@router.post("/", responses=problem_responses(401, 503))
async def query_silent_transfers(caller: InternalCaller, request: Request) -> Reconciled:
    """Ask about every transfer that is due, in leased batches, until none is left."""
    draining: asyncio.Lock = request.app.state.draining
    if draining.locked():
        return Reconciled(asked=0)  # who is at it finds what is due now, too
    async with draining:
        counts = await asyncio.gather(*(_drain(request, caller) for _ in range(IN_FLIGHT)))
    return Reconciled(asked=sum(counts))


async def _drain(request: Request, caller: Caller) -> int:
    asked = 0
    while work := await request.app.state.database.call(
        "rails.claim_queries", {"max_rows": 1}, caller
    ):
        await _ask(request, work[0], caller)
        asked += 1
    return asked


async def _ask(request: Request, item: dict[str, Any], caller: Caller) -> None:
    """One question. Whatever goes wrong, the lease runs out and it is asked again."""
    state, token = request.app.state, item.get("callback_token")
    try:
        event = await state.rails.get(item["rail"]).query(
            instruction_from(
                item,
                state.vault,
                # Of what the rail answers later; the token is of this question alone.
                callback_url=callback_url(state.settings.functions_url, token) if token else None,
                traceparent=caller.traceparent,
            )
        )
        await state.database.call(
            "payments.record_query",
            {"transfer_id": item["transfer_id"], "event": event.to_json()},
            caller,
        )
        log.event(
            "transfer_queried",
            transfer_id=item["transfer_id"],
            rail=item["rail"],
            outcome=event.outcome,
        )
    except (RailUnavailable, VaultError, StalelaError) as failed:
        log.warning(
            "transfer_query_failed",
            transfer_id=item["transfer_id"],
            rail=item["rail"],
            reason=type(failed).__name__,
        )
