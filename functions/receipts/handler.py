"""Serves /receipts: mail to payers about their money, and to clients about their invoices."""

from typing import Annotated, Final

from fastapi import FastAPI, Path, Request
from fastapi.responses import RedirectResponse, Response

from functions.receipts.making import Receipts as Maker
from functions.receipts.models import (
    SIGNED_BODY,
    DocumentMails,
    Drained,
    Noted,
    Receipt,
    Receipts,
    RevokedLinks,
)
from shared import log
from shared.clock import to_wire
from shared.config import Settings
from shared.db import Database
from shared.email import Mailer, WebhookRefused
from shared.errors import InvalidRequest
from shared.fiscal.printing.elements import qr_text
from shared.http.app import create_app
from shared.http.caller import (
    ApiCaller,
    FunctionCaller,
    InternalCaller,
    background_caller,
    digest,
)
from shared.http.drain import Drain
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers, problem_responses
from shared.http.routes import Router
from shared.ids import pattern
from shared.masking import mask_email
from shared.postman import Postman, address_index
from shared.vault import Vault

router = Router("receipts")

KINDS: Final = ("receipt", "refund_receipt", "document")
PaymentIntentId = Annotated[
    str,
    Path(
        pattern=pattern("pi"),
        description="The payment's id.",
        examples=["pi_01kaj3v7wvf4fr8mnp5sye2s6k"],
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
LinkToken = Annotated[
    str,
    Path(
        max_length=64,
        description="The end of the link, as it was mailed.",
        examples=["hVYmNQ3wlVyEu0CF3nIvUsRnB8jJyXw1dXq6B3Ue3hA"],
    ),
]


def create(settings: Settings) -> FastAPI:
    """Build the app. Raises KeyMissing without a master key."""
    app = create_app(
        settings,
        router,
        title="Receipts",
        description="Receipts to payers and invoices to clients by mail; bounces heard of.",
    )
    database, vault, mailer = Database(settings), Vault(settings.vault_keys), Mailer(settings)
    app.state.database, app.state.vault, app.state.mailer = database, vault, mailer
    maker = Maker(database, vault, settings.mail_from, settings.functions_url)
    postman = Postman(
        database,
        vault,
        mailer,
        kinds=KINDS,
        claim="messages.claim_messages",
        record="messages.record_sending",
    )

    async def step() -> int:
        caller = background_caller()
        return await maker.take(caller) + await postman.send_due(caller)

    app.state.receipts, app.state.drain = maker, Drain(step)
    app.state.verify_url = settings.verify_url or f"{settings.functions_url}/verify"
    return app


@router.post("/", responses=problem_responses(401, 503))
async def drain_receipts(_caller: InternalCaller, request: Request) -> Drained:
    """Turn waiting events into receipts and send what is due, until nothing is left."""
    drain: Drain = request.app.state.drain
    return Drained(done=await drain.poke())


@router.post(
    "/resend",
    responses=answers(Noted, 400, 413, 503),
    openapi_extra={"requestBody": SIGNED_BODY},
)
async def hear_about_mail(caller: FunctionCaller, request: Request) -> Noted:
    """Take an event about a mail from the provider: signed, at most five minutes old, once.

    A bounce or a complaint suppresses the address. An e-mail's fate never changes a payment.
    """
    state = request.app.state
    try:
        event = state.mailer.read_event(await request.body(), request.headers)
    except WebhookRefused as refused:
        raise InvalidRequest(f"the webhook is refused: {refused}") from None
    outcome = await state.database.call(
        "messages.record_mail_event",
        {
            "event_id": event.event_id,
            "kind": event.kind,
            "email_id": event.email_id,
            "occurred_at": to_wire(event.occurred_at),
            "address_hashes": [address_index(state.vault, each) for each in event.recipients],
            "addresses_masked": [mask_email(each) for each in event.recipients],
        },
        caller,
        idempotent=True,
    )
    log.event("mail_event_received", event_type=event.kind, outcome=outcome)
    return Noted(outcome=outcome)


@router.get(
    "/i/{token}",
    status_code=302,
    response_class=RedirectResponse,
    responses=problem_responses(404, 503)
    | {302: {"description": "To the page that shows and verifies the document."}},
)
async def open_document(token: LinkToken, caller: FunctionCaller, request: Request) -> Response:
    """Follow the link in the mail of a document; it works for 90 days, or until it is revoked."""
    db: Database = request.app.state.database
    found = await db.call(
        "messages.open_link", {"token_hash": digest(token)}, caller, idempotent=True
    )
    return RedirectResponse(
        qr_text(request.app.state.verify_url, **found),
        302,
        # Who is sent there needs no trace of the link, and no cache may outlive it.
        {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"},
    )


@router.get("/documents/{invoice_id}", responses=answers(DocumentMails, 401, 403, 404, 429, 503))
async def list_document_mails(
    invoice_id: InvoiceId, caller: ApiCaller, request: Request
) -> Response:
    """List what the client of this document was sent, and what became of each mail."""
    db: Database = request.app.state.database
    arguments = {"invoice_id": invoice_id}
    return (
        await db.answer("messages.list_document_mails", arguments, caller, idempotent=True)
    ).response()


@router.delete(
    "/documents/{invoice_id}/links", responses=answers(RevokedLinks, 401, 403, 404, 429, 503)
)
async def revoke_document_links(
    invoice_id: InvoiceId, caller: ApiCaller, request: Request
) -> Response:
    """End every link to this document that was mailed. Its QR code goes on working."""
    db: Database = request.app.state.database
    arguments = {"invoice_id": invoice_id}
    return (await db.answer("messages.revoke_links", arguments, caller, idempotent=True)).response()


@router.get("/{payment_intent_id}", responses=answers(Receipts, 400, 401, 403, 404, 429, 503))
async def list_receipts(
    payment_intent_id: PaymentIntentId, caller: ApiCaller, request: Request
) -> Response:
    """List what the payer was sent about this payment, and what became of each mail."""
    db: Database = request.app.state.database
    arguments = {"payment_intent_id": payment_intent_id}
    return (
        await db.answer("messages.list_receipts", arguments, caller, idempotent=True)
    ).response()


@router.post(
    "/{payment_intent_id}/send",
    status_code=202,
    responses=answers(Receipt, 400, 401, 403, 404, 409, 422, 429, 503, status=202),
)
async def send_receipt(
    payment_intent_id: PaymentIntentId, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Send the receipt of a payment again, to the address its customer has."""
    maker: Maker = request.app.state.receipts
    return (await maker.send_again(payment_intent_id, key, body_hash(None), caller)).response()
