"""Serves /authority-sync: sealed documents on their way to the tax authority, and who decides."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from functions.authority_sync import models
from functions.authority_sync.devices import Devices
from functions.authority_sync.export import export_csv
from functions.authority_sync.worker import Worker
from shared.authority.registry import Authorities
from shared.config import Settings
from shared.db import Database
from shared.http.app import create_app
from shared.http.caller import ApiCaller, InternalCaller, UserCaller, background_caller
from shared.http.drain import Drain
from shared.http.problem import answers, problem_responses
from shared.http.routes import Router
from shared.ids import pattern
from shared.vault import Vault

router = Router("authority sync")

OutletId = Annotated[
    str,
    Path(
        pattern=pattern("out"),
        description="The outlet.",
        examples=["out_01kaj3vq1nfr5r3e2n9v4d8yzx"],
    ),
]
InvoiceId = Annotated[
    str,
    Path(
        pattern=pattern("inv"),
        description="The invoice.",
        examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"],
    ),
]
_CSV: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One row per document, oldest first.",
        "content": {
            "text/csv; charset=utf-8": {
                "schema": {"type": "string"},
                "example": "id,kind,outlet_id\r\n4711,document,out_01kaj3vq1nfr5r3e2n9v4d8yzx\r\n",
            }
        },
    }
}


def create(settings: Settings) -> FastAPI:
    """Build the app. Raises KeyMissing without a master key."""
    app = create_app(
        settings,
        router,
        title="Authority sync",
        description="Tells tax authorities of sealed documents and keeps what they answer.",
        # pg_net calls from one address.
        limit_addresses=False,
    )
    database, vault = Database(settings), Vault(settings.vault_keys)
    authorities = Authorities(settings)
    worker = Worker(database, vault, authorities)
    app.state.database, app.state.authorities = database, authorities
    app.state.devices = Devices(database, vault, authorities)

    async def step() -> int:
        return await worker.drain(background_caller())

    app.state.drain = Drain(step)
    return app


@router.post("/", responses=problem_responses(401, 503))
async def drain_documents(_caller: InternalCaller, request: Request) -> models.Drained:
    """Submit what is due until nothing is left. Woken by cron and by signatures; repeatable."""
    drain: Drain = request.app.state.drain
    return models.Drained(attempted=await drain.poke())


@router.post("/checks", responses=problem_responses(401, 503))
async def check_devices(caller: InternalCaller, request: Request) -> models.Checked:
    """Look after devices whose day is over: tokens that end, rates that changed. By cron."""
    devices: Devices = request.app.state.devices
    return models.Checked(checked=await devices.check_due(caller))


@router.post("/reseal", responses=problem_responses(401, 503))
async def reseal_devices(caller: InternalCaller, request: Request) -> models.Resealed:
    """Seal all credentials again that are under an older master key. Woken by cron; repeatable."""
    devices: Devices = request.app.state.devices
    resealed, failed = await devices.reseal(caller)
    return models.Resealed(resealed=resealed, failed=failed)


@router.get("/status", responses=answers(models.Status, 400, 401, 403, 429, 503))
async def read_status(caller: ApiCaller, request: Request) -> Response:
    """Backlog, oldest age and next attempt of every outlet that reports to an authority."""
    db: Database = request.app.state.database
    return (await db.answer("sync.get_status", {}, caller, idempotent=True)).response()


@router.get("/documents", responses=answers(models.SubmissionPage, 400, 401, 403, 422, 429, 503))
async def list_documents(
    filters: Annotated[models.Filters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List what is not at the authority, in the order it was sealed, page by page."""
    db: Database = request.app.state.database
    return (
        await db.answer("sync.list_open", filters.arguments(), caller, idempotent=True)
    ).response()


@router.get(
    "/documents.csv",
    response_class=Response,
    responses=_CSV | problem_responses(400, 401, 403, 422, 429, 503),
)
async def export_documents(
    filters: Annotated[models.Filters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """Everything that is not at the authority as CSV, for reporting it by hand; `limit` is moot."""
    text = await export_csv(request.app.state.database, filters, caller)
    return Response(text, media_type="text/csv; charset=utf-8")


@router.post(
    "/documents/{invoice_id}/retry",
    responses=answers(models.Submission, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def retry_document(
    invoice_id: InvoiceId, body: models.Decision, caller: UserCaller, request: Request
) -> Response:
    """Try a failed or rejected document again now.

    What may have arrived is asked about first, unless `known_absent` says that it is not there.
    """
    return await _decide(request, invoice_id, "retry", body.reason, body.known_absent, caller)


@router.post(
    "/documents/{invoice_id}/withdraw",
    responses=answers(models.Submission, 400, 401, 403, 404, 409, 422, 429, 503),
)
async def withdraw_document(
    invoice_id: InvoiceId, body: models.Withdrawal, caller: UserCaller, request: Request
) -> Response:
    """End the reporting of a document: corrected by another one, or reported by hand."""
    return await _decide(request, invoice_id, "withdraw", body.reason, False, caller)


@router.post(
    "/devices/{outlet_id}/retry",
    responses=answers(models.RetriedDocuments, 400, 401, 403, 404, 422, 429, 503),
)
async def retry_failed_documents(
    outlet_id: OutletId, body: models.RetryFailed, caller: UserCaller, request: Request
) -> Response:
    """Try an outlet's failed documents again now, the oldest first, 500 at a time.

    For the day after a long outage. What may have arrived is asked about first.
    """
    arguments = {"outlet_id": outlet_id, "reason": body.reason}
    db: Database = request.app.state.database
    return (await db.answer("sync.retry_failed", arguments, caller)).response()


@router.get("/devices", responses=answers(models.Devices, 400, 401, 403, 429, 503))
async def list_devices(caller: ApiCaller, request: Request) -> Response:
    """List the devices of the caller's outlets; credentials are masked."""
    db: Database = request.app.state.database
    return (await db.answer("sync.list_devices", {}, caller, idempotent=True)).response()


@router.put(
    "/devices/{outlet_id}",
    responses=answers(models.Device, 400, 401, 403, 404, 409, 422, 429, 503)
    | answers(models.Device, status=201),
)
async def put_device(
    outlet_id: OutletId, body: models.DeviceFacts, caller: UserCaller, request: Request
) -> Response:
    """Register what the authority gave for this outlet, or renew it.

    The authority is asked first; what it refuses is not stored (42290). Documents sealed from now
    on are reported, as soon as the taxpayer consents.
    """
    devices: Devices = request.app.state.devices
    return (await devices.register(outlet_id, body.root, caller)).response()


@router.delete(
    "/devices/{outlet_id}",
    responses=answers(models.Device, 400, 401, 403, 404, 409, 429, 503),
)
async def retire_device(outlet_id: OutletId, caller: UserCaller, request: Request) -> Response:
    """End reporting for an outlet; 409 while documents are on their way."""
    db: Database = request.app.state.database
    return (await db.answer("sync.retire_device", {"outlet_id": outlet_id}, caller)).response()


@router.get(
    "/devices/{outlet_id}/days",
    responses=answers(models.FiscalDayPage, 400, 401, 403, 404, 422, 429, 503),
)
async def list_fiscal_days(
    outlet_id: OutletId,
    page: Annotated[models.DayFilters, Query()],
    caller: ApiCaller,
    request: Request,
) -> Response:
    """List the fiscal days of an outlet's device with their counters, newest first, page by page.

    Only authorities that count by days have them.
    """
    db: Database = request.app.state.database
    arguments = {"outlet_id": outlet_id, "page_size": page.limit, "before_no": page.cursor}
    return (await db.answer("sync.list_days", arguments, caller, idempotent=True)).response()


@router.post(
    "/devices/{outlet_id}/days/close",
    responses=answers(models.FiscalDay, 400, 401, 403, 404, 409, 429, 503, status=202),
    status_code=202,
)
async def end_fiscal_day(outlet_id: OutletId, caller: UserCaller, request: Request) -> Response:
    """End the open fiscal day: it is closed after the documents sealed until now. Repeatable.

    Days end by themselves when their date is over; 409 when none is open.
    """
    db: Database = request.app.state.database
    return (
        await db.answer("sync.end_day", {"outlet_id": outlet_id}, caller, idempotent=True)
    ).response()


@router.put("/consent", responses=answers(models.Consent, 400, 401, 403, 409, 422, 429, 503))
async def set_consent(body: models.SetConsent, caller: UserCaller, request: Request) -> Response:
    """Agree, or no longer agree, that tax data is submitted. Without it documents wait."""
    db: Database = request.app.state.database
    arguments = {"is_given": body.is_given}
    return (await db.answer("sync.set_consent", arguments, caller, idempotent=True)).response()


@router.put(
    "/switches/{jurisdiction}",
    responses=answers(models.Switch, 400, 401, 403, 404, 422, 429, 503),
)
async def set_switch(
    jurisdiction: Annotated[
        str, Path(pattern="^[A-Z]{2}$", description="Whose authority.", examples=["CD"])
    ],
    body: models.SetSwitch,
    caller: UserCaller,
    request: Request,
) -> Response:
    """Stop an authority, or let it only be asked (`read_only`). For operators of the platform."""
    db: Database = request.app.state.database
    arguments = {"jurisdiction": jurisdiction} | body.model_dump()
    return (await db.answer("sync.set_switch", arguments, caller, idempotent=True)).response()


async def _decide(
    request: Request,
    invoice_id: str,
    decision: str,
    reason: str,
    is_known_absent: bool,
    caller: UserCaller,
) -> Response:
    db: Database = request.app.state.database
    arguments = {
        "invoice_id": invoice_id,
        "decision": decision,
        "reason": reason,
        "is_known_absent": is_known_absent,
    }
    return (await db.answer("sync.decide", arguments, caller)).response()
