"""The wire shapes of /verify: what the holder of the paper may know, and nothing else of it."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from functions.verify.judging import SyncStatus, Verdict

NUMBER = "STL-KIN001-000001"
CODE = "K56Y-BV6M-60QQ-5NM4"
QR = (
    "https://verify.example/i?fn=STL-KIN001-000001&ac=K56YBV6M60QQ5NM4"
    "&ts=2026-11-21T08%3A00%3A00Z&fa=stalela-cd-01"
)
FiscalNumber = Annotated[str, Field(examples=[NUMBER])]
_KEY = "cd-es256-2026-01"
_SPKI = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEupPT+EPUZbB0q1RUoLtm2hfOMwDjB36HYEsB88BCwpzIEswfWSiJEnxH"
    "RiUx4u0JzavYlx9HIQ78rR+sxB7LgQ=="
)
_JWK = {
    "kid": _KEY,
    "use": "sig",
    "alg": "ES256",
    "kty": "EC",
    "crv": "P-256",
    "x": "upPT-EPUZbB0q1RUoLtm2hfOMwDjB36HYEsB88BCwpw",
    "y": "yBLMH1koiRJ8R0YlMeLtCc2r2JcfRyEO_K0frMQey4E",
}


class Verification(BaseModel):
    """What is known about a document. Of one that was altered nothing is said but that it was."""

    object: Literal["verification"] = "verification"
    status: Annotated[
        Literal["verified", "revoked_key", "tampered"],
        Field(
            description="`revoked_key`: sealed after its key was revoked, which no seller of ours "
            "does. `tampered`: something does not fit.",
            examples=["verified"],
        ),
    ]
    fiscal_number: FiscalNumber
    environment: Annotated[
        Literal["sandbox", "production"],
        Field(description="`sandbox`: a test, of no worth.", examples=["production"]),
    ]
    signature_valid: bool
    ledger_chain_valid: bool
    fiscal_authority_id: Annotated[str | None, Field(examples=["stalela-cd-01"])] = None
    merchant_name: Annotated[str | None, Field(examples=["Acacia Books SARL"])] = None
    outlet_name: Annotated[str | None, Field(examples=["Gombe"])] = None
    sealed_at: Annotated[str | None, Field(examples=["2026-11-21T08:00:00Z"])] = None
    total: Annotated[str | None, Field(examples=["1160.00"])] = None
    currency: Annotated[str | None, Field(examples=["CDF"])] = None
    invoice_type: Annotated[str | None, Field(examples=["sale"])] = None
    credited: Annotated[
        Literal["none", "partial", "full"] | None,
        Field(description="How much of it was credited since.", examples=["none"]),
    ] = None
    authority_sync_status: Annotated[
        SyncStatus | None,
        Field(
            description="Whether the tax authority has it: `SYNCED`. `NOT_APPLICABLE`: this outlet "
            "does not report documents one by one.",
            examples=["SYNCED"],
        ),
    ] = None
    authority_acknowledged_at: Annotated[
        str | None, Field(description="Since when it has.", examples=["2026-11-21T08:00:03Z"])
    ] = None
    problems: Annotated[
        list[str] | None,
        Field(description="What does not fit; for the document's own merchant.", examples=[None]),
    ] = None

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """What this caller may see of it. It must be one that is shown."""
        assert verdict.is_shown, "the rest is not found"
        facts = verdict.facts
        shown = cls(
            status=verdict.status,
            fiscal_number=facts.seal["fiscal_number"],
            environment=facts.environment,
            signature_valid=verdict.is_signature_valid,
            ledger_chain_valid=verdict.is_chain_valid,
            problems=list(verdict.problems) if facts.is_own else None,
        )
        if verdict.status == "tampered":
            return shown
        return shown.model_copy(
            update={
                "fiscal_authority_id": facts.seal["fiscal_authority_id"],
                "sealed_at": facts.seal["sealed_at"],
                "merchant_name": facts.merchant_name,
                "outlet_name": facts.outlet_name,
                "total": facts.total,
                "currency": facts.currency,
                "invoice_type": facts.invoice_type,
                "credited": facts.credited,
                "authority_sync_status": facts.authority_sync_status,
                "authority_acknowledged_at": facts.authority_acknowledged_at,
            }
        )


class Lookup(BaseModel):
    """What a QR says."""

    model_config = ConfigDict(extra="forbid", strict=True)

    qr_data: Annotated[
        str,
        Field(max_length=2000, description="The text of the document's QR code.", examples=[QR]),
    ]


class Asked(BaseModel):
    """A document and the code that stands on it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    fiscal_number: Annotated[str, Field(max_length=64, examples=[NUMBER])]
    auth_code: Annotated[str, Field(max_length=400, examples=[CODE])]


class Batch(BaseModel):
    """Documents to verify at once."""

    model_config = ConfigDict(extra="forbid", strict=True)

    invoices: Annotated[
        list[Asked],
        Field(
            min_length=1,
            max_length=100,
            examples=[[{"fiscal_number": NUMBER, "auth_code": CODE}]],
        ),
    ]


class NotFound(BaseModel):
    """There is no such document, or it has another code."""

    object: Literal["verification"] = "verification"
    status: Literal["not_found"] = "not_found"
    fiscal_number: FiscalNumber


class Verified(BaseModel):
    """An answer for each, in the order asked."""

    data: list[Verification | NotFound]


class PublicHalf(BaseModel):
    """A public key, twice."""

    spki: Annotated[
        str,
        Field(description="Base64 of the SubjectPublicKeyInfo in DER.", examples=[_SPKI]),
    ]
    jwk: Annotated[dict[str, str], Field(description="The same as a JWK.", examples=[_JWK])]


class Key(BaseModel):
    """A key that signs, or signed, documents of a country."""

    key_id: Annotated[str, Field(examples=[_KEY])]
    jurisdiction: Annotated[str, Field(examples=["CD"])]
    environment: Annotated[Literal["sandbox", "production"], Field(examples=["production"])]
    alg: Annotated[Literal["ES256", "PS256", "RS256"], Field(examples=["ES256"])]
    public_key: PublicHalf
    valid_from: datetime
    valid_until: datetime | None
    status: Annotated[Literal["active", "retired", "revoked"], Field(examples=["active"])]
    revoked_at: Annotated[
        datetime | None, Field(description="What it sealed after this instant is void.")
    ]


class Keys(BaseModel):
    """Every key that ever signed, oldest first."""

    keys: list[Key]


class KeySet(BaseModel):
    """A JWK Set (RFC 7517)."""

    keys: Annotated[list[dict[str, Any]], Field(examples=[[_JWK]])]
