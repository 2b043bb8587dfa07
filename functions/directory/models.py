"""The wire shapes of /directory."""

from datetime import date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

from shared.http.instants import Instant
from shared.http.texts import Storable

_TRANSFER_ID = "tr_01kaj3vq1nfr5r3e2n9v4d8yzx"
_CANDIDATE: Final[dict[str, Any]] = {
    "rail": "mpesa",
    "cost_minor": 138,
    "latency_ms": 20000,
    "failure_bps": 1500,
    "health": "healthy",
    "priority": 10,
    "score": "1.000000",
}


Dimension = Literal["cost", "speed", "reliability"]
RailName = Annotated[str, StringConstraints(min_length=1, max_length=32), Storable]
AliasType = Annotated[
    str, StringConstraints(min_length=1, max_length=20), Storable, Field(examples=["msisdn"])
]
Alias = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64),
    Storable,
    Field(examples=["+254712345678"]),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Forgotten(BaseModel):
    """How many lookups this instance had remembered."""

    forgotten: Annotated[int, Field(examples=[12])]


class Fee(BaseModel):
    """What the rail takes of a payment, about."""

    direction: Annotated[Literal["in", "out"], Field(examples=["in"])]
    currency: Annotated[str, Field(examples=["KES"])]
    percent: Annotated[str, Field(examples=["0.55"])]
    fixed: Annotated[str, Field(examples=["0.00"])]


class Constraints(BaseModel):
    """What the rail takes at all."""

    currencies: Annotated[list[str], Field(examples=[["KES"]])]
    intents: Annotated[list[str], Field(examples=[["PUSH", "PULL"]])]
    min: Annotated[str, Field(examples=["1.00"])]
    max: Annotated[str, Field(examples=["250000.00"])]


class Reach(BaseModel):
    """One way to reach an alias; without a rail it is known and we do not reach it."""

    rail: Annotated[str | None, Field(examples=["mpesa"])]
    institution_id: Annotated[str, Field(examples=["safaricom_ke"])]
    institution: Annotated[str, Field(examples=["Safaricom M-PESA (Kenya)"])]
    country: Annotated[str, Field(examples=["KE"])]
    matched: Annotated[str, Field(examples=["+254712"])]
    constraints: Constraints | None
    fees: list[Fee]
    opens_at: datetime | None
    version: Annotated[int, Field(examples=[0])]


class Lookup(BaseModel):
    """Who an alias belongs to. An operator is told by its prefix; a number may have moved."""

    object: Literal["lookup"] = "lookup"
    alias_type: AliasType
    version: Annotated[int, Field(examples=[0])]
    data: list[Reach]


class Policy(_Body):
    """What the rail is chosen by. `optimize_for` weighs most, then `fallbacks`, then the rest."""

    optimize_for: Annotated[Dimension, Field(examples=["reliability"])]
    fallbacks: Annotated[list[Dimension], Field(max_length=2)] = []
    preferred_methods: Annotated[list[RailName], Field(max_length=5)] = []
    excluded_rails: Annotated[list[RailName], Field(max_length=20)] = []


class RankRoutes(_Body):
    """A transfer that might be. PULL asks a payer, PUSH pays out."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "intent": "PULL",
                    "amount": "250.00",
                    "currency": "KES",
                    "alias_type": "msisdn",
                    "alias": "+254712345678",
                    "policy": {"optimize_for": "cost", "fallbacks": ["reliability"]},
                }
            ]
        },
    )

    intent: Literal["PULL", "PUSH"]
    amount: Annotated[str, StringConstraints(max_length=32)]
    currency: Annotated[str, StringConstraints(max_length=8), Storable]
    rail_hints: Annotated[list[RailName], Field(max_length=3)] = []
    alias_type: AliasType | None = None
    alias: Alias | None = None
    policy: Policy | None = None


class Candidate(BaseModel):
    """A rail with its facts; `excluded` names the rule that it broke."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CANDIDATE]})

    rail: str
    cost_minor: int
    latency_ms: int
    failure_bps: int
    health: Literal["healthy", "deprioritised", "blocked"]
    priority: int
    score: str | None = None
    excluded: str | None = None


class Ranked(BaseModel):
    """Which rail a transfer would take now. Candidates in order, the excluded ones last."""

    object: Literal["route"]
    rail: Annotated[str, Field(examples=["mpesa"])]
    score: Annotated[str | None, Field(examples=["1.000000"])]
    reason: Annotated[str, Field(examples=["only_candidate"])]
    candidates: list[Candidate]
    directory_version: Annotated[int, Field(examples=[0])]


class Route(BaseModel):
    """Why a transfer took its rail. Whoever names a rail gives the only reason there is."""

    transfer_id: Annotated[str, Field(examples=[_TRANSFER_ID])]
    object: Literal["route"]
    rail: Annotated[str, Field(examples=["mpesa"])]
    score: Annotated[str | None, Field(examples=["1.000000"])]
    reason: Annotated[str, Field(examples=["best_score"])]
    fallback_used: Annotated[bool, Field(examples=[False])]
    policy: Annotated[dict[str, Any] | None, Field(examples=[{"optimize_for": "cost"}])]
    candidates: list[Candidate]
    directory_version: Annotated[int | None, Field(examples=[0])]
    created_at: datetime


class Institution(BaseModel):
    """An operator, bank, scheme or chain, and the rails that reach it."""

    id: Annotated[str, Field(examples=["safaricom_ke"])]
    object: Literal["institution"]
    name: Annotated[str, Field(examples=["Safaricom M-PESA (Kenya)"])]
    country: Annotated[str, Field(examples=["KE"])]
    kind: Annotated[str, Field(examples=["mobile_money"])]
    status: Annotated[str, Field(examples=["active"])]
    rails: Annotated[list[str], Field(examples=[["mpesa"]])]


class Holiday(BaseModel):
    """A day on which banks are closed."""

    day: Annotated[date, Field(examples=["2026-12-12"])]
    description: Annotated[str, Field(examples=["Jamhuri Day"])]


class Calendar(BaseModel):
    """The public holidays of a country."""

    calendar: Annotated[str, Field(examples=["KE"])]
    data: list[Holiday]


class Entry(_Body):
    """An alias (of prefixes a part of it), whom it belongs to, and the rail that reaches it."""

    alias_type: AliasType
    alias: Alias
    institution_id: Annotated[str, StringConstraints(min_length=2, max_length=40), Storable]
    rail: RailName | None = None


class Publish(_Body):
    """Entries that hold from `effective_from` (now by default); earlier ones end there."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "source": "Numbering plan of the Communications Authority, edition 14",
                    "entries": [
                        {
                            "alias_type": "msisdn",
                            "alias": "+254117",
                            "institution_id": "safaricom_ke",
                            "rail": "mpesa",
                        }
                    ],
                }
            ]
        },
    )

    source: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=3, max_length=200), Storable
    ]
    effective_from: Instant | None = None
    entries: Annotated[list[Entry], Field(min_length=1, max_length=500)]


class Published(BaseModel):
    """A new version of the directory."""

    version: Annotated[int, Field(examples=[1])]
    object: Literal["directory_version"]
    source: Annotated[str, Field(examples=["Numbering plan, edition 14"])]
    sha256: Annotated[str, Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])]
    entries: Annotated[int, Field(examples=[1])]
    effective_from: datetime
