"""The wire shapes of /integrity."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

OUTLET: str = "out_01kaj3vq1nfr5r3e2n9v4d8yzx"
WALK: str = "walk_01kaj3vq1nfr5r3e2n9v4d8yzx"
HASH: str = "f2601c7880357f90366a0c0cb38273ae2e4a4f0472f86a08ac4448f289449a3a"
Hash = Annotated[str, Field(examples=[HASH])]
Scope = Literal["new", "all"]
Checks = Literal["hashes", "everything"]


class Drained(BaseModel):
    """How many parts of chains were walked."""

    done: Annotated[int, Field(examples=[3])]


class WalkOrder(BaseModel):
    """Which chain to verify, and how much of it.

    `new`: what was added since the last walk that checked everything and found nothing. `hashes`:
    links, hashes, order and numbers; `everything`: rows, documents, signatures and keys too.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"outlet_id": OUTLET}]}
    )

    outlet_id: Annotated[str, Field(min_length=1, max_length=64)]
    scope: Scope = "all"
    checks: Checks = "everything"


class Finding(BaseModel):
    """The first entry that is not what was sealed, and the check that says so."""

    entry_no: Annotated[int | None, Field(examples=[17])]
    fiscal_number: Annotated[str | None, Field(examples=["STL-KIN001-000017"])]
    check: Annotated[
        Literal[
            "entry_no",
            "previous_hash",
            "entry_hash",
            "payload_hash",
            "sealed_at",
            "entry",
            "document",
            "signature",
            "key",
            "sequence",
        ],
        Field(examples=["payload_hash"]),
    ]
    detail: Annotated[str, Field(examples=["its document is not what was sealed"])]


class Walk(BaseModel):
    """A verification. `from_entry` to `to_entry` are sound; `head_hash` is that of the last."""

    id: Annotated[str, Field(examples=[WALK])]
    object: Literal["chain_walk"]
    outlet_id: Annotated[str, Field(examples=[OUTLET])]
    scope: Scope
    checks: Checks
    status: Annotated[Literal["running", "sound", "broken"], Field(examples=["sound"])]
    from_entry: Annotated[int, Field(examples=[1])]
    to_entry: Annotated[int, Field(examples=[4711])]
    head_hash: Hash
    finding: Annotated[Finding | None, Field(examples=[None])]
    environment: Literal["sandbox", "production"]
    started_at: datetime
    finished_at: datetime | None


class Pagination(BaseModel):
    """How to get the next page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=[WALK])]


class WalkPage(BaseModel):
    """Walks, newest first."""

    data: list[Walk]
    pagination: Pagination


class WalkFilters(BaseModel):
    """Which walks, and from where on."""

    model_config = ConfigDict(extra="forbid")

    outlet_id: Annotated[
        str | None,
        Field(max_length=64, description="Only this outlet's.", examples=[OUTLET]),
    ] = None
    limit: Annotated[
        int, Field(ge=1, le=100, description="How many walks a page holds.", examples=[20])
    ] = 20
    cursor: Annotated[
        str | None,
        Field(max_length=64, description="`next_cursor` of the page before.", examples=[WALK]),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """What fiscal.list_walks takes."""
        return {
            "outlet_id": self.outlet_id,
            "page_size": self.limit,
            "page_after": self.cursor,
        }
