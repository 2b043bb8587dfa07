"""The wire shapes of /compliance. Decisions are `clear`, `hold` and `deny`.

(The reference's ALLOW, REVIEW and DENY; `hold` waits for a person.)
"""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
)

from shared.http.instants import Day
from shared.http.texts import Storable
from shared.ids import pattern

Decision = Literal["clear", "hold", "deny"]
Environment = Literal["sandbox", "production"]
Direction = Literal["in", "out"]

_PARTY_ID = "pty_01kaj3v7wvf4fr8mnp5sye2s6k"
_TRANSFER_ID = "tr_01kaj3vq1nfr5r3e2n9v4d8yzx"
_TENANT_ID = "tn_01kaj3v7wvf4fr8mnp5sye2s6k"

XML_BODY: Final[dict[str, Any]] = {
    "description": "The file as its authority publishes it: OFAC SDN.XML, UN consolidated.xml, "
    "EU FSF 1.1.",
    "required": True,
    "content": {
        "application/xml": {
            "schema": {"type": "string"},
            "example": "<sdnList><sdnEntry><uid>90001</uid><lastName>ORLOVSKI</lastName>"
            "<sdnType>Individual</sdnType></sdnEntry></sdnList>",
        }
    },
}


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
    Storable,
    Field(examples=["Wanjiru Kamau"]),
]
Reason = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=3, max_length=500),
    Storable,
]
Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$", examples=["KE"])]
Document = Annotated[str, StringConstraints(min_length=3, max_length=64), Storable]
Birth = Annotated[Day, Field(examples=["1990-05-17"])]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ScreenedParty(_Body):
    """Somebody to compare with the lists; the more is known, the fewer are mistaken for others."""

    role: Annotated[Literal["payer", "payee", "owner", "other"], Field(examples=["payee"])]
    name: Name
    date_of_birth: Birth | None = None
    country: Country | None = None
    document: Annotated[Document | None, Field(examples=["A1234567"])] = None


class Screen(_Body):
    """Whom to screen, for which organisation and, when there is one, for which transfer."""

    tenant_id: Annotated[str, Field(pattern=pattern("tn"), examples=[_TENANT_ID])]
    environment: Annotated[Environment, Field(examples=["sandbox"])]
    transfer_id: Annotated[str, Field(pattern=pattern("tr"), examples=[_TRANSFER_ID])] | None = None
    parties: Annotated[list[ScreenedParty], Field(min_length=1, max_length=10)]


class Match(BaseModel):
    """An entry of a list, and what speaks for and against it being this party."""

    source: Annotated[str, Field(examples=["ofac"])]
    ref: Annotated[str, Field(examples=["90001"])]
    name: Annotated[str, Field(examples=["Anton ORLOVSKI"])]
    score: Annotated[int, Field(ge=0, le=100, examples=[88])]
    reasons: Annotated[list[str], Field(examples=[["name", "born -20"]])]


class PartyResult(BaseModel):
    """What the lists say of one party."""

    screening_id: Annotated[str, Field(examples=["scr_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    role: Annotated[str, Field(examples=["payee"])]
    decision: Decision
    score: Annotated[int, Field(examples=[0])]
    matches: Annotated[list[Match], Field(examples=[[]])]


class Screened(BaseModel):
    """The worst of the parties decides: all must be clear."""

    object: Literal["screening"]
    decision: Decision
    score: Annotated[int, Field(examples=[0])]
    list_version: Annotated[int, Field(examples=[3])]
    parties: list[PartyResult]


class RegisterParty(_Body):
    """Whom you pay or are paid by. Name and phone are stored sealed and shown masked."""

    name: Name
    phone: Annotated[str, Field(max_length=32, examples=["0712 345 678"])]
    date_of_birth: Birth | None = None
    country: Country | None = None
    document: Annotated[Document | None, Field(examples=["A1234567"])] = None
    reference: Annotated[str, StringConstraints(min_length=1, max_length=128), Storable] | None = (
        None
    )


class Party(BaseModel):
    """A party and what was decided about it. `matches` is for operators of the platform."""

    id: Annotated[str, Field(examples=[_PARTY_ID])]
    object: Literal["party"]
    reference: Annotated[str | None, Field(examples=["supplier-7"])]
    name: Annotated[str | None, Field(examples=["W*** K***"])]
    phone: Annotated[str | None, Field(examples=["+2547******78"])]
    payment_intent_id: Annotated[str | None, Field(examples=["pi_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    decision: Literal["clear", "hold", "deny", "pending"]
    score: Annotated[int | None, Field(examples=[0])]
    list_version: Annotated[int | None, Field(examples=[3])]
    screened_at: datetime | None
    matches: Annotated[list[Match] | None, Field(examples=[[]])]
    environment: Environment
    created_at: datetime


class ClearedEntry(_Body):
    """An entry that the party is not."""

    source: Annotated[str, StringConstraints(min_length=1, max_length=20), Storable]
    ref: Annotated[str, StringConstraints(min_length=1, max_length=64), Storable]


class ClearParty(_Body):
    """Why these matches are false. The party is screened again at once."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "entries": [{"source": "ofac", "ref": "90001"}],
                    "reason": "Identity card seen: born thirty years later",
                }
            ]
        },
    )

    entries: Annotated[list[ClearedEntry], Field(min_length=1, max_length=20)]
    reason: Reason


class TransferScreening(BaseModel):
    """One look at one party of a transfer."""

    party_id: Annotated[str | None, Field(examples=[_PARTY_ID])]
    role: Annotated[str, Field(examples=["party"])]
    decision: Decision
    score: Annotated[int, Field(examples=[0])]
    list_version: Annotated[int, Field(examples=[3])]
    screened_at: datetime
    matches: Annotated[list[Match] | None, Field(examples=[[]])]


class TransferScreenings(BaseModel):
    """On what a transfer was let through; empty when its organisation screens nobody."""

    transfer_id: Annotated[str, Field(examples=[_TRANSFER_ID])]
    data: list[TransferScreening]


class SanctionsList(BaseModel):
    """A list and its age. `stale`: nobody imported it for a day."""

    source: Annotated[str, Field(examples=["ofac"])]
    object: Literal["sanctions_list"]
    name: Annotated[str, Field(examples=["OFAC Specially Designated Nationals (SDN.XML)"])]
    required: bool
    version: Annotated[int | None, Field(examples=[3])]
    entries: Annotated[int | None, Field(examples=[17321])]
    checked_at: datetime | None
    stale: Annotated[bool, Field(examples=[False])]
    sha256: Annotated[str | None, Field(examples=["9f86d081884c7d659a2feaa0c55ad015"])]
    published_on: Annotated[str | None, Field(examples=["11/20/2026"])]


class SanctionsLists(BaseModel):
    """Every list we read."""

    data: list[SanctionsList]


class Imported(BaseModel):
    """What an import changed. The same file again changes nothing."""

    list: SanctionsList
    added: Annotated[int, Field(examples=[12])]
    changed: Annotated[int, Field(examples=[3])]
    removed: Annotated[int, Field(examples=[1])]


class Limit(BaseModel):
    """One limit of a tier, in US dollars or payments; `used_…` is what you have used of it."""

    limit: Annotated[str, Field(examples=["t1_tenant_day_value"])]
    subject: Annotated[Literal["transfer", "tenant", "party"], Field(examples=["tenant"])]
    direction: Annotated[Direction | None, Field(examples=[None])]
    rail: Annotated[str | None, Field(examples=[None])]
    corridor: Annotated[str | None, Field(examples=[None])]
    window_s: Annotated[int | None, Field(examples=[86400])]
    max_count: Annotated[int | None, Field(examples=[None])]
    max_usd: Annotated[str | None, Field(examples=["1000.00"])]
    used_count: Annotated[int | None, Field(examples=[14])]
    used_usd: Annotated[str | None, Field(examples=["212.40"])]


class Profile(BaseModel):
    """What an organisation may do, and in which directions its parties must be screened."""

    object: Literal["compliance_profile"]
    tenant_id: Annotated[str, Field(examples=[_TENANT_ID])]
    environment: Environment
    tier: Annotated[str, Field(examples=["T1"])]
    label: Annotated[str, Field(examples=["basic"])]
    directions: Annotated[list[Direction], Field(examples=[["in", "out"]])]
    corridors: Annotated[list[str], Field(examples=[["domestic", "regional"]])]
    screening: Annotated[list[Direction], Field(examples=[["out"]])]
    limits: list[Limit]


class SetProfile(_Body):
    """A tier, and whose parties are screened: `in` payers, `out` payees."""

    environment: Annotated[Environment, Field(examples=["production"])]
    tier: Annotated[str, Field(pattern=r"^T[0-9]$", examples=["T1"])]
    screening: Annotated[list[Direction], Field(max_length=2, examples=[["out"]])]
    reason: Annotated[Reason, Field(examples=["Registration and owners verified"])]


class FreezeParty(_Body):
    """Whom nobody may pay or be paid by; without `tenant_id` that holds for everybody."""

    environment: Annotated[Environment, Field(examples=["production"])]
    phone: Annotated[str, Field(max_length=32, examples=["0712 345 678"])]
    tenant_id: Annotated[str, Field(pattern=pattern("tn"), examples=[_TENANT_ID])] | None = None
    reason: Annotated[Reason, Field(examples=["Order of the High Court, case 214 of 2026"])]


class LiftFreeze(_Body):
    """Why it may be lifted. The second operator's own words are kept in the audit trail."""

    reason: Annotated[Reason, Field(examples=["The order was set aside"])]


class Freeze(BaseModel):
    """A freeze: one operator sets it, two lift it."""

    id: Annotated[str, Field(examples=["frz_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    object: Literal["freeze"]
    tenant_id: Annotated[str | None, Field(examples=[_TENANT_ID])]
    environment: Environment
    party: Annotated[str, Field(examples=["+2547******78"])]
    reason: Annotated[str, Field(examples=["Order of the High Court, case 214 of 2026"])]
    frozen_by: Annotated[str, Field(examples=["user:5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11"])]
    created_at: datetime
    status: Literal["frozen", "lift_requested", "lifted"]
    lift_requested_by: Annotated[str | None, Field(examples=[None])]
    lift_reason: Annotated[str | None, Field(examples=[None])]
    lifted_by: Annotated[str | None, Field(examples=[None])]
    lifted_at: Annotated[datetime | None, Field(examples=[None])]


class Freezes(BaseModel):
    """Newest first."""

    data: list[Freeze]


class Worked(BaseModel):
    """How many parties were compared with the lists in force."""

    screened: Annotated[int, Field(examples=[2])]
