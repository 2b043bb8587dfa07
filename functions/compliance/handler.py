"""Serves /compliance: limits and tiers, sanctions lists, screening, freezes."""

import asyncio
from hashlib import sha256
from typing import Annotated, Final

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.compliance import models
from functions.compliance.screener import Screener
from functions.compliance.sources import read_source
from shared import log
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, InternalCaller, StaffCaller, UserCaller
from shared.http.drain import Drain
from shared.http.problem import answers, problem_responses
from shared.http.routes import Router
from shared.ids import pattern
from shared.masking import mask_phone
from shared.phones import parse_payer_phone
from shared.vault import Vault

router = Router("compliance")

LIST_BYTES_MAX: Final = 64 * 1024 * 1024  # OFAC's SDN.XML had 28 MB in 2025

PartyId = Annotated[
    str,
    Path(
        pattern=pattern("pty"),
        description="The party's id.",
        examples=["pty_01kaj3v7wvf4fr8mnp5sye2s6k"],
    ),
]
TransferId = Annotated[
    str,
    Path(
        pattern=pattern("tr"),
        description="The transfer's id.",
        examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx"],
    ),
]
TenantId = Annotated[
    str,
    Path(
        pattern=pattern("tn"),
        description="The organisation's id.",
        examples=["tn_01kaj3v7wvf4fr8mnp5sye2s6k"],
    ),
]
FreezeId = Annotated[
    str,
    Path(
        pattern=pattern("frz"),
        description="The freeze's id.",
        examples=["frz_01kaj3v7wvf4fr8mnp5sye2s6k"],
    ),
]


def create(settings: Settings) -> FastAPI:
    """Build the app. The lists are read by /readyz, or by the first request that needs them."""
    app = create_app(
        settings,
        router,
        title="Compliance",
        description="Limits and tiers, sanctions lists, screening of payers and payees.",
        large_bodies={"/lists/": LIST_BYTES_MAX},
        # pg_net calls from one address.
        limit_addresses=False,
    )
    app.state.database = Database(settings)
    app.state.screener = Screener(app.state.database, Vault(settings.vault_keys))
    app.state.require_ready = app.state.screener.require_ready
    # A poke is swallowed for a second after another: long enough to find what came meanwhile.
    app.state.drain = Drain(app.state.screener.screen_due, linger_s=1.2)
    return app


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _drain(request: Request) -> Drain:
    drain: Drain = request.app.state.drain
    return drain


async def _screener(request: Request) -> Screener:
    screener: Screener = request.app.state.screener
    return screener


Db = Annotated[Database, Depends(_database)]
Lists = Annotated[Screener, Depends(_screener)]
Due = Annotated[Drain, Depends(_drain)]


@router.post("/", responses=problem_responses(401, 503))
async def screen_due_parties(caller: InternalCaller, drain: Due, screener: Lists) -> models.Worked:
    """Screen every party that waits: new ones, and all others when a list has changed."""
    screener.caller = caller
    return models.Worked(screened=await drain.poke())


@router.post("/screen", responses=answers(models.Screened, 400, 401, 403, 404, 422, 429, 503))
async def screen_parties(body: models.Screen, caller: StaffCaller, screener: Lists) -> Response:
    """Compare parties with the sanctions lists. `clear`, `hold` (a person must look) or `deny`.

    For the platform itself and its operators. Without usable lists it answers 503: no decision.
    """
    return (await screener.screen(body, caller)).response()


@router.get("/lists", responses=answers(models.SanctionsLists, 400, 401, 403, 429, 503))
async def show_sanctions_lists(caller: UserCaller, db: Db) -> Response:
    """Show which lists are in force and how old they are; for operators."""
    return (await db.answer("compliance.show_lists", {}, caller)).response()


@router.post(
    "/lists/{source}",
    responses=answers(models.Imported, 400, 401, 403, 404, 413, 422, 429, 503),
    openapi_extra={"requestBody": models.XML_BODY},
)
async def import_sanctions_list(
    source: Annotated[
        str,
        Path(
            pattern=r"^[a-z]{1,20}$",
            description="Which list: ofac, un or eu.",
            examples=["ofac"],
        ),
    ],
    caller: UserCaller,
    request: Request,
    db: Db,
    screener: Lists,
    may_shrink: Annotated[
        bool, Query(description="Import it although it has less than half of the entries in force.")
    ] = False,
) -> Response:
    """Replace a list by its newly published file; for operators. All of it, or nothing.

    Everybody known is screened against what is new.
    """
    # Who may not import shall not make us parse: this also says whether it is a list of ours.
    await db.answer("compliance.show_lists", {}, caller)
    content = await request.body()
    file = await asyncio.to_thread(read_source, source, content)
    imported = await db.answer(
        "compliance.import_list",
        {
            "source": source,
            "sha256": sha256(content).hexdigest(),
            "published_on": file.published_on,
            "entries": file.entries,
            "may_shrink": may_shrink,
        },
        caller,
        idempotent=True,
    )
    screener.expect_change()
    log.event("sanctions_list_imported", source=source, count=len(file.entries))
    return imported.response()


@router.post("/parties", responses=answers(models.Party, 400, 401, 403, 409, 422, 429, 503))
async def register_party(
    body: models.RegisterParty, caller: ApiCaller, screener: Lists
) -> Response:
    """Register whom you pay or are paid by, and screen them; the same phone is the same party.

    Organisations whose parties must be screened do this before the first transfer. Repeatable.
    """
    return (await screener.register(body, caller)).response()


@router.get("/parties/{party_id}", responses=answers(models.Party, 400, 401, 403, 404, 429, 503))
async def get_party(party_id: PartyId, caller: ApiCaller, db: Db) -> Response:
    """Read a party and what was decided about it."""
    return (await db.answer("compliance.get_party", {"party_id": party_id}, caller)).response()


@router.post(
    "/parties/{party_id}/clear",
    responses=answers(models.Party, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def clear_party(
    party_id: PartyId, body: models.ClearParty, caller: UserCaller, db: Db, screener: Lists
) -> Response:
    """Say that matches of a flagged party are false, and why; for operators. Audited."""
    work = await db.call(
        "compliance.exempt_party",
        {
            "party_id": party_id,
            "entries": [entry.model_dump() for entry in body.entries],
            "reason": body.reason,
        },
        caller,
    )
    return (await screener.screen_again(work, caller)).response()


@router.get(
    "/transfers/{transfer_id}",
    responses=answers(models.TransferScreenings, 400, 401, 403, 404, 429, 503),
)
async def list_transfer_screenings(transfer_id: TransferId, caller: ApiCaller, db: Db) -> Response:
    """List the screenings of one transfer: on which of them it was let through."""
    return (
        await db.answer("compliance.list_screenings", {"transfer_id": transfer_id}, caller)
    ).response()


@router.get("/limits", responses=answers(models.Profile, 400, 401, 403, 429, 503))
async def get_limits(caller: ApiCaller, db: Db) -> Response:
    """Your tier, its limits, and how full your own windows are."""
    return (await db.answer("compliance.get_limits", {}, caller)).response()


@router.put(
    "/profiles/{tenant_id}",
    responses=answers(models.Profile, 400, 401, 403, 404, 422, 429, 503),
)
async def set_profile(
    tenant_id: TenantId, body: models.SetProfile, caller: UserCaller, db: Db
) -> Response:
    """Give an organisation a tier and say whose parties are screened; for operators. Audited."""
    return (
        await db.answer(
            "compliance.set_profile",
            {
                "tenant_id": tenant_id,
                "environment": body.environment,
                "tier": body.tier,
                "screening": sorted(set(body.screening)),
                "reason": body.reason,
            },
            caller,
            idempotent=True,
        )
    ).response()


@router.get("/freezes", responses=answers(models.Freezes, 400, 401, 403, 429, 503))
async def list_freezes(
    caller: UserCaller,
    db: Db,
    limit: Annotated[int, Query(ge=1, le=100, description="How many freezes to show.")] = 50,
) -> Response:
    """List freezes, newest first; for operators."""
    return (await db.answer("compliance.list_freezes", {"page_size": limit}, caller)).response()


@router.post(
    "/freezes",
    status_code=201,
    responses=answers(models.Freeze, 400, 401, 403, 404, 422, 429, 503, status=201),
)
async def freeze_party(
    body: models.FreezeParty, caller: UserCaller, db: Db, screener: Lists
) -> Response:
    """Stop every payment with a party at once; for operators. Audited."""
    phone = parse_payer_phone(body.phone, pointer="/phone")
    return (
        await db.answer(
            "compliance.freeze_party",
            {
                "tenant_id": body.tenant_id,
                "environment": body.environment,
                "party_hashes": screener.hashes_of(phone),
                "party_masked": mask_phone(phone),
                "reason": body.reason,
            },
            caller,
        )
    ).response()


@router.post(
    "/freezes/{freeze_id}/lift",
    responses=answers(models.Freeze, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def lift_freeze(
    freeze_id: FreezeId, body: models.LiftFreeze, caller: UserCaller, db: Db
) -> Response:
    """Ask to lift a freeze or, as another operator than the one who asked, lift it. Audited."""
    return (
        await db.answer(
            "compliance.lift_freeze", {"freeze_id": freeze_id, "reason": body.reason}, caller
        )
    ).response()
