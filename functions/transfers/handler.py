"""Serves /transfers: move money without an intent around it, and see every movement there was."""

from typing import Annotated, Final

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.transfers import models
from functions.transfers.canonical import canonical
from functions.transfers.deposits import Deposits
from shared.approving import Decision, decide
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, UserCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern
from shared.masking import mask_phone
from shared.rails.registry import Rails
from shared.screening import begin_screened
from shared.sending import Sender, seal_party
from shared.vault import Vault

# Enough of a phone for every operator's prefix, too little to be anybody's.
ALIAS_CHARACTERS: Final = 8

router = Router("transfers")

TransferId = Annotated[
    str,
    Path(pattern=pattern("tr"), description="The transfer's id.", examples=[models.TRANSFER_ID]),
]


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Transfers",
        description="Every movement of money on every rail, in one canonical form.",
    )
    app.state.database, app.state.rails = Database(settings), Rails(settings)
    app.state.vault = Vault(settings.vault_keys)
    parts = (app.state.database, app.state.vault, app.state.rails, settings.functions_url)
    app.state.sender, app.state.deposits = Sender(*parts), Deposits(*parts)
    return app


@router.post(
    "/",
    status_code=201,
    responses=answers(models.Transfer, 400, 401, 403, 409, 422, 429, 502, 503, status=201)
    | answers(models.Transfer, status=202, example=models.WAITING),
)
async def create_transfer(
    body: models.CreateTransfer, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Ask a payer (PULL) or pay out (PUSH). 202: a second person must approve it first."""
    transfer = canonical(body)
    vault: Vault = request.app.state.vault
    party = {
        "sealed": seal_party(vault, transfer.phone),
        "masked": mask_phone(transfer.phone),
        "hash": vault.blind_index(transfer.phone, "payer"),
    }
    paid, asked = (party, {}) if transfer.intent == "PUSH" else ({}, party)
    db: Database = request.app.state.database
    begun = await begin_screened(
        db,
        vault,
        "payments.begin_direct",
        {
            "idempotency_key": key,
            "body_hash": transfer.body_hash,
            "intent": transfer.intent,
            "rail": transfer.rail,
            "hints": transfer.hints,
            "alias_type": "msisdn",
            "alias": transfer.phone[:ALIAS_CHARACTERS],
            "policy": body.policy.model_dump(exclude_none=True) if body.policy else None,
            "amount_minor": transfer.amount.minor,
            "currency": transfer.amount.currency,
            **{f"payer_{part}": asked.get(part) for part in party},
            **{f"payee_{part}": paid.get(part) for part in party},
            "description": transfer.description,
            "external_ref": transfer.external_ref,
            "end_user_ref": transfer.end_user_ref,
            "metadata": transfer.metadata,
        },
        caller,
        name=transfer.name,
        phone=transfer.phone,
    )
    sender: Sender = request.app.state.sender
    payer = transfer.phone if asked else None
    return (await sender.send(begun, key, caller, payer=payer)).response()


@router.get("/", responses=answers(models.TransferPage, 400, 401, 403, 422, 429, 503))
async def list_transfers(
    filters: Annotated[models.TransferFilters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List transfers of every purpose, newest first, page by page."""
    db: Database = request.app.state.database
    return (await db.answer("payments.list_transfers", filters.arguments(), caller)).response()


@router.post(
    "/deposits",
    status_code=201,
    responses=answers(models.DepositRegistration, 400, 401, 403, 404, 422, 429, 503, status=201),
)
async def open_deposits(
    caller: ApiCaller, request: Request, body: models.OpenDeposits | None = None
) -> Response:
    """Have the rail report what payers pay unasked, by account number. May be repeated."""
    deposits: Deposits = request.app.state.deposits
    return (await deposits.open((body or models.OpenDeposits()).rail, caller)).response()


@router.get("/{transfer_id}", responses=answers(models.TransferWithEvents, 401, 403, 404, 429, 503))
async def get_transfer(transfer_id: TransferId, caller: ApiCaller, request: Request) -> Response:
    """Read one transfer, with its numbered events."""
    db: Database = request.app.state.database
    return (
        await db.answer("payments.get_transfer", {"transfer_id": transfer_id}, caller)
    ).response()


@router.get(
    "/{transfer_id}/events", responses=answers(models.TransferEvents, 401, 403, 404, 429, 503)
)
async def list_transfer_events(
    transfer_id: TransferId,
    caller: ApiCaller,
    request: Request,
    after: Annotated[
        int, Query(ge=-1, lt=2**62, description="Only events with a greater `seq` than this.")
    ] = -1,
) -> Response:
    """Read what was told about a transfer, event by event."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "payments.list_transfer_events",
            {"transfer_id": transfer_id, "after_seq": after},
            caller,
        )
    ).response()


@router.post(
    "/{transfer_id}/approve",
    responses=answers(models.Transfer, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def approve_transfer(
    transfer_id: TransferId,
    body: models.Decide,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Send a transfer that somebody else asked for. Audited with the reason."""
    decision = Decision(transfer_id, "direct", "approve", body.reason, body_hash(body))
    state = request.app.state
    return (await decide(state.database, state.sender, decision, key, caller)).response()


@router.post(
    "/{transfer_id}/reject",
    responses=answers(
        models.Transfer, 400, 401, 403, 404, 409, 422, 429, 503, example=models.REJECTED
    ),
)
async def reject_transfer(
    transfer_id: TransferId,
    body: models.Decide,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Say no to a transfer that somebody else asked for. Audited with the reason."""
    decision = Decision(transfer_id, "direct", "reject", body.reason, body_hash(body))
    state = request.app.state
    return (await decide(state.database, state.sender, decision, key, caller)).response()


@router.post(
    "/{transfer_id}/assign",
    responses=answers(
        models.Transfer, 400, 401, 403, 404, 409, 422, 429, 503, example=models.DEPOSIT
    ),
)
async def assign_deposit(
    transfer_id: TransferId,
    body: models.Assign,
    key: IdempotencyKey,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Say which intent an unallocated deposit pays for. Audited with the reason."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "payments.assign_deposit",
            {
                "transfer_id": transfer_id,
                "idempotency_key": key,
                "body_hash": body_hash(body),
                "payment_intent_id": body.payment_intent,
                "reason": body.reason,
            },
            caller,
        )
    ).response()
