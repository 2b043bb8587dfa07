"""Drafts: documents without a number, which change until they are sealed or given up."""

import asyncio
import json
from enum import StrEnum
from typing import Annotated, Any, Final

from fastapi import Query, Request
from fastapi.responses import Response

from functions.invoices.draft_models import (
    Draft,
    DraftFilters,
    DraftId,
    DraftPage,
    DraftReplacement,
    DraftRequest,
)
from functions.invoices.models import Invoice
from functions.invoices.printing import VIEW, InLanguage, shown
from functions.invoices.sealing import Sealer, computed
from shared.db import Answer, Database
from shared.errors import IdempotencyConflict, Unprocessable
from shared.fiscal.document import Document
from shared.fiscal.printing.press import Format, printed_draft
from shared.http.caller import ApiCaller, Caller
from shared.http.idempotency import IdempotencyKey, body_hash
from shared.http.problem import answers, problem_responses
from shared.http.routes import Router

router = Router("invoices")

_SEALED: Final = answers(Invoice, 401, 403, 404, 409, 422, 429, 503, status=201) | answers(
    Invoice, status=202
)


class DraftFormat(StrEnum):
    """What a proforma can be drawn as: it has no QR code."""

    TEXT58 = "text58"
    TEXT80 = "text80"
    ESCPOS58 = "escpos58"
    ESCPOS80 = "escpos80"
    HTML = "html"
    PDF = "pdf"
    PDF80 = "pdf80"


@router.post(
    "/drafts",
    status_code=201,
    responses=answers(Draft, 400, 401, 403, 404, 409, 422, 429, 503, status=201),
)
async def save_draft(
    body: DraftRequest, key: IdempotencyKey, caller: ApiCaller, request: Request
) -> Response:
    """Compute a document and keep it without a number. It must be one that could be sealed.

    `proforma` and `training` are printed with their mark and are never sealed.
    """
    claim = {"idempotency_key": key, "body_hash": body_hash(body), "purpose": body.purpose}
    return (
        await _call("fiscal.save_draft", claim | _kept(body.document), caller, request)
    ).response()


@router.get("/drafts", responses=answers(DraftPage, 400, 401, 403, 429, 503))
async def list_drafts(
    filters: Annotated[DraftFilters, Query()], caller: ApiCaller, request: Request
) -> Response:
    """List drafts, newest first; `is_stale` finds those that nobody touched for 72 hours."""
    return (await _call("fiscal.list_drafts", filters.arguments(), caller, request)).response()


@router.get("/drafts/{draft_id}", responses=answers(Draft, 400, 401, 403, 404, 429, 503))
async def get_draft(draft_id: DraftId, caller: ApiCaller, request: Request) -> Response:
    """Read a draft: as it was sent, and what it comes to."""
    return (await _call("fiscal.get_draft", {"draft_id": draft_id}, caller, request)).response()


@router.put("/drafts/{draft_id}", responses=answers(Draft, 400, 401, 403, 404, 409, 422, 429, 503))
async def replace_draft(
    draft_id: DraftId, body: DraftReplacement, caller: ApiCaller, request: Request
) -> Response:
    """Put another document in its place, at the version you read: 409 when it has moved on."""
    place = {"draft_id": draft_id, "version": body.version}
    return (
        await _call("fiscal.replace_draft", place | _kept(body.document), caller, request)
    ).response()


@router.delete("/drafts/{draft_id}", responses=answers(Draft, 400, 401, 403, 404, 409, 429, 503))
async def cancel_draft(draft_id: DraftId, caller: ApiCaller, request: Request) -> Response:
    """Give a draft up. It stays readable as `cancelled`; what was sealed is voided instead."""
    return (await _call("fiscal.cancel_draft", {"draft_id": draft_id}, caller, request)).response()


@router.post("/drafts/{draft_id}/seal", status_code=201, responses=_SEALED)
async def seal_draft(draft_id: DraftId, caller: ApiCaller, request: Request) -> Response:
    """Seal a draft exactly as it was shown. Once: repeated, it answers with the same document.

    Refused for a rule, it stays open as `validation_failed` and says why in `error`.
    """
    sealer: Sealer = request.app.state.sealer
    place = {"draft_id": draft_id}
    try:
        return (await sealer.take("fiscal.seal_draft", place, caller)).response()
    except IdempotencyConflict:
        raise
    except Unprocessable as refused:
        error = {"code": refused.code, "message": refused.message, "errors": refused.errors}
        database: Database = request.app.state.database
        await database.call("fiscal.fail_draft", place | {"error": error}, caller)
        raise


@router.get(
    "/drafts/{draft_id}/receipt",
    response_class=Response,
    responses=VIEW | problem_responses(400, 401, 403, 404, 409, 429, 503),
)
async def get_draft_receipt(
    draft_id: DraftId,
    caller: ApiCaller,
    request: Request,
    format_: Annotated[
        DraftFormat, Query(alias="format", description="As for sealed documents.")
    ] = DraftFormat.HTML,
    language: InLanguage = None,
) -> Response:
    """Draw a proforma or a training document, marked as what it is; drafts of invoices are not."""
    answer = await _call("fiscal.get_printable_draft", {"draft_id": draft_id}, caller, request)
    drawing = Format(format_)
    content = await asyncio.to_thread(printed_draft, json.loads(answer.body), language, drawing)
    return shown(answer, content, drawing, draft_id)


def _kept(document: Document) -> dict[str, Any]:
    return computed(document) | {"document": document.model_dump(mode="json", exclude_unset=True)}


async def _call(
    routine: str, arguments: dict[str, Any], caller: Caller, request: Request
) -> Answer:
    database: Database = request.app.state.database
    return await database.answer(routine, arguments, caller)
