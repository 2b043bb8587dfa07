"""The wire shapes of /invoices. What is posted is shared/fiscal/document.py's Document."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from shared.fiscal.printing.press import Format
from shared.http.instants import Instant
from shared.ids import pattern

Language = Literal["fr", "en", "sw"]

InvoiceId = Annotated[
    str,
    Path(
        pattern=pattern("inv"),
        description="The invoice.",
        examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"],
    ),
]
DOCUMENT: dict[str, Any] = {
    "cashier_id": "cashier-13",
    "client": {"classification": "company", "name": "Acme Ltd", "tin": "123456789"},
    "invoice_type": "sale",
    "items": [
        {
            "code": "CONS-001",
            "description": "Consulting hours",
            "kind": "service",
            "line_base": "1000.00",
            "line_no": 1,
            "line_total": "1160.00",
            "quantity": "2",
            "tax_amount": "160.00",
            "tax_group": "TG03",
            "tax_rate": "0.16",
            "unit": "hour",
            "unit_price": "500.00",
        }
    ],
    "jurisdiction": "CD",
    "merchant_tin": "308123456",
    "outlet_id": "out_01kaj3vq1nfr5r3e2n9v4d8yzx",
    "payments": [
        {
            "amount": "1160.00",
            "currency": "CDF",
            "method": "mobile_money",
            "provider": "airtel_money",
        }
    ],
    "pos_terminal_id": "sdk-js-01",
    "price_mode": "exclusive",
    "schema_version": "1.0",
    "tax_group_manifest_version": "CD-2026-01",
    "tax_groups": [
        {"base_amount": "1000.00", "code": "TG03", "rate": "0.16", "tax_amount": "160.00"}
    ],
    "tax_rounding_adjustment": "0.00",
    "timestamp": "2026-11-21T07:59:58Z",
    "totals": {
        "currency": "CDF",
        "subtotal": "1000.00",
        "total": "1160.00",
        "total_tax": "160.00",
    },
}
_SUMMARY = [{"code": "TG03", "rate": "0.16", "base_amount": "1000.00", "tax_amount": "160.00"}]
Hash = Annotated[
    str, Field(examples=["f2601c7880357f90366a0c0cb38273ae2e4a4f0472f86a08ac4448f289449a3a"])
]
Canonical = Annotated[dict[str, Any], Field(examples=[DOCUMENT])]
Summary = Annotated[list[dict[str, str]], Field(examples=[_SUMMARY])]


class Sealed(BaseModel):
    """The security elements, together or not at all."""

    fiscal_authority_id: Annotated[str, Field(examples=["stalela-cd-01"])]
    sealed_at: Annotated[str, Field(examples=["2026-11-21T08:00:00Z"])]
    auth_code: Annotated[str, Field(examples=["K56Y-BV6M-60QQ-5NM4"])]
    signature: Annotated[
        str,
        Field(
            examples=[
                (
                    "iDu6ayrlq8NSybWEUPDVXudNMolbJpW2sCSn3sOBr55"
                    "wr0pV6B_hwOyFZVM5bgTvwomAfnXFitB5HuinAzjn4Q"
                )
            ]
        ),
    ]
    signature_alg: Annotated[Literal["ES256", "PS256", "RS256"], Field(examples=["ES256"])]
    key_id: Annotated[str, Field(examples=["cd-es256-2026-01"])]
    canonical_payload_hash: Hash
    previous_hash: Hash
    ledger_hash: Hash


class AuthorityElements(BaseModel):
    """What the tax authority issued. Its QR, where there is one, is the one that is printed."""

    code: Annotated[str, Field(examples=["X537-E4DB-AJUU-HHXN-FWIS-FEKJ"])]
    qr: Annotated[
        str | None,
        Field(examples=["RDCDEF01;CD01000042;X537E4DBAJUUHHXNFWISFEKJ;A0712345B;20260217050002"]),
    ]
    number: Annotated[str | None, Field(examples=[None])]
    time: Annotated[str | None, Field(examples=["2026-11-21T08:00:00Z"])]
    counters: Annotated[
        dict[str, Any], Field(examples=[{"counters": "64/64 FV", "nim": "CD01000042"}])
    ]


class Invoice(BaseModel):
    """A document. `sealed` is null until it is signed: before that it is no receipt."""

    id: Annotated[str, Field(examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    object: Literal["invoice"]
    status: Annotated[
        Literal["pending_signature", "signing_error", "fiscalized"], Field(examples=["fiscalized"])
    ]
    fiscal_number: Annotated[str, Field(examples=["STL-KIN001-000001"])]
    sequence: Annotated[int, Field(examples=[1])]
    sealed: Sealed | None
    document: Canonical
    tax_summary: Summary
    credited_amount: Annotated[str, Field(examples=["0.00"])]
    original_invoice: Annotated[str | None, Field(examples=[None])]
    authority_sync_status: Annotated[
        Literal["PENDING", "SUBMITTED", "RETRY", "SYNCED", "FAILED", "REJECTED", "NOT_APPLICABLE"],
        Field(examples=["SYNCED"]),
    ]
    authority: AuthorityElements | None
    environment: Annotated[Literal["sandbox", "production"], Field(examples=["sandbox"])]
    created_at: datetime


class Pagination(BaseModel):
    """How to get the next page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"])]


class InvoicePage(BaseModel):
    """Documents, newest first."""

    data: list[Invoice]
    pagination: Pagination


class InvoiceFilters(BaseModel):
    """Which documents, and from where on."""

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
        Literal["pending_signature", "signing_error", "fiscalized"] | None,
        Field(description="Only documents in this state.", examples=["fiscalized"]),
    ] = None
    invoice_type: Annotated[
        str | None,
        Field(max_length=50, description="Only documents of this type.", examples=["sale"]),
    ] = None
    fiscal_number: Annotated[
        str | None,
        Field(max_length=64, description="The document's number.", examples=["STL-KIN001-000001"]),
    ] = None
    original_invoice: Annotated[
        str | None,
        Field(
            max_length=64,
            description="Only what refers to this document: its credit and debit notes.",
            examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"],
        ),
    ] = None
    created_after: Annotated[
        Instant | None,
        Field(description="Sealed at this instant or later.", examples=["2026-11-21T00:00:00Z"]),
    ] = None
    created_before: Annotated[
        Instant | None,
        Field(description="Sealed before this instant.", examples=["2026-11-22T00:00:00Z"]),
    ] = None
    limit: Annotated[
        int, Field(ge=1, le=100, description="How many documents a page holds.", examples=[20])
    ] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=pattern("inv"),
            description="`next_cursor` of the page before.",
            examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"],
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """What fiscal.list_invoices takes."""
        filters = self.model_dump(mode="json", exclude_none=True, exclude={"limit", "cursor"})
        return {"filters": filters, "page_size": self.limit, "page_after": self.cursor}


class Preview(BaseModel):
    """What a document comes to."""

    document: Canonical
    tax_summary: Summary


class Signed(BaseModel):
    """How many waiting documents got their signature."""

    signed: Annotated[int, Field(examples=[3])]


class Issued(BaseModel):
    """How many orders of paid payments were worked on."""

    orders: Annotated[int, Field(examples=[2])]


class PrintRequest(BaseModel):
    """What a document is printed on, and in which language."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[
        Format,
        Field(description="As in `GET …/receipt`.", examples=["text80"]),
    ]
    lang: Annotated[
        Language | None,
        Field(description="By default the usual language of the country.", examples=["fr"]),
    ] = None


class Print(BaseModel):
    """One time a document was handed out. copy_no 0 is the original."""

    id: Annotated[str, Field(examples=["prt_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    object: Literal["print"]
    invoice_id: Annotated[str, Field(examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    copy_no: Annotated[int, Field(examples=[0])]
    format: Annotated[Format, Field(examples=["text80"])]
    language: Annotated[Language | None, Field(examples=["fr"])]
    printed_by: Annotated[str, Field(examples=["key_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    created_at: datetime


class Prints(BaseModel):
    """The original, then its copies."""

    data: list[Print]
