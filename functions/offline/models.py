"""The wire shapes of /offline."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from shared.fiscal.document import Document, Instant
from shared.signing.verification import is_p256

CREDENTIAL: str = "crd_01kaj3vq1nfr5r3e2n9v4d8yzx"
OUTLET: str = "out_01kaj3vq1nfr5r3e2n9v4d8yzx"
HASH: str = "f2601c7880357f90366a0c0cb38273ae2e4a4f0472f86a08ac4448f289449a3a"
PUBLIC_KEY: str = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiY"
    "wpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q=="
)
SIGNATURE: str = (
    "iDu6ayrlq8NSybWEUPDVXudNMolbJpW2sCSn3sOBr55wr0pV6B_hwOyFZVM5bgTvwomAfnXFitB5HuinAzjn4Q"
)
Type = Literal["sale", "advance", "export", "export_advance"]
Label = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$", examples=["pos-02"])]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", examples=[HASH])]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Policy(_Body):
    """What a terminal may seal offline."""

    types: Annotated[list[Type], Field(min_length=1, max_length=4, examples=[["sale"]])] = ["sale"]
    max_total: Annotated[
        str | None, Field(max_length=30, description="Of one document.", examples=["500000.00"])
    ] = None
    currency: Annotated[str | None, Field(pattern=r"^[A-Z]{3}$", examples=["CDF"])] = None


class BlockOrder(_Body):
    """Numbers for a terminal that will sell without a connection.

    `public_key`: the terminal's own P-256 key, base64 of its SubjectPublicKeyInfo.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "outlet_id": OUTLET,
                    "pos_terminal_id": "pos-02",
                    "public_key": PUBLIC_KEY,
                    "size": 100,
                }
            ]
        }
    )

    outlet_id: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$", examples=[OUTLET])]
    pos_terminal_id: Label
    cashier_id: Label | None = None
    public_key: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9+/]{40,180}={0,2}$", examples=[PUBLIC_KEY])
    ]
    size: Annotated[int, Field(ge=1, le=500, examples=[100])]
    policy: Policy = Policy()

    @field_validator("public_key")
    @classmethod
    def _is_a_key(cls, value: str) -> str:
        if not is_p256(value):
            raise ValueError("must be base64 of the DER of a P-256 public key")
        return value


class LocalSeal(_Body):
    """A document as a terminal sealed it: what it priced, what it signed, where in its own chain.

    The signature is over SHA-256 of the canonical seal object, whose `key_id` is the credential's
    id and whose `previous_hash` is `local_previous_hash`.
    """

    document: Document
    sequence: Annotated[int, Field(ge=1, le=2**53 - 1, examples=[1001])]
    sealed_at: Annotated[Instant, Field(examples=["2026-11-21T08:00:00Z"])]
    canonical_payload_hash: Hash
    local_previous_hash: Hash
    signature: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_-]{86}$", examples=[SIGNATURE], max_length=86)
    ]


class Because(_Body):
    """Why, for the record."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "The till was stolen"}]})

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=300)]


class Signed(BaseModel):
    """The credential's words and our signature: of SHA-256 of {key_id, statement, v: 1}."""

    statement: Annotated[
        dict[str, Any],
        Field(examples=[{"block_start": 1000, "block_end": 1099, "kind": "credential"}]),
    ]
    key_id: Annotated[str | None, Field(examples=["cd-es256-2026-01"])]
    signature_alg: Annotated[Literal["ES256", "PS256", "RS256"] | None, Field(examples=["ES256"])]
    signature: Annotated[str | None, Field(examples=[SIGNATURE])]
    signed_at: datetime | None


class Block(BaseModel):
    """A terminal's credential. It may sell when the signature is there and while `active`."""

    id: Annotated[str, Field(examples=[CREDENTIAL])]
    object: Literal["delegated_credential"]
    outlet_id: Annotated[str, Field(examples=[OUTLET])]
    status: Annotated[Literal["active", "ended", "revoked", "closed"], Field(examples=["active"])]
    credential: Signed
    missing: Annotated[list[int], Field(examples=[[1000, 1001]])]
    revoked_at: datetime | None
    environment: Literal["sandbox", "production"]
    created_at: datetime


class Revocation(BaseModel):
    """A credential that seals nothing any more."""

    credential_id: Annotated[str, Field(examples=[CREDENTIAL])]
    revoked_at: datetime


class Revocations(BaseModel):
    """Every credential that was revoked; terminals read it at every contact."""

    data: list[Revocation]


class Reconciled(BaseModel):
    """The document as the chain has it: our entry and signature beside the terminal's."""

    id: Annotated[str, Field(examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    object: Literal["invoice"]
    status: Annotated[str, Field(examples=["pending_signature"])]
    fiscal_number: Annotated[str, Field(examples=["STL-KIN001-001001"])]
    sequence: Annotated[int, Field(examples=[1001])]
