"""What is wrong is corrected by another document: the whole credited, or a part."""

import json
from typing import Final

from fastapi import Request
from fastapi.responses import Response
from pydantic import BaseModel

from functions.invoices.correction_models import Refund, Void
from functions.invoices.models import Invoice, InvoiceId
from functions.invoices.sealing import Sealer
from shared.clock import utc_now
from shared.db import Answer, Database
from shared.fiscal.credits import Original, Terms, credit_of
from shared.http.caller import ApiCaller, Caller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers
from shared.http.routes import Router

router = Router("invoices")

_CREDIT: Final = answers(Invoice, 400, 401, 403, 404, 409, 422, 429, 503, status=201) | answers(
    Invoice, status=202
)


class _Claim(BaseModel):
    """What an Idempotency-Key stands for here: this correction of this document."""

    action: str
    invoice_id: str
    body: Void | Refund


@router.post("/{invoice_id}/void", status_code=201, responses=_CREDIT)
async def void_invoice(
    invoice_id: InvoiceId, body: Void, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Cancel a document by a credit note over all of it. Nothing that was sealed is deleted.

    Refused once anything of it was credited: then refund what is left.
    """
    claim = _Claim(action="void", invoice_id=invoice_id, body=body)
    return (await _credit(claim, body.terms(), key, caller, request)).response()


@router.post("/{invoice_id}/refund", status_code=201, responses=_CREDIT)
async def refund_invoice(
    invoice_id: InvoiceId, body: Refund, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Give money back by a credit note over the lines named, or over all of them.

    Prices, groups and buyer are those of the original. Parts are rounded each for itself; the last
    of them never comes to more than is left. It moves no money itself: `reference` names the
    payment that did.
    """
    claim = _Claim(action="refund", invoice_id=invoice_id, body=body)
    return (await _credit(claim, body.terms(), key, caller, request)).response()


async def _credit(
    claim: _Claim, terms: Terms, key: str, caller: Caller, request: Request
) -> Answer:
    database: Database = request.app.state.database
    sealer: Sealer = request.app.state.sealer
    found = await database.answer(
        "fiscal.get_creditable", {"invoice_id": claim.invoice_id}, caller, idempotent=True
    )
    original = Original(**json.loads(found.body))
    document = credit_of(original, terms, utc_now())
    return await sealer.seal(document, key, body_hash(claim), caller)
