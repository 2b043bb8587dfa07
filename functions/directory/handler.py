"""Serves /directory: who is reached by which rail, at what price, and why a transfer took it."""

from typing import Annotated

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.directory import models
from functions.directory.cache import Cache
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, InternalCaller, UserCaller
from shared.http.idempotency import body_hash
from shared.http.instants import Day
from shared.http.problem import answers, problem_responses
from shared.http.routes import Router
from shared.ids import pattern
from shared.money import Money

router = Router("directory")

TransferId = Annotated[
    str,
    Path(
        pattern=pattern("tr"),
        description="The transfer's id.",
        examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx"],
    ),
]
InstitutionId = Annotated[
    str,
    Path(
        pattern=r"^[a-z0-9_]{2,40}$",
        description="The institution's id, as lookups give it.",
        examples=["safaricom_ke"],
    ),
]
CalendarName = Annotated[
    str, Path(pattern=r"^[A-Z]{2}$", description="A country's code.", examples=["KE"])
]


def create(settings: Settings) -> FastAPI:
    """Build the app."""
    app = create_app(
        settings,
        router,
        title="Directory",
        description="Who is reached by which rail, at what price and when; why a transfer took it.",
        # pg_net calls from one address.
        limit_addresses=False,
    )
    app.state.database, app.state.cache = Database(settings), Cache()
    return app


@router.post("/", responses=problem_responses(401, 503))
async def forget_lookups(_: InternalCaller, request: Request) -> models.Forgotten:
    """Forget what was looked up: a new version of the directory was published."""
    cache: Cache = request.app.state.cache
    return models.Forgotten(forgotten=cache.forget())


@router.get("/lookup", responses=answers(models.Lookup, 400, 401, 403, 422, 429, 503))
async def look_up_alias(
    caller: ApiCaller,
    request: Request,
    alias_type: Annotated[
        models.AliasType,
        Query(description="msisdn, bin, member_id, bank_code, chain_address or wallet_id."),
    ],
    alias: Annotated[models.Alias, Query(description="What people know them by.")],
    currency: Annotated[
        str | None,
        Query(pattern=r"^[A-Z]{3,5}$", description="Only what takes this currency."),
    ] = None,
) -> Response:
    """Find whom an alias belongs to and how they are reached; an empty list: nobody knows it."""
    db: Database = request.app.state.database
    cache: Cache = request.app.state.cache
    allowed = await db.call("directory.open_lookup", {}, caller)
    version, key = allowed["version"], (alias_type, alias, currency)
    routes = cache.get(key, version)
    is_remembered = routes is not None
    if routes is None:
        routes = await db.call(
            "directory.look_up",
            {"alias_type": alias_type, "alias": alias, "currency": currency},
            caller,
            idempotent=True,
        )
        cache.put(key, version, routes)
    found = models.Lookup(alias_type=alias_type, version=version, data=routes)
    headers = allowed["headers"] | {"x-stalela-cache": "hit" if is_remembered else "miss"}
    return Response(found.model_dump_json(), headers=headers, media_type="application/json")


@router.post("/routes", responses=answers(models.Ranked, 400, 401, 403, 422, 429, 502, 503))
async def rank_routes(body: models.RankRoutes, caller: ApiCaller, request: Request) -> Response:
    """Say which rail a transfer would take now, and why; nothing is begun."""
    amount = Money.parse(body.amount, body.currency)
    db: Database = request.app.state.database
    return (
        await db.answer(
            "directory.rank_routes",
            {
                "intent": body.intent,
                "amount_minor": amount.minor,
                "currency": amount.currency,
                "hints": body.rail_hints,
                "alias_type": body.alias_type,
                "alias": body.alias,
                "policy": body.policy.model_dump() if body.policy else None,
            },
            caller,
            idempotent=True,
        )
    ).response()


@router.get("/routes/{transfer_id}", responses=answers(models.Route, 400, 401, 403, 404, 429, 503))
async def get_route(transfer_id: TransferId, caller: ApiCaller, request: Request) -> Response:
    """Read why a transfer took its rail, and what spoke against every other."""
    db: Database = request.app.state.database
    return (await db.answer("directory.get_route", {"transfer_id": transfer_id}, caller)).response()


@router.get(
    "/institutions/{institution_id}",
    responses=answers(models.Institution, 400, 401, 403, 404, 429, 503),
)
async def get_institution(
    institution_id: InstitutionId, caller: ApiCaller, request: Request
) -> Response:
    """Read an institution and the rails that reach it."""
    db: Database = request.app.state.database
    return (
        await db.answer("directory.get_institution", {"institution_id": institution_id}, caller)
    ).response()


@router.get(
    "/calendars/{calendar}", responses=answers(models.Calendar, 400, 401, 403, 404, 429, 503)
)
async def get_calendar(
    calendar: CalendarName,
    caller: ApiCaller,
    request: Request,
    from_day: Annotated[Day, Query(description="The first day.", examples=["2026-01-01"])],
    to_day: Annotated[Day, Query(description="The last day.", examples=["2026-12-31"])],
) -> Response:
    """List the public holidays of a country between two days."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "directory.get_calendar",
            {
                "calendar": calendar,
                "from_day": from_day.isoformat(),
                "to_day": to_day.isoformat(),
            },
            caller,
        )
    ).response()


@router.post(
    "/versions",
    status_code=201,
    responses=answers(models.Published, 400, 401, 403, 422, 429, 503, status=201),
)
async def publish_entries(body: models.Publish, caller: UserCaller, request: Request) -> Response:
    """Publish entries as a new version; for operators. What they replace stays for the record."""
    db: Database = request.app.state.database
    return (
        await db.answer(
            "directory.publish",
            {
                "source": body.source,
                "sha256": body_hash(body),
                "effective_from": body.effective_from and body.effective_from.isoformat(),
                "entries": [entry.model_dump() for entry in body.entries],
            },
            caller,
        )
    ).response()
