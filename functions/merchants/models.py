"""The wire shapes of /merchants."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    RootModel,
    StringConstraints,
)

from shared.fiscal.text import Clean, Text200

Environment = Literal["sandbox", "production"]
KeyKind = Literal["secret", "publishable"]

# Roles and scopes are rows of SQL: it says which exist and who may give them.
AppRole = Annotated[str, Field(min_length=1, max_length=40, examples=["developer"])]
Scope = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Actor = Annotated[str, Field(examples=["user:5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11"])]
KeyName = Annotated[str, Field(examples=["Shop server"])]
Scopes = Annotated[list[Scope], Field(examples=[["payments:read", "payments:write"]])]

_INVITATION = "invite_N2qT7vJdX0mWbE5rYc8KfLh3uPz6SgAo9Di1Rk4Vt2w"
_REQUEST_ID = "req_01kaj3v7wvf4fr8mnp5sye2s6k"


def _ascii_address(text: str) -> str:
    # What Auth puts into a token, and so what an invitation is compared with, is ASCII.
    local, at, domain = text.rpartition("@")
    if not (local and at and domain and text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("is not an e-mail address")
    return text


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class SignUp(_Body):
    """An organisation. `country` is ISO 3166-1 alpha-2."""

    name: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=200),
        Field(examples=["Acacia Books"]),
    ]
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$", examples=["KE"])]


class SetStatus(_Body):
    """What an organisation becomes, and why. Pending ones work in the sandbox only."""

    status: Annotated[Literal["active", "suspended", "closed"], Field(examples=["active"])]
    reason: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=3, max_length=500),
        Field(examples=["Registration documents checked"]),
    ]


class Invite(_Body):
    """Who is to join, and as what."""

    email: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=3, max_length=254),
        AfterValidator(_ascii_address),
        Field(examples=["wanjiru@acacia.example"]),
    ]
    app_role: AppRole


class AcceptInvitation(_Body):
    """The token of an invitation."""

    token: Annotated[str, Field(min_length=16, max_length=128, examples=[_INVITATION])]


class ChangeRole(_Body):
    """The role a member gets."""

    app_role: AppRole


class CreateApiKey(_Body):
    """A key. `expires_in` is seconds, one minute to ten years; without it the key does not expire.

    `environment` is where a person works when absent, and sandbox for a key that makes a key. A
    publishable key without scopes gets the one such a key is for.
    """

    name: Annotated[
        str,
        StringConstraints(strip_whitespace=True, min_length=1, max_length=100),
        Field(examples=["Shop server"]),
    ]
    kind: KeyKind = "secret"
    scopes: Annotated[Scopes, Field(max_length=50)] = []
    environment: Environment | None = None
    expires_in: Annotated[int, Field(ge=60, le=315_360_000)] | None = None


class RotateApiKey(_Body):
    """How long the former key keeps working: seconds, at most seven days."""

    overlap_s: Annotated[int, Field(ge=0, le=604_800)] = 0


class Credentials(RootModel[dict[str, JsonValue]]):
    """What the rail issued; each rail has its own fields and refuses others by name."""

    model_config = ConfigDict(
        strict=True,
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "consumer_key": "x4Gk…",
                    "consumer_secret": "b9Pq…",
                    "passkey": "bfb2…",
                    "shortcode": "600174",
                    "type": "paybill",
                },
                {
                    "consumer_key": "x4Gk…",
                    "consumer_secret": "b9Pq…",
                    "passkey": "bfb2…",
                    "shortcode": "600174",
                    "type": "paybill",
                    "initiator_name": "acaciaapi",
                    "initiator_password": "…",
                    "certificate": "-----BEGIN CERTIFICATE-----…",
                },
            ]
        },
    )

    def __repr__(self) -> str:
        return "Credentials(***)"


class PutOptions(BaseModel):
    """`test`: try the credentials at the rail before they are stored."""

    model_config = ConfigDict(extra="forbid")

    test: Annotated[
        bool, Field(description="Whether to try them at the rail before they are stored.")
    ] = True


class Page(BaseModel):
    """`cursor` is `next_cursor` of the page before."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100, description="How many entries a page holds.")] = 20
    cursor: Annotated[
        str | None,
        Field(pattern=r"^[0-9]{1,18}$", description="`next_cursor` of the page before."),
    ] = None


class Account(BaseModel):
    """An organisation. Pending: sandbox only; suspended and closed: nothing."""

    id: Annotated[str, Field(examples=["tn_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    object: Literal["account"]
    name: Annotated[str, Field(examples=["Acacia Books"])]
    country: Annotated[str, Field(examples=["KE"])]
    status: Literal["pending", "active", "suspended", "closed"]
    plan: Annotated[str, Field(examples=["basic"])]
    created_at: datetime


class Caller(BaseModel):
    """Who is calling. `app_role` is null for an API key."""

    actor: Actor
    environment: Environment
    app_role: AppRole | None
    scopes: Scopes


class Me(BaseModel):
    """The caller and their organisation."""

    account: Account
    caller: Caller


class Joined(BaseModel):
    """The organisation one has become a member of, and as what."""

    account: Account
    app_role: AppRole


class User(BaseModel):
    """A member. `outlet_id` narrows a cashier to one outlet."""

    id: UUID
    object: Literal["user"]
    email: Annotated[str, Field(examples=["wanjiru@acacia.example"])]
    app_role: AppRole
    outlet_id: str | None
    created_at: datetime


class Invitation(BaseModel):
    """An open invitation."""

    id: Annotated[str, Field(examples=["invt_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    object: Literal["invitation"]
    email: Annotated[str, Field(examples=["wanjiru@acacia.example"])]
    app_role: AppRole
    invited_by: Actor
    created_at: datetime
    expires_at: datetime


class NewInvitation(Invitation):
    """With the token, which only this answer shows."""

    token: Annotated[str, Field(examples=[_INVITATION])]


class People(BaseModel):
    """The members and the open invitations, oldest first."""

    data: list[User]
    invitations: list[Invitation]


class RoleChanged(BaseModel):
    """The role a member has now."""

    id: UUID
    object: Literal["user"]
    app_role: AppRole


class UserRemoved(BaseModel):
    """Somebody who no longer belongs; keys they created still work and should be rotated."""

    id: UUID
    object: Literal["user"]
    removed: Literal[True]
    api_keys_to_rotate: Annotated[list[str], Field(examples=[["key_01kaj3v7wvf4fr8mnp5sye2s6k"]])]


class ApiKey(BaseModel):
    """A key without its secret. `last_used_at` is at most a minute old."""

    id: Annotated[str, Field(examples=["key_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    object: Literal["api_key"]
    kind: KeyKind
    name: KeyName
    environment: Environment
    scopes: Scopes
    last4: Annotated[str, Field(examples=["x3Yk"])]
    status: Literal["active", "expired", "revoked"]
    created_by: Actor
    rotated_from: Annotated[str | None, Field(examples=["key_01k9zj0c3ye6wv7c0q5m2t8r4d"])]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class NewApiKey(ApiKey):
    """With its secret, which only the first answer shows: a replay has null, and a note."""

    secret: Annotated[str | None, Field(examples=["sk_test_4bJ1…x3Yk"])]
    note: str | None = None


class ApiKeys(BaseModel):
    """Newest first."""

    data: list[ApiKey]


class RailCredentials(BaseModel):
    """Stored credentials, masked. `revision` counts replacements."""

    rail: Annotated[str, Field(examples=["mpesa"])]
    object: Literal["rail_credentials"]
    environment: Environment
    credentials: Annotated[
        dict[str, str], Field(examples=[{"consumer_key": "******k0o7", "shortcode": "600174"}])
    ]
    revision: Annotated[int, Field(ge=1, examples=[1])]
    tested_at: Annotated[datetime | None, Field(description="The last time the rail said yes.")]
    created_at: datetime
    updated_at: datetime


class StoredCredentials(BaseModel):
    """The credentials of one environment."""

    data: list[RailCredentials]


class CredentialsDeleted(BaseModel):
    """What was deleted."""

    object: Literal["rail_credentials"]
    rail: Annotated[str, Field(examples=["mpesa"])]
    deleted: Literal[True]


class AuditEntry(BaseModel):
    """Who did what to which subject. `environment` null: it concerns the whole organisation."""

    id: Annotated[int, Field(examples=[4711])]
    object: Literal["audit_entry"]
    environment: Environment | None
    actor: Actor
    action: Annotated[str, Field(examples=["api_key.create"])]
    subject: Annotated[str, Field(examples=["key_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    details: Annotated[
        dict[str, Any],
        Field(examples=[{"kind": "secret", "name": "Shop server", "scopes": ["payments:read"]}]),
    ]
    request_id: Annotated[str | None, Field(examples=[_REQUEST_ID])]
    occurred_at: datetime


class Pagination(BaseModel):
    """`next_cursor` goes into `cursor` of the next request; null on the last page."""

    limit: Annotated[int, Field(examples=[20])]
    has_more: bool
    next_cursor: Annotated[str | None, Field(examples=["4711"])]


class AuditPage(BaseModel):
    """Newest first."""

    data: list[AuditEntry]
    pagination: Pagination


class Resealed(BaseModel):
    """How many credentials are under the current master key now, and how many do not open."""

    resealed: Annotated[int, Field(examples=[12])]
    failed: Annotated[int, Field(examples=[0])]


class FiscalMerchant(_Body):
    """The taxpayer behind the organisation. tin and jurisdiction stay once a document is sealed."""

    jurisdiction: Annotated[str, Field(pattern=r"^[A-Z]{2}$", examples=["CD"])]
    legal_name: Annotated[
        Text200,
        Field(examples=["Acacia Books SARL"]),
    ]
    tin: Annotated[str, Clean, Field(max_length=50, examples=["308123456"])]
    vat_status: Annotated[
        Literal["registered", "not_registered"], Field(examples=["registered"])
    ] = "registered"
    registration_number: Annotated[str, Clean, Field(max_length=50)] | None = None
    address: Annotated[str, Clean, Field(max_length=200)] | None = None


class StoredFiscalMerchant(BaseModel):
    """The taxpayer as registered."""

    id: Annotated[str, Field(examples=["fm_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    object: Literal["fiscal_merchant"]
    jurisdiction: Annotated[str, Field(examples=["CD"])]
    legal_name: Annotated[str, Field(examples=["Acacia Books SARL"])]
    tin: Annotated[str, Field(examples=["308123456"])]
    registration_number: Annotated[str | None, Field(examples=["CD/KIN/RCCM/24-B-0042"])]
    vat_status: Annotated[Literal["registered", "not_registered"], Field(examples=["registered"])]
    address: Annotated[str | None, Field(examples=["12 avenue du Commerce, Kinshasa"])]
    status: Annotated[Literal["active", "suspended"], Field(examples=["active"])]
    environment: Annotated[Environment, Field(examples=["sandbox"])]
    created_at: datetime


class NewOutlet(_Body):
    """A place of sale: one number sequence, one chain. outlet_code is in every fiscal number."""

    outlet_code: Annotated[str, Field(pattern=r"^[A-Z0-9]{2,12}$", examples=["KIN001"])]
    name: Annotated[
        Text200,
        Field(examples=["Gombe"]),
    ]
    time_zone: Annotated[str, Field(max_length=64, examples=["Africa/Kinshasa"])]
    cut_off_hour: Annotated[
        int,
        Field(
            ge=0,
            le=23,
            description="The local hour at which the business day ends; 0 is midnight.",
            examples=[0],
        ),
    ] = 0
    address: Annotated[str, Clean, Field(max_length=200)] | None = None


class Outlet(BaseModel):
    """An outlet, and the number its next document gets."""

    id: Annotated[str, Field(examples=["out_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    object: Literal["outlet"]
    outlet_code: Annotated[str, Field(examples=["KIN001"])]
    name: Annotated[str, Field(examples=["Gombe"])]
    address: Annotated[str | None, Field(examples=["12 avenue du Commerce, Kinshasa"])]
    time_zone: Annotated[str, Field(examples=["Africa/Kinshasa"])]
    cut_off_hour: Annotated[int, Field(examples=[0])]
    fiscal_authority_id: Annotated[str, Field(examples=["stalela-cd-01"])]
    status: Annotated[Literal["active", "closed"], Field(examples=["active"])]
    next_number: Annotated[int, Field(examples=[1])]
    environment: Annotated[Environment, Field(examples=["sandbox"])]
    created_at: datetime


class Outlets(BaseModel):
    """The outlets one may see."""

    data: list[Outlet]


class PutOperator(_Body):
    """A terminal or cashier by the label its documents carry; a blocked one seals nothing."""

    kind: Annotated[Literal["terminal", "cashier"], Field(examples=["terminal"])]
    label: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$", examples=["pos-02"])]
    name: Annotated[
        Text200,
        Field(examples=["Till by the door"]),
    ]
    status: Annotated[Literal["active", "blocked"], Field(examples=["active"])] = "active"
    user_id: Annotated[
        UUID | None,
        Field(
            strict=False,  # JSON has no such type
            description="Who signs in as this cashier; without it nobody does. A person with the"
            " role `cashier` issues documents in this name and sees those alone.",
            examples=[None],
        ),
    ] = None


class Operator(BaseModel):
    """A terminal or cashier of an outlet."""

    id: Annotated[str, Field(examples=["term_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    object: Annotated[Literal["terminal", "cashier"], Field(examples=["terminal"])]
    outlet_id: Annotated[str, Field(examples=["out_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    label: Annotated[str, Field(examples=["pos-02"])]
    name: Annotated[str, Field(examples=["Till by the door"])]
    status: Annotated[Literal["active", "blocked"], Field(examples=["active"])]
    user_id: Annotated[UUID | None, Field(examples=[None])]
