"""Documents on paper and on screens: signed ones, whole, in the format asked for."""

import json
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from functions.invoices.models import InvoiceId
from shared.db import Database
from shared.fiscal.printing.elements import Elements
from shared.http.caller import ApiCaller
from shared.http.problem import problem_responses

router = APIRouter(tags=["invoices"])


class ReceiptFormat(StrEnum):
    """What a document can be drawn as."""

    QR = "qr"


_RECEIPT: dict[int | str, Any] = {
    200: {"content": {"image/svg+xml": {"schema": {"type": "string"}, "example": "<svg/>"}}}
}


@router.get(
    "/{invoice_id}/receipt",
    response_class=Response,
    responses=_RECEIPT | problem_responses(400, 401, 403, 404, 409, 422, 429, 503),
)
async def get_receipt(
    invoice_id: InvoiceId,
    caller: ApiCaller,
    request: Request,
    format_: Annotated[
        ReceiptFormat, Query(alias="format", description="`qr`: its QR code alone, as SVG.")
    ] = ReceiptFormat.QR,
) -> Response:
    """Draw a signed document. 409 until it is signed: nothing of it is printed before."""
    database: Database = request.app.state.database
    answer = await database.answer(
        "fiscal.get_printable", {"invoice_id": invoice_id}, caller, idempotent=True
    )
    resource = json.loads(json.loads(answer.body)["resource"])
    elements = Elements.of(resource, request.app.state.verify_url)
    from shared.fiscal.printing import qr  # only those who print pay for it

    assert format_ is ReceiptFormat.QR
    headers = {str(name): str(value) for name, value in answer.headers.items()}
    return Response(qr.svg(elements.qr_text), 200, headers, "image/svg+xml")
