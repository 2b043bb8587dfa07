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

    outlet_id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$", examples=[OUTLET])]
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
            "local_seal",
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


class _Page(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: Annotated[
        int, Field(ge=1, le=100, description="How many rows a page holds.", examples=[20])
    ] = 20
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^(walk|anc|cft)_[0-9a-z]{26}$",
            description="`next_cursor` of the page before.",
            examples=[WALK],
        ),
    ] = None

    def arguments(self) -> dict[str, Any]:
        """What the SQL function of the list takes."""
        filters = self.model_dump(exclude={"limit", "cursor"})
        return filters | {"page_size": self.limit, "page_after": self.cursor}


class WalkFilters(_Page):
    """Which walks, and from where on."""

    outlet_id: Annotated[
        str | None,
        Field(max_length=64, description="Only this outlet's.", examples=[OUTLET]),
    ] = None


class ConflictFilters(WalkFilters):
    """Which conflicts, and from where on."""


class AnchorFilters(_Page):
    """Which anchors, and from where on."""

    environment: Annotated[
        Literal["sandbox", "production"], Field(description="Of which documents.")
    ] = "production"
    jurisdiction: Annotated[
        str | None, Field(pattern=r"^[A-Z]{2}$", description="Of which country.", examples=["CD"])
    ] = None


class AnchorStatement(BaseModel):
    """What is signed: one root over the heads of `size` chains, and the root before it."""

    anchor_id: Annotated[str, Field(examples=["anc_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    anchored_on: Annotated[str, Field(examples=["2026-11-22"])]
    environment: Literal["sandbox", "production"]
    jurisdiction: Annotated[str, Field(examples=["CD"])]
    kind: Literal["anchor"]
    previous_root: Hash
    root: Hash
    size: Annotated[int, Field(examples=[120])]


class Anchor(BaseModel):
    """A statement and its signature: over SHA-256 of canonical {key_id, statement, v: 1}."""

    statement: AnchorStatement
    key_id: Annotated[str | None, Field(examples=["cd-es256-2026-01"])]
    signature_alg: Annotated[Literal["ES256", "PS256", "RS256"] | None, Field(examples=["ES256"])]
    signature: Annotated[str | None, Field(examples=["iDu6ayrlq8NSybWEUPDVXudNMolbJpW2sCSn3sOB"])]
    signed_at: datetime | None


class AnchorPage(BaseModel):
    """Anchors, newest first."""

    data: list[Anchor]
    pagination: Pagination


class ProvedEntry(BaseModel):
    """The entry of the document. Its hash is SHA-256 of the four texts joined by line feeds."""

    fiscal_number: Annotated[str, Field(examples=["STL-KIN001-000017"])]
    entry_no: Annotated[int, Field(examples=[17])]
    canonical_payload_hash: Hash
    sealed_at: Annotated[str, Field(examples=["2026-11-21T08:00:00Z"])]
    previous_hash: Hash
    entry_hash: Hash


class Head(BaseModel):
    """A leaf of the anchor, as canonical JSON: a chain's head and the tree of its day's entries."""

    entries_root: Hash
    entry_hash: Hash
    entry_no: Annotated[int, Field(examples=[42])]
    from_entry: Annotated[int, Field(examples=[10])]
    outlet_id: Annotated[str, Field(examples=[OUTLET])]


Way = Annotated[
    list[str], Field(description="Nodes beside the way up, lowest first.", examples=[[HASH]])
]


class Proof(BaseModel):
    """From a document to a published root (RFC 6962), for whoever trusts nobody's database."""

    object: Literal["inclusion_proof"]
    entry: ProvedEntry
    entry_path: Way
    head: Head
    head_no: Annotated[int, Field(examples=[3])]
    head_path: Way
    anchor: Anchor


class Conflict(BaseModel):
    """A document that came second with its number; it is not in the chain."""

    id: Annotated[str, Field(examples=["cft_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    object: Literal["fiscal_conflict"]
    outlet_id: Annotated[str, Field(examples=[OUTLET])]
    fiscal_number: Annotated[str, Field(examples=["STL-KIN001-000017"])]
    kept_hash: Hash
    other_hash: Hash
    document: Annotated[dict[str, Any], Field(examples=[{"invoice_type": "sale"}])]
    reason: Annotated[str, Field(examples=["another document has this number"])]
    received_from: Annotated[str, Field(examples=["crd_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    environment: Literal["sandbox", "production"]
    created_at: datetime


class ConflictPage(BaseModel):
    """Conflicts, newest first."""

    data: list[Conflict]
    pagination: Pagination
