"""Uploading a statement: read whole, stored whole, matched at once; or refused with its line."""

import asyncio
import csv
import json
import zlib
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path as File
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse, Response

from functions.recon import models
from shared import log
from shared.db import Answer, Database
from shared.errors import FieldError, InvalidRequest, StatementNotAccepted
from shared.http.caller import ApiCaller, Caller
from shared.http.problem import answers
from shared.http.routes import Router
from shared.recon import base
from shared.recon.base import StatementFile, StatementLine
from shared.recon.generic_csv import ColumnMap
from shared.recon.read import Format, read_statement
from shared.vault import Vault

router = Router("statements")

# Some 50,000 lines, read and matched well within the Data API's patience. Longer days are exported
# in parts; parts that overlap count once.
MAX_FILE_BYTES: Final = 8 * 1024 * 1024
_XML: Final = ("application/xml", "text/xml")
_BODY: Final[dict[str, Any]] = {
    "required": True,
    "description": "The file, byte for byte, up to 8 MiB.",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}, "example": example}
        for kind, example in (
            ("text/csv", "Organization Statement\r\n"),
            ("application/xml", '<?xml version="1.0"?>'),
            ("text/plain", ":20:STMT20261120\n"),
            ("application/octet-stream", ":20:STMT20261120\n"),
        )
    },
}
_FIRST = answers(models.Imported, status=201)

MapName = Annotated[
    str,
    Path(
        pattern=r"^[a-z][a-z0-9_]{0,39}$",
        description="Your name for this kind of file.",
        examples=["house_bank"],
    ),
]


@dataclass(frozen=True, slots=True)
class _Upload:
    """What came, and what it says of itself."""

    rail: str
    format: Format
    name: str | None
    body: bytes
    sha256: str


@router.post(
    "/statements",
    responses=answers(models.Imported, 400, 401, 403, 404, 413, 422, 429, 503) | _FIRST,
    openapi_extra={"requestBody": _BODY},
)
async def upload_statement(
    caller: ApiCaller,
    request: Request,
    rail: Annotated[
        str,
        Query(
            pattern=r"^[a-z][a-z0-9_]{0,30}$",
            description="The rail whose statement it is.",
            examples=["mpesa"],
        ),
    ],
    format_: Annotated[
        Format | None,
        Query(
            alias="format",
            description="What the file is. Without it: camt053 for XML, csv with `columns`, "
            "otherwise the rail's own format.",
            examples=["mpesa_csv"],
        ),
    ] = None,
    columns: Annotated[
        str | None,
        Query(
            pattern=r"^[a-z][a-z0-9_]{0,39}$",
            description="The stored column map that reads this CSV.",
            examples=["house_bank"],
        ),
    ] = None,
    name: Annotated[
        str | None,
        Query(
            max_length=200,
            pattern=r"^[^\x00-\x1f]+$",
            description="The file's name, for people.",
            examples=["600174_20261120.CSV"],
        ),
    ] = None,
) -> Response:
    """Upload a statement and match it; the same file again changes nothing.

    A file with wrong totals or a line that is cut off is refused whole (42270) with the number of
    the line; nothing of it is imported, and an exception says so.
    """
    body = await request.body()
    upload = _Upload(
        rail=rail,
        format=format_ or _format(request, rail, columns),
        name=name,
        body=body,
        sha256=sha256(body).hexdigest(),
    )
    db: Database = request.app.state.database
    how = await _column_map(db, upload.format, columns, caller)
    try:
        # Reading is processor time, which the other requests of this process must not wait for.
        file = await asyncio.to_thread(read_statement, upload.format, body, how)
    except base.StatementRefused as refused:
        raise await _refused(db, upload, refused, caller) from None
    stored = await _store(db, request.app.state.vault, upload, file, caller)
    statement = json.loads(stored.body)
    matched = await db.answer(
        "recon.match_statement", {"statement_id": statement["id"]}, caller, idempotent=True
    )
    result = json.loads(matched.body)
    log.event("statement_imported", rail=rail, rows=len(file.lines), status=stored.status)
    return JSONResponse(
        {"statement": statement, "sessions": result["sessions"]},
        stored.status,
        headers={str(name): str(value) for name, value in stored.headers.items()},
    )


@router.put(
    "/column-maps/{name}",
    responses=answers(models.StoredColumnMap, 400, 401, 403, 429, 503),
)
async def put_column_map(
    name: MapName, body: ColumnMap, caller: ApiCaller, request: Request
) -> Response:
    """Store how one kind of CSV statement is read; statements name it as `columns`."""
    db: Database = request.app.state.database
    arguments = {"name": name, "columns": body.model_dump(mode="json", exclude_none=True)}
    return (await db.answer("recon.put_column_map", arguments, caller, idempotent=True)).response()


def _format(request: Request, rail: str, columns: str | None) -> Format:
    if columns is not None:
        return Format.CSV
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _XML:
        return Format.CAMT053
    return _formats().get(rail, Format.CSV)


@cache
def _formats() -> dict[str, Format]:
    """The format in which each rail exports its statements."""
    path = File(base.__file__).with_name("recon.rail_rules.csv")
    with path.open(newline="") as rows:
        return {row["rail"]: Format(row["statement_format"]) for row in csv.DictReader(rows)}


async def _column_map(
    db: Database, format_: Format, name: str | None, caller: Caller
) -> ColumnMap | None:
    if format_ is not Format.CSV:
        return None
    if name is None:
        rule = "required with format csv: the name of a stored column map"
        raise InvalidRequest(
            f"columns: {rule}", errors=[{"pointer": "/columns", "detail": rule, "in": "query"}]
        )
    answer = await db.answer("recon.get_column_map", {"name": name}, caller, idempotent=True)
    return ColumnMap.model_validate(json.loads(answer.body)["columns"])


async def _refused(
    db: Database, upload: _Upload, refused: base.StatementRefused, caller: Caller
) -> StatementNotAccepted:
    exception_id = await db.call(
        "recon.reject_statement",
        {
            "rail": upload.rail,
            "format": upload.format,
            "file_name": upload.name,
            "sha256": upload.sha256,
            "kind": refused.kind,
            "line_no": refused.line,
            "reason": refused.reason,
        },
        caller,
        idempotent=True,
    )
    log.warning("statement_refused", rail=upload.rail, position=refused.line, reason=refused.reason)
    return StatementNotAccepted(
        str(refused),
        errors=[FieldError(pointer=f"/lines/{refused.line}", detail=refused.reason)],
        extras={"line": refused.line, "kind": refused.kind, "exception_id": exception_id},
    )


async def _store(
    db: Database, vault: Vault, upload: _Upload, file: StatementFile, caller: Caller
) -> Answer:
    rows, sealed = await asyncio.to_thread(_sealed, vault, upload, file)
    return await db.answer(
        "recon.import_statement",
        {
            "rail": upload.rail,
            "statement": {
                "format": upload.format,
                "file_name": upload.name,
                "sha256": upload.sha256,
                "account_ref": file.account,
                "period_from": file.period_from.isoformat(),
                "period_to": file.period_to.isoformat(),
                "lines": len(rows),
                "totals": file.totals(),
                "file_sealed": sealed,
            },
            "lines": rows,
        },
        caller,
        idempotent=True,
    )


def _sealed(vault: Vault, upload: _Upload, file: StatementFile) -> tuple[list[dict[str, Any]], str]:
    """The lines without personal data, and the file, which has it, sealed."""
    rows = [
        _row(line, line_hash, vault)
        for line, line_hash in zip(file.lines, file.hashes(), strict=True)
    ]
    return rows, vault.seal(zlib.compress(upload.body), f"statement|{upload.sha256}")


def _row(line: StatementLine, line_hash: str, vault: Vault) -> dict[str, Any]:
    return {
        "line_no": line.number,
        "line_hash": line_hash,
        "type": line.type,
        "direction": line.direction,
        "amount_minor": line.amount.minor,
        "fee_minor": line.fee.minor if line.fee else 0,
        "currency": line.amount.currency,
        "value_date": line.value_date.isoformat(),
        "occurred_at": line.occurred_at.isoformat() if line.occurred_at else None,
        "external_ref": line.external_ref,
        "our_ref": line.our_ref,
        "linked_ref": line.linked_ref,
        "batch_ref": line.batch_ref,
        "acq_ref": line.acq_ref,
        "auth_code": line.auth_code,
        # As the payers of our transfers are hashed: equal numbers meet without being opened.
        "party_hash": vault.blind_index(line.party, "payer") if line.party else None,
    }
