"""The wire shapes of drafts."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from functions.invoices.models import DOCUMENT, Pagination, Preview
from shared.fiscal.document import Document
from shared.ids import pattern

Purpose = Literal["invoice", "proforma", "training"]
Status = Literal["draft", "validation_failed", "sealed", "cancelled"]
DraftId = Annotated[
    str,
    Path(
        pattern=pattern("drf"),
        description="The draft.",
        examples=["drf_01kaj3vq1nfr5r3e2n9v4d8yzx"],
    ),
]


class DraftRequest(BaseModel):
    """A document to keep, and what for."""

    model_config = ConfigDict(extra="forbid")

    purpose: Annotated[
        Purpose,
        Field(description="`proforma` and `training` are never sealed.", examples=["invoice"]),
    ] = "invoice"
    document: Document


class DraftReplacement(BaseModel):
    """What to put in a draft's place."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[
        int, Field(ge=1, le=2**31 - 1, description="The one you read.", examples=[1])
    ]
    document: Document


class Draft(BaseModel):
    """A document without a number. `preview` is what it comes to, and what would be sealed."""

    id: Annotated[str, Field(examples=["drf_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    object: Literal["draft"]
    purpose: Annotated[Purpose, Field(examples=["invoice"])]
    status: Annotated[Status, Field(examples=["draft"])]
    version: Annotated[int, Field(examples=[1])]
    outlet_id: Annotated[str, Field(examples=["out_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    document: Annotated[dict[str, Any], Field(examples=[DOCUMENT])]
    preview: Preview
    error: Annotated[dict[str, Any] | None, Field(examples=[None])]
    invoice_id: Annotated[str | None, Field(examples=[None])]
    is_stale: Annotated[bool, Field(examples=[False])]
    environment: Annotated[Literal["sandbox", "production"], Field(examples=["sandbox"])]
    created_by: Annotated[str, Field(examples=["key_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    created_at: datetime
    updated_at: datetime


class DraftPage(BaseModel):
    """Drafts, newest first."""

    data: list[Draft]
    pagination: Pagination


class DraftFilters(BaseModel):
    """Which drafts, and from where on."""

    model_config = ConfigDict(extra="forbid")

    outlet_id: Annotated[
        str | None,
        Field(
            max_length=64,
            description="Only this outlet's.",
            examples=["out_01kaj3vq1nfr5r3e2n9v4d8yzx"],
        ),
    ] = None
    status: Annotated[
        Status | None, Field(description="Only drafts in this state.", examples=["draft"])
    ] = None
    purpose: Annotated[
        Purpose | None, Field(description="Only drafts for this.", examples=["proforma"])
    ] = None
    is_stale: Annotated[
        bool | None,
        Field(description="Only what is open and untouched for 72 hours, or the rest."),
    ] = None
    limit: Annotated[
        int, Field(ge=1, le=100, description="How many drafts a page holds.", examples=[20])
    ] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=pattern("drf"),
            description="`next_cursor` of the page before.",
            examples=["drf_01kaj3vq1nfr5r3e2n9v4d8yzx"],
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """What fiscal.list_drafts takes."""
        filters = self.model_dump(mode="json", exclude_none=True, exclude={"limit", "cursor"})
        return {"filters": filters, "page_size": self.limit, "page_after": self.cursor}
