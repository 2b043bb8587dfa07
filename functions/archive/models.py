"""The wire shapes of /archive."""

from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_NUMBER = "A-KIN001-000001"
_PREFIX = "fiscal/CD/fm_01kaj3vq1nfr5r3e2n9v4d8yzx/out_01kaj3vq1nfr5r3e2n9v4d8yzx/2026/11/21/"


class Archived(BaseModel):
    """How much was done: ranges written, and manifests kept once they were signed."""

    done: Annotated[int, Field(examples=[2])]


class Manifest(BaseModel):
    """A range of an outlet's chain. `verified_at`: since when all of it is kept, signed."""

    manifest_no: Annotated[int, Field(examples=[1])]
    fiscal_number: Annotated[str, Field(examples=[_NUMBER])]
    day: Annotated[date, Field(examples=["2026-11-21"])]
    first_entry: Annotated[int, Field(examples=[1])]
    last_entry: Annotated[int, Field(examples=[42])]
    prefix: Annotated[str, Field(examples=[_PREFIX])]
    manifest_sha256: Annotated[
        str, Field(examples=["f2601c7880357f90366a0c0cb38273ae2e4a4f0472f86a08ac4448f289449a3a"])
    ]
    object_key: Annotated[
        str | None, Field(examples=[f"{_PREFIX}00000001-00000042.manifest.5b1e0c6a3f9d4e27.json"])
    ]
    verified_at: datetime | None


class Pagination(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=["12"])]


class Manifests(BaseModel):
    """Newest first."""

    data: list[Manifest]
    pagination: Pagination


class Page(BaseModel):
    """The query of a list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100, description="How many ranges a page holds.")] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^[1-9][0-9]{0,15}$",
            description="`next_cursor` of the page before.",
            examples=["12"],
        ),
    ] = None
