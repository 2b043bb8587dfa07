"""The wire shapes of /recon."""

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.ids import pattern
from shared.recon.generic_csv import ColumnMap

Kind = Literal[
    "UNMATCHED_LINE",
    "MISSING_LINE",
    "AMOUNT_MISMATCH",
    "DUPLICATE_LINE",
    "STATE_CONFLICT",
    "FEE_MISMATCH",
    "FILE_REJECTED",
    "TOTALS_MISMATCH",
]
SessionStatus = Literal["open", "exceptions", "matched"]
ExceptionStatus = Literal["open", "pending_approval", "resolved"]
Action = Literal["assign", "raise_return", "adjust", "write_off", "acknowledge", "ticket"]

SESSION_ID = "rs_01kaj3vq1nfr5r3e2n9v4d8yzx"
EXCEPTION_ID = "exc_01kaj3vq1nfr5r3e2n9v4d8yzx"
STATEMENT_ID = "stm_01kaj3vq1nfr5r3e2n9v4d8yzx"
TRANSFER_ID = "tr_01kaj3vq1nfr5r3e2n9v4d8yzx"

Rail = Annotated[str, Field(examples=["mpesa"])]
Environment = Literal["sandbox", "production"]
Currency = Annotated[str, Field(examples=["KES"])]
Day = Annotated[date, Field(examples=["2026-11-20"])]


class LineFigures(BaseModel):
    """The statements' side. marked: charges, own moves and copies, which are no transfer."""

    count: Annotated[int, Field(examples=[148])]
    matched: Annotated[int, Field(examples=[140])]
    marked: Annotated[int, Field(examples=[6])]
    exceptions: Annotated[int, Field(examples=[2])]
    # Named as they are on the wire; `in` is a word of the language.
    in_: Annotated[str, Field(alias="in", examples=["13750.00"])]
    out: Annotated[str, Field(examples=["4009.00"])]
    unmatched: Annotated[str, Field(examples=["350.00"])]


class TransferFigures(BaseModel):
    """Our side: settled transfers of the day. awaiting: their line is not due yet."""

    count: Annotated[int, Field(examples=[142])]
    matched: Annotated[int, Field(examples=[140])]
    exceptions: Annotated[int, Field(examples=[1])]
    awaiting: Annotated[int, Field(examples=[1])]
    in_: Annotated[str, Field(alias="in", examples=["13750.00"])]
    out: Annotated[str, Field(examples=["4009.00"])]
    unmatched: Annotated[str, Field(examples=["120.00"])]


class Figures(BaseModel):
    """What a session counts in one currency: everything once."""

    currency: Currency
    lines: LineFigures
    transfers: TransferFigures


class Session(BaseModel):
    """One business day of one rail, in the organisation's time zone."""

    id: Annotated[str, Field(examples=[SESSION_ID])]
    object: Literal["recon_session"]
    rail: Rail
    business_date: Day
    time_zone: Annotated[str, Field(examples=["Africa/Nairobi"])]
    status: SessionStatus
    environment: Environment
    figures: list[Figures]
    opened_at: datetime
    finished_at: datetime | None
    updated_at: datetime


class Pagination(BaseModel):
    """Where the list goes on."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=[f"2026-11-20.{SESSION_ID}"])]


class Sessions(BaseModel):
    """Latest day first."""

    data: list[Session]
    pagination: Pagination


class Statement(BaseModel):
    """A statement that was taken, whole."""

    id: Annotated[str, Field(examples=[STATEMENT_ID])]
    object: Literal["statement"]
    rail: Rail
    format: Annotated[str, Field(examples=["mpesa_csv"])]
    file_name: Annotated[str | None, Field(examples=["600174_20261120.CSV"])]
    sha256: Annotated[
        str,
        Field(examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]),
    ]
    account: Annotated[str | None, Field(examples=["600174"])]
    period_from: Day
    period_to: Day
    lines: Annotated[int, Field(examples=[148])]
    already_imported: Annotated[bool, Field(examples=[False])]
    environment: Environment
    imported_at: datetime
    matched_at: datetime | None


class Imported(BaseModel):
    """The statement, and the sessions of its days after its lines were matched."""

    statement: Statement
    sessions: list[Session]


class Line(BaseModel):
    """A line of a statement."""

    id: Annotated[int, Field(examples=[4711])]
    number: Annotated[int, Field(examples=[14])]
    type: Annotated[str, Field(examples=["payment"])]
    direction: Literal["in", "out"]
    receipt: Annotated[str | None, Field(examples=["UKL5N5P6Q7"])]
    reference: Annotated[str | None, Field(examples=["INV-20419"])]
    value_date: Day
    occurred_at: datetime | None
    statement_id: Annotated[str, Field(examples=[STATEMENT_ID])]


class Decision(BaseModel):
    """What somebody decided about an exception."""

    action: Annotated[str, Field(examples=["ticket"])]
    actor: Annotated[str, Field(examples=["user:5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11"])]
    reason: Annotated[str, Field(examples=["Asked the rail's support"])]
    decided_at: datetime


class ReconException(BaseModel):
    """A line, a transfer or a file that does not fit, waiting for a person."""

    id: Annotated[str, Field(examples=[EXCEPTION_ID])]
    object: Literal["recon_exception"]
    kind: Kind
    status: ExceptionStatus
    rail: Rail
    business_date: Day | None
    amount: Annotated[str | None, Field(examples=["250.00"])]
    currency: Annotated[str | None, Field(examples=["KES"])]
    transfer_id: Annotated[str | None, Field(examples=[TRANSFER_ID])]
    line: Line | None
    details: Annotated[dict[str, Any], Field(examples=[{"receipt": "UKL5N5P6Q7", "line": 14}])]
    proposal: Annotated[dict[str, Any] | None, Field(examples=[None])]
    resolution: Annotated[str | None, Field(examples=[None])]
    decisions: list[Decision]
    environment: Environment
    opened_at: datetime
    resolved_at: datetime | None


class Exceptions(BaseModel):
    """Oldest first."""

    data: list[ReconException]
    pagination: Pagination


class RuleFigures(BaseModel):
    """How many lines of the day a rule matched."""

    rule: Annotated[str, Field(examples=["rail_reference"])]
    currency: Currency
    lines: Annotated[int, Field(examples=[140])]
    amount: Annotated[str, Field(examples=["13200.00"])]


class Report(BaseModel):
    """A session with everything it rests on."""

    object: Literal["recon_report"]
    organisation: Annotated[str, Field(examples=["Acacia Books"])]
    session: Session
    statements: list[Statement]
    rules: list[RuleFigures]
    exceptions: list[ReconException]


Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500)]


class Resolve(BaseModel):
    """What is to be done. assign and raise_return take transfer_id, ticket takes reference."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "action": "assign",
                    "transfer_id": TRANSFER_ID,
                    "reason": "The payer sent the receipt, it is this payment",
                }
            ]
        },
    )

    action: Action
    transfer_id: Annotated[str, Field(pattern=pattern("tr"))] | None = None
    reference: (
        Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
        | None
    ) = None
    reason: Reason


class Approve(BaseModel):
    """Whether what another person proposed is done."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"approve": True, "reason": "Agreed with the branch manager"}]
        },
    )

    approve: bool
    reason: Reason


class StoredColumnMap(BaseModel):
    """A column map under its name."""

    name: Annotated[str, Field(examples=["house_bank"])]
    object: Literal["column_map"]
    columns: ColumnMap
