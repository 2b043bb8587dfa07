"""Serves /momo-callback: what mobile money rails report, kept first, then believed or not."""

from ipaddress import ip_network
from typing import Annotated, Any, Final, Literal

from fastapi import FastAPI, Path, Request
from fastapi.responses import JSONResponse

from functions.momo_callback import deposits
from functions.momo_callback.models import ANY_BODY, ANY_RESULT, Acknowledged
from functions.momo_callback.received import RAIL, Received, receive
from shared import log
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import Caller, FunctionCaller
from shared.http.problem import answers
from shared.http.routes import Router
from shared.rails.base import CallbackKind, CallbackNotUnderstood, CallbackRequest
from shared.rails.registry import Rails
from shared.vault import Vault

router = Router("rail callbacks")

PATIENCE_S: Final = 2.0  # the rail hangs up after 3 s (rails reference 1.3)

Token = Annotated[
    str,
    Path(
        min_length=1,
        max_length=128,
        description="The callback token of one request to the rail: what it was given to call.",
        examples=["b4JqT7vJdX0mWbE5rYc8KfLh3uPz6SgAo9Di1Rk4Vt2"],
    ),
]


def create(settings: Settings) -> FastAPI:
    """Build the app."""
    app = create_app(
        settings,
        router,
        title="Mobile money callbacks",
        description="Where mobile money rails report results. Answers at once, always the same.",
        # A rail calls from a handful of addresses; a limit per address would drop money news. Where
        # its addresses are known, no limit at all does.
        limit_addresses=False,
        unlimited=settings.callback_sources,
    )
    app.state.database, app.state.vault = Database(settings), Vault(settings.vault_keys)
    app.state.rails = Rails(settings)
    app.state.sources = [ip_network(source) for source in settings.callback_sources]
    return app


@router.post(
    "/{token}",
    responses=answers(Acknowledged, 413, 503),
    openapi_extra={"requestBody": ANY_BODY},
)
async def receive_callback(token: Token, caller: FunctionCaller, request: Request) -> JSONResponse:
    """Store, apply, acknowledge; store and apply are one transaction. A replay changes nothing."""
    return await _receive_event(token, "collect", caller, request)


@router.post(
    "/{token}/balance",
    responses=answers(Acknowledged, 413, 503),
    openapi_extra={"requestBody": ANY_RESULT},
)
async def receive_balance(token: Token, caller: FunctionCaller, request: Request) -> JSONResponse:
    """Keep what the rail says it holds for the tenant who asked."""
    received = await receive(request, token, "balance")
    accounts: list[dict[str, Any]] | None = None
    problem: str | None = None
    rail = request.app.state.rails.balances(RAIL)
    try:
        report = rail.read_balance(received.request)
        accounts = [account.to_json() for account in report.accounts]
        if not accounts:
            problem = report.message or "the rail told no account"
    except CallbackNotUnderstood as odd:
        problem = odd.reason
    await _keep(
        request,
        "rails.receive_balance",
        received.arguments | {"accounts": accounts, "problem": problem},
        caller,
    )
    return JSONResponse(Acknowledged().model_dump())


@router.post(
    "/{token}/{kind}",
    responses=answers(Acknowledged, 413, 503),
    openapi_extra={"requestBody": ANY_RESULT},
)
async def receive_result(
    token: Token,
    kind: Annotated[
        Literal["result", "timeout", "status"],
        Path(description="What is told: how it went, that nobody knows, or what was asked."),
    ],
    caller: FunctionCaller,
    request: Request,
) -> JSONResponse:
    """The same for payouts and refunds: results, timeouts (which say nothing) and statuses."""
    return await _receive_event(token, kind, caller, request)


async def _receive_event(
    token: str, kind: CallbackKind, caller: Caller, request: Request
) -> JSONResponse:
    received = await receive(request, token, kind)
    events, problem = _read(request.app.state.rails, received)
    concluded = await _keep(
        request,
        "rails.receive_callback",
        received.arguments | {"events": events, "problem": problem, "kind": kind},
        caller,
    )
    log.event(
        "rail_callback_received",
        rail=RAIL,
        transfer_id=concluded.get("transfer_id"),
        disposition=concluded["disposition"],
        reason=concluded.get("reason"),
    )
    return JSONResponse(Acknowledged().model_dump())


async def _keep(
    request: Request, function: str, arguments: dict[str, Any], caller: Caller
) -> dict[str, Any]:
    """Store and conclude. The rail calls once: a database that is away is waited for."""
    database: Database = request.app.state.database
    kept: dict[str, Any] = await database.call(
        function, arguments, caller, idempotent=True, patience_s=PATIENCE_S
    )
    return kept


def _read(rails: Rails, received: Received) -> tuple[list[dict[str, Any]] | None, str | None]:
    request: CallbackRequest = received.request
    try:
        events = rails.get(RAIL).read_callback(request)
    except CallbackNotUnderstood as odd:
        return None, odd.reason
    return [dict(event.to_json()) for event in events], None


router.add(deposits.router)
