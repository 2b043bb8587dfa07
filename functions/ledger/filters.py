"""The query parameters of /ledger."""

import re
from datetime import date
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.ids import pattern

_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_CODE: Final = r"^[A-Z_]+(:[A-Za-z0-9_.-]+)?$"
_CURRENCY: Final = r"^[A-Z]{3,5}$"

AccountType = Literal[
    "USER",
    "MERCHANT",
    "LIQUIDITY",
    "FEES",
    "FX",
    "SETTLEMENT",
    "RESERVE",
    "NOSTRO",
    "VOSTRO",
    "MEMO",
    "TAX",
    "EQUITY",
    "EXPENSE",
    "RECEIVABLE",
    "PAYABLE",
]
JournalId = Annotated[
    str,
    Path(
        pattern=pattern("jrnl"),
        description="The journal's id.",
        examples=["jrnl_01kaj3wz5qf3msb0zcv9m2d7xe"],
    ),
]


def _spelled_out(text: object) -> object:
    """Give `text` back. ValueError for a bare number, which pydantic would take for an epoch."""
    if isinstance(text, str) and not _DATE.fullmatch(text):
        raise ValueError("must be a day such as 2026-11-20")
    return text


Day = Annotated[date, BeforeValidator(_spelled_out)]


class _Filters(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Balances(_Filters):
    """All must hold."""

    type: Annotated[AccountType | None, Field(description="Only accounts of this type.")] = None
    currency: Annotated[
        str | None,
        Field(pattern=_CURRENCY, description="Only accounts in this currency.", examples=["KES"]),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of ledger.list_balances."""
        return {"filters": self.model_dump(exclude_none=True)}


class Journals(_Filters):
    """Newest first."""

    limit: Annotated[int, Field(ge=1, le=100, description="How many journals a page holds.")] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9]{1,18}$",
            description="`next_cursor` of the page before.",
            examples=["4711"],
        ),
    ] = None
    transfer_id: Annotated[
        str | None,
        Field(
            pattern=pattern("tr"),
            description="Only what was booked for this transfer.",
            examples=["tr_01kaj3vq1nfr5r3e2n9v4d8yzx"],
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of ledger.list_journals."""
        return {
            "filters": {} if self.transfer_id is None else {"transfer_id": self.transfer_id},
            "page_size": self.limit,
            "before_number": 2**62 if self.cursor is None else int(self.cursor),
        }


class Statement(_Filters):
    """Both days are included, and over."""

    account: Annotated[
        str,
        Field(
            pattern=_CODE,
            max_length=80,
            description="The account's code, as in /accounts.",
            examples=["MERCHANT:tn_01kaj3v5d6e0bvs3m9y2r8ht4w"],
        ),
    ]
    currency: Annotated[
        str, Field(pattern=_CURRENCY, description="Its currency.", examples=["KES"])
    ]
    from_: Annotated[
        Day, Field(alias="from", description="The first day (UTC).", examples=["2026-11-01"])
    ]
    to: Annotated[Day, Field(description="The last day (UTC).", examples=["2026-11-20"])]
    format: Annotated[
        Literal["json", "csv", "bai2"], Field(description="How the statement is written.")
    ] = "json"

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of ledger.statement."""
        return {
            "account": self.account,
            "currency": self.currency,
            "from_on": self.from_.isoformat(),
            "until_on": self.to.isoformat(),
            "shape": self.format,
        }


class Proof(_Filters):
    """Numbers of journals; at most 1,000 at once."""

    from_: Annotated[
        int, Field(alias="from", ge=1, lt=2**62, description="The first journal's number.")
    ] = 1
    to: Annotated[
        int | None,
        Field(ge=1, lt=2**62, description="The last one's; by default as many as there may be."),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """Give the arguments of ledger.prove."""
        return {"first_number": self.from_, "last_number": self.to}


BalanceFilters = Annotated[Balances, Query()]
JournalFilters = Annotated[Journals, Query()]
StatementDays = Annotated[Statement, Query()]
ProofRange = Annotated[Proof, Query()]
