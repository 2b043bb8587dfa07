"""Documents on paper and on screens: signed ones, whole, in the format asked for."""

import asyncio
import json
from typing import Annotated, Any, Final

from fastapi import Query, Request
from fastapi.responses import Response

from functions.invoices.models import InvoiceId, Language, PrintRequest, Prints
from shared.db import Answer, Database
from shared.fiscal.printing.press import MEDIA_TYPES, SUFFIXES, Format, Print, printed
from shared.http.caller import ApiCaller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers, problem_responses
from shared.http.routes import Router

router = Router("invoices")

_DRAWN: Final[dict[str, Any]] = {
    "text/plain": {"schema": {"type": "string"}, "example": "Acacia Books\nFacture\n"},
    "application/octet-stream": {
        "schema": {"type": "string", "format": "binary"},
        "example": "@",
    },
    "text/html": {"schema": {"type": "string"}, "example": "<!doctype html>"},
    "application/pdf": {"schema": {"type": "string", "format": "binary"}, "example": "%PDF-1.7"},
    "image/svg+xml": {"schema": {"type": "string"}, "example": "<svg/>"},
}
VIEW: Final[dict[int | str, Any]] = {200: {"content": _DRAWN, "description": "The document."}}
_PRINT: Final[dict[int | str, Any]] = {201: {"content": _DRAWN, "description": "The print."}}
Drawing = Annotated[
    Format,
    Query(
        alias="format",
        description=(
            "`text58` and `text80`: 32 and 48 columns; `escpos58` and `escpos80`: the same as"
            " printers take it, QR code drawn; `html`; `pdf` (A4) and `pdf80`: PDF/A-3 with the"
            " document's JSON inside; `qr`: its QR code as SVG."
        ),
    ),
]
InLanguage = Annotated[
    Language | None,
    Query(alias="lang", description="By default the usual language of the country."),
]


@router.get(
    "/{invoice_id}/receipt",
    response_class=Response,
    responses=VIEW | problem_responses(400, 401, 403, 404, 409, 429, 503),
)
async def get_receipt(
    invoice_id: InvoiceId,
    caller: ApiCaller,
    request: Request,
    format_: Drawing = Format.HTML,
    language: InLanguage = None,
) -> Response:
    """Look at a signed document. It is marked as a copy: originals come from `POST …/prints`.

    409 until it is signed: the security elements are shown together or not at all.
    """
    database: Database = request.app.state.database
    answer = await database.answer(
        "fiscal.get_printable", {"invoice_id": invoice_id}, caller, idempotent=True
    )
    return await _drawn(answer, Print(None, language), format_, request)


@router.post(
    "/{invoice_id}/prints",
    status_code=201,
    response_class=Response,
    responses=_PRINT | problem_responses(400, 401, 403, 404, 409, 422, 429, 503),
)
async def print_invoice(
    invoice_id: InvoiceId,
    body: PrintRequest,
    key: IdempotencyKey,
    caller: ApiCaller,
    request: Request,
) -> Response:
    """Hand out a signed document to be printed: first the original, then DUPLICATA 1, 2 and so on.

    Every print is recorded. Repeat the key when the answer was lost or the paper jammed: it is the
    same print again, and counted once. `Stalela-Copy-No` is 0 for the original.
    """
    database: Database = request.app.state.database
    answer = await database.answer(
        "fiscal.print_invoice",
        {
            "invoice_id": invoice_id,
            "idempotency_key": key,
            "body_hash": body_hash(body),
            "format": body.format,
            "language": body.lang,
        },
        caller,
    )
    copy_no = json.loads(answer.body)["print"]["copy_no"]
    drawn = await _drawn(answer, Print(copy_no, body.lang), body.format, request)
    drawn.headers["Stalela-Copy-No"] = str(copy_no)
    return drawn


@router.get("/{invoice_id}/prints", responses=answers(Prints, 400, 401, 403, 404, 429, 503))
async def list_prints(invoice_id: InvoiceId, caller: ApiCaller, request: Request) -> Response:
    """List who printed a document when: the original first, then its copies."""
    database: Database = request.app.state.database
    return (
        await database.answer(
            "fiscal.list_prints", {"invoice_id": invoice_id}, caller, idempotent=True
        )
    ).response()


async def _drawn(answer: Answer, which: Print, format_: Format, request: Request) -> Response:
    facts = json.loads(answer.body)
    # Fonts and pages are work for a processor; other requests go on meanwhile.
    content = await asyncio.to_thread(printed, facts, which, request.app.state.verify_url, format_)
    return shown(answer, content, format_, json.loads(facts["resource"])["fiscal_number"])


def shown(answer: Answer, content: bytes, format_: Format, name: str) -> Response:
    """What was drawn from an answer, to be seen and to be kept under a name."""
    headers = {str(header): str(value) for header, value in answer.headers.items()}
    file = f"{name}.{SUFFIXES[format_]}"
    headers["Content-Disposition"] = f'inline; filename="{file}"'
    headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    return Response(content, answer.status, headers, MEDIA_TYPES[format_])
