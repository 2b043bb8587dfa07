"""The wire shapes of keys and of what waits for them; for operators."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

_REASON = "yearly rotation brought forward: the HSM moves to another region"
Reason = Annotated[
    str,
    StringConstraints(min_length=1, max_length=500, strip_whitespace=True),
    Field(description="Why; kept in the audit trail.", examples=[_REASON]),
]


class Because(BaseModel):
    """What an operator decides, and why."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason


class Again(BaseModel):
    """Which entries to sign again; all of them when `fiscal_numbers` is null."""

    model_config = ConfigDict(extra="forbid")

    fiscal_numbers: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=64)]] | None,
        Field(min_length=1, max_length=1000, examples=[["STL-KIN001-000001"]]),
    ] = None


class Requeued(BaseModel):
    """How many entries are tried again."""

    requeued: Annotated[int, Field(examples=[3])]


class Rotated(BaseModel):
    """How many keys gave way to another one."""

    rotated: Annotated[int, Field(examples=[1])]


class SigningKey(BaseModel):
    """A key: `active` signs what is sealed now, `retired` only what was sealed under it."""

    id: Annotated[str, Field(examples=["cd-es256-2026-01"])]
    object: Literal["signing_key"]
    jurisdiction: Annotated[str, Field(examples=["CD"])]
    environment: Literal["sandbox", "production"]
    provider: Literal["local", "alibaba_kms"]
    alg: Annotated[Literal["ES256", "PS256", "RS256"], Field(examples=["ES256"])]
    status: Annotated[Literal["active", "retired", "revoked"], Field(examples=["active"])]
    valid_from: datetime
    valid_until: Annotated[datetime | None, Field(examples=[None])]
    revoked_at: Annotated[datetime | None, Field(examples=[None])]
