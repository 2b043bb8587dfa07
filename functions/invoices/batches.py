"""Many documents in one request, each sealed or refused by itself."""

import json
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field

from functions.invoices.models import Invoice
from functions.invoices.sealing import Sealer
from shared.errors import StalelaError
from shared.fiscal.document import Document
from shared.http.caller import ApiCaller
from shared.http.frame import docs_url
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers, problem_body
from shared.http.routes import Router

router = Router("invoices")

_PROBLEM = {
    "type": "https://api.example/functions/v1/docs#42273",
    "title": "Totals do not match",
    "status": 422,
    "detail": "total: is 1160.01 and comes to 1160.00 here",
    "code": "42273",
    "request_id": "req_01jd2y5x7hf6t8m3q0v9r4k2wz",
}


class Batch(BaseModel):
    """Documents in the order in which they are numbered."""

    model_config = ConfigDict(extra="forbid")

    invoices: Annotated[list[Document], Field(min_length=1, max_length=100)]


class BatchItem(BaseModel):
    """What became of one document: the status and the answer it would have had alone."""

    status: Annotated[int, Field(examples=[201])]
    invoice: Invoice | None
    problem: Annotated[dict[str, Any] | None, Field(examples=[_PROBLEM])]


class BatchResult(BaseModel):
    """In the order of the request."""

    data: list[BatchItem]


@router.post("/batch", responses=answers(BatchResult, 400, 401, 403, 422, 429, 503))
async def seal_batch(
    body: Batch, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> BatchResult:
    """Seal up to 100 documents, one after the other; each answers for itself.

    Each counts against your limit. Repeat the key and the same body after any failure: what was
    sealed is answered again, what was not is tried again.
    """
    results = []
    for number, document in enumerate(body.invoices):
        own_key = sha256(f"{number}:{key}".encode()).hexdigest()
        results.append(await _sealed(document, own_key, caller, request))
    return BatchResult(data=results)


async def _sealed(document: Document, key: str, caller: ApiCaller, request: Request) -> BatchItem:
    sealer: Sealer = request.app.state.sealer
    try:
        answer = await sealer.seal(document, key, body_hash(document), caller)
    except StalelaError as refused:
        problem = problem_body(
            refused,
            docs_url=docs_url(request.app.state.settings),
            request_id=request.state.request_id,
        )
        return BatchItem(status=refused.status, invoice=None, problem=problem)
    sealed = Invoice.model_validate(json.loads(answer.body))
    return BatchItem(status=answer.status, invoice=sealed, problem=None)
