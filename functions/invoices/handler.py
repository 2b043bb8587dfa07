"""Serves /invoices: what a merchant sold, taxed, numbered without gaps, chained and signed."""

import asyncio
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.responses import Response

from functions.invoices import batches, corrections, drafts, keys, models, printing
from functions.invoices.issuing import Issuer
from functions.invoices.sealing import Sealer
from functions.invoices.signatures import Signatures
from functions.invoices.signers import make_signer
from functions.invoices.statements import Statements
from shared.config import Settings
from shared.db import Database
from shared.fiscal.document import Document
from shared.fiscal.engine import price
from shared.http.app import create_app
from shared.http.caller import ApiCaller, InternalCaller, background_caller
from shared.http.drain import Drain
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router

router = Router("invoices")
router.add(drafts.router)  # before {invoice_id}, which would be a word of it
router.add(printing.router)
router.add(keys.router)
router.add(batches.router)
router.add(corrections.router)

MAX_BODY_BYTES = 512 * 1024  # 500 lines
_SEALED = answers(models.Invoice, 400, 401, 403, 404, 409, 422, 429, 503, status=201)
_NUMBERED = answers(models.Invoice, status=202)


def create(settings: Settings) -> FastAPI:
    """Build the app. Nothing connects, and no key is read, before the first request needs it."""
    app = create_app(
        settings,
        router,
        title="Invoices",
        description="Fiscal invoices: computed, numbered without gaps, chained, signed.",
        max_body_bytes=MAX_BODY_BYTES,
    )
    app.state.database = Database(settings)
    app.state.signatures = Signatures(app.state.database, make_signer(settings))
    app.state.statements = Statements(app.state.database, app.state.signatures)
    app.state.sealer = Sealer(app.state.database, app.state.signatures)
    app.state.signing = asyncio.Lock()
    issuer = Issuer(app.state.database, app.state.sealer)
    app.state.drain = Drain(lambda: issuer.take(background_caller()))
    app.state.verify_url = settings.verify_url or f"{settings.functions_url}/verify"
    return app


@router.post("/", status_code=201, responses=_SEALED | _NUMBERED)
async def seal_invoice(
    body: Document, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Compute, number, chain and sign. 201: sealed, printable. 202: numbered, signature to come.

    A 202 has its final number; read it again until `sealed` is there, and print it then.
    """
    sealer: Sealer = request.app.state.sealer
    return (await sealer.seal(body, key, body_hash(body), caller)).response()


@router.post("/preview", responses=answers(models.Preview, 400, 401, 403, 422, 429, 503))
async def preview_invoice(body: Document, caller: ApiCaller, request: Request) -> models.Preview:
    """Compute only: nothing is numbered and nothing is kept."""
    database: Database = request.app.state.database
    await database.call("fiscal.may_preview", {}, caller)
    priced = price(body)
    return models.Preview(document=priced.canonical, tax_summary=priced.tax_summary())


@router.post("/issue", responses=answers(models.Issued, 401, 503))
async def issue_ordered_invoices(_caller: InternalCaller, request: Request) -> models.Issued:
    """Issue what payments that have succeeded asked for, until nothing is left."""
    drain: Drain = request.app.state.drain
    return models.Issued(orders=await drain.poke())


@router.post("/sign", responses=answers(models.Signed, 401, 503))
async def sign_waiting_invoices(caller: InternalCaller, request: Request) -> models.Signed:
    """Sign what a signer could not sign at once. Woken by cron; repeatable."""
    signing: asyncio.Lock = request.app.state.signing
    if signing.locked():
        return models.Signed(signed=0)  # who is at it finds what is due now, too
    signatures: Signatures = request.app.state.signatures
    statements: Statements = request.app.state.statements
    async with signing:
        signed = await signatures.sign_waiting(caller)
        return models.Signed(signed=signed + await statements.sign_waiting(caller))


@router.get("/", responses=answers(models.InvoicePage, 400, 401, 403, 422, 429, 503))
async def list_invoices(
    filters: Annotated[models.InvoiceFilters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List sealed and numbered documents, newest first, page by page."""
    database: Database = request.app.state.database
    return (
        await database.answer("fiscal.list_invoices", filters.arguments(), caller, idempotent=True)
    ).response()


@router.get("/{invoice_id}", responses=answers(models.Invoice, 401, 403, 404, 429, 503))
async def get_invoice(
    invoice_id: models.InvoiceId, caller: ApiCaller, request: Request
) -> Response:
    """Read one document as it was sealed."""
    database: Database = request.app.state.database
    return (
        await database.answer(
            "fiscal.get_invoice", {"invoice_id": invoice_id}, caller, idempotent=True
        )
    ).response()
