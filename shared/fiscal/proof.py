"""Whether a document is what was sealed, from its file and the published keys alone.

What came later or stands elsewhere cannot be seen here: credits, the neighbours in the chain, a
key revoked after the list was saved. /verify answers that from the ledger.
"""

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from shared.canonical import NotCanonical, canonical_hash
from shared.fiscal.chain import entry_hash
from shared.fiscal.decimals import ZERO, money_text
from shared.fiscal.document import Instant
from shared.fiscal.registry import FOLDERS
from shared.fiscal.rules import Manifest, jurisdiction
from shared.fiscal.seal import Seal, auth_code
from shared.money import scale_of, scales
from shared.signing.encoding import from_base64url
from shared.signing.verification import is_signed


class Check(StrEnum):
    """What is checked, in this order."""

    FILE = "file"  # it is an invoice as the API gives it, with its seal
    PAYLOAD_HASH = "payload_hash"  # the document is the one that was hashed
    SUMMARY = "summary"  # what stands beside the document says what the document says
    ENTRY_HASH = "entry_hash"  # the ledger's entry is of this number, document, time and place
    KEY = "key"  # the key is published, for this country and environment, and was in use
    SIGNATURE = "signature"  # the key signed the seal object
    AUTH_CODE = "auth_code"  # the code people compare is this signature's
    REVOKED_KEY = "revoked_key"  # the key was not yet revoked when it sealed


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong; `detail` is a sentence for people."""

    check: Check
    detail: str


class _Part(BaseModel):
    # More members may come; those we know have their types.
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


WrittenInstant = Annotated[AwareDatetime, Field(strict=False)]  # JSON has them as text


class _PublicHalf(_Part):
    spki: str  # base64 of the DER


class PublishedKey(_Part):
    """A key as /verify/keys publishes it."""

    key_id: str
    jurisdiction: str
    environment: str
    alg: Literal["ES256", "PS256", "RS256"]
    public_key: _PublicHalf
    valid_until: WrittenInstant | None
    revoked_at: WrittenInstant | None


class _KeyList(_Part):
    keys: list[PublishedKey]


Keys = Mapping[str, PublishedKey]


class _Sealed(_Part):
    fiscal_authority_id: str
    sealed_at: Instant
    auth_code: str
    signature: str
    signature_alg: str
    key_id: str
    canonical_payload_hash: str
    previous_hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    ledger_hash: str


class _Totals(_Part):
    currency: str


class _Places(_Part):
    """The members of a document that its seal object repeats, or that decide its summary."""

    jurisdiction: str
    outlet_id: str
    tax_group_manifest_version: str
    tax_groups: list[dict[str, str]]
    totals: _Totals
    original_fiscal_number: str | None = None


class _File(_Part):
    object: Literal["invoice"]
    status: Literal["fiscalized"]
    fiscal_number: str
    sequence: int
    sealed: _Sealed
    document: dict[str, Any]
    tax_summary: list[dict[str, str]]
    original_invoice: str | None
    environment: str


# What else a file says was not signed, and it is no evidence of it.
CHECKED: Final = frozenset(_File.model_fields)


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """An entry of a ledger, invoice or not, beside its signature as published."""

    seal: Seal
    entry_hash: str
    signature: str
    signature_alg: str
    auth_code: str


def read_keys(published: object) -> dict[str, PublishedKey]:
    """The keys of a decoded answer of /verify/keys, by their id. ValueError when it is none."""
    try:
        listed = TypeAdapter(_KeyList).validate_python(published)
    except ValidationError as invalid:
        raise ValueError(_sentence(invalid)) from None
    return {key.key_id: key for key in listed.keys}


def prove(resource: object, keys: Keys) -> list[Finding]:
    """Everything that is wrong with an invoice as GET /invoices/{id} gives it; none: it is sealed.

    Decoded from JSON whose members are unique. Members that are not in CHECKED are not looked at.
    """
    try:
        file = _File.model_validate(resource)
        places = _Places.model_validate(file.document)
    except ValidationError as invalid:
        return [Finding(Check.FILE, _sentence(invalid))]
    sealed = file.sealed
    entry = SignedEntry(
        Seal(
            jurisdiction=places.jurisdiction,
            outlet_id=places.outlet_id,
            fiscal_authority_id=sealed.fiscal_authority_id,
            fiscal_number=file.fiscal_number,
            sequence=file.sequence,
            canonical_payload_hash=sealed.canonical_payload_hash,
            previous_hash=sealed.previous_hash,
            sealed_at=sealed.sealed_at,
            key_id=sealed.key_id,
        ),
        entry_hash=sealed.ledger_hash,
        signature=sealed.signature,
        signature_alg=sealed.signature_alg,
        auth_code=sealed.auth_code,
    )
    return [
        *_check_payload(file),
        *_check_summary(file, places),
        *check_entry(entry, keys.get(sealed.key_id), file.environment),
    ]


def check_entry(entry: SignedEntry, key: PublishedKey | None, environment: str) -> list[Finding]:
    """What is wrong with an entry's hash, signature and code. key: the published one it names."""
    seal, wrong = entry.seal, []
    computed = entry_hash(
        seal.fiscal_number, seal.canonical_payload_hash, seal.sealed_at, seal.previous_hash
    )
    if computed != entry.entry_hash:
        wrong.append(Finding(Check.ENTRY_HASH, f"the entry hash is {computed}"))
    if key is None:
        wrong.append(Finding(Check.KEY, f"{seal.key_id} is not among the published keys"))
    else:
        wrong += _check_key(entry, key, environment)
        if not _is_sealed_by(entry, key):
            wrong.append(
                Finding(Check.SIGNATURE, f"{key.key_id} did not sign what the seal object says")
            )
    if not is_code_of(entry.signature, entry.auth_code):
        wrong.append(Finding(Check.AUTH_CODE, "the authentication code is not this signature's"))
    if key is not None and is_revoked_for(key, seal.sealed_at):
        when = f"{key.revoked_at:%Y-%m-%dT%H:%M:%SZ}"
        wrong.append(Finding(Check.REVOKED_KEY, f"{key.key_id} was revoked at {when}"))
    return wrong


def is_code_of(signature: str, code: str) -> bool:
    """Whether `code` is the authentication code of a published signature; in constant time."""
    try:
        computed = auth_code(from_base64url(signature))
    except ValueError:
        return False
    return hmac.compare_digest(computed.encode(), code.encode())


def is_revoked_for(key: PublishedKey, sealed_at: str) -> bool:
    """Whether the key was revoked before it sealed. Both instants have whole seconds."""
    return key.revoked_at is not None and _instant(sealed_at) > key.revoked_at


def _check_payload(file: _File) -> Iterator[Finding]:
    try:
        computed = canonical_hash(file.document)
    except NotCanonical as odd:
        yield Finding(Check.PAYLOAD_HASH, f"the document has no canonical form: {odd}")
        return
    if computed != file.sealed.canonical_payload_hash:
        yield Finding(Check.PAYLOAD_HASH, f"the document's hash is {computed}")


def _check_summary(file: _File, places: _Places) -> Iterator[Finding]:
    wrong = partial(Finding, Check.SUMMARY)
    if (file.original_invoice is None) != (places.original_fiscal_number is None):
        yield wrong("the document says otherwise about what it credits")
    manifest, currency = _manifest(places), places.totals.currency
    if manifest is None or currency not in scales():
        known = f"{places.tax_group_manifest_version} of {places.jurisdiction} in {currency}"
        yield wrong(f"this copy of the rules does not know {known}")
        return
    due = _summary(manifest, places)
    if file.tax_summary != due:
        odd = [row.get("code", "?") for row in file.tax_summary if row not in due]
        yield wrong(f"tax_summary is not that of the document: {', '.join(odd) or 'its rows'}")


def _summary(manifest: Manifest, places: _Places) -> list[dict[str, str]]:
    """A row for each group of the manifest: the document's, or one of zeros."""
    taxed = {row.get("code"): row for row in places.tax_groups}
    zero = money_text(ZERO, scale_of(places.totals.currency))
    return [
        taxed.get(code)
        or {"code": code, "rate": group.rate_text, "base_amount": zero, "tax_amount": zero}
        for code, group in sorted(manifest.groups.items())
    ]


def _manifest(places: _Places) -> Manifest | None:
    if places.jurisdiction not in FOLDERS:
        return None
    return jurisdiction(places.jurisdiction).manifests.get(places.tax_group_manifest_version)


def _check_key(entry: SignedEntry, key: PublishedKey, environment: str) -> Iterator[Finding]:
    wrong = partial(Finding, Check.KEY)
    if entry.signature_alg != key.alg:
        yield wrong(f"{key.key_id} signs with {key.alg}, not with {entry.signature_alg}")
    if (entry.seal.jurisdiction, environment) != (key.jurisdiction, key.environment):
        yield wrong(f"{key.key_id} seals for {key.jurisdiction} in {key.environment}")
    sealed_at = entry.seal.sealed_at
    is_late = key.valid_until is not None and _instant(sealed_at) > key.valid_until
    if is_late and not is_revoked_for(key, sealed_at):
        yield wrong(f"{key.key_id} retired at {key.valid_until:%Y-%m-%dT%H:%M:%SZ}")


def _is_sealed_by(entry: SignedEntry, key: PublishedKey) -> bool:
    try:
        digest = entry.seal.digest()
    except NotCanonical:
        return False
    return is_signed(digest, entry.signature, key.alg, key.public_key.spki)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _sentence(invalid: ValidationError) -> str:
    found = invalid.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        f"{'.'.join(str(part) for part in each['loc']) or 'the file'}: "
        # The text of pydantic names a class of ours.
        + ("must be an object" if each["type"] == "model_type" else each["msg"])
        for each in found
    )
