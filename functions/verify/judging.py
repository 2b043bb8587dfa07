"""Whether a document is what it claims to be, from the facts of the ledger. Pure.

The same work is done whether there is such a document or not: see fiscal.verification_facts.
"""

import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict

from shared.fiscal.chain import GENESIS, entry_hash
from shared.fiscal.proof import Check, PublishedKey, SignedEntry, check_entry
from shared.fiscal.seal import Seal

CODE_CHARACTERS: Final = 40  # a longer code is the signature itself
_NOT_OF_A_NUMBER: Final = re.compile(r"[^A-Z0-9-]")
_NOT_OF_A_CODE: Final = re.compile(r"[^A-Z0-9]")
# What people read for a digit: Crockford's alphabet has none of these letters.
_AS_READ: Final = str.maketrans("OIL", "011")

SyncStatus = Literal[
    "PENDING", "SUBMITTED", "RETRY", "SYNCED", "FAILED", "REJECTED", "NOT_APPLICABLE"
]
Status = Literal["verified", "revoked_key", "tampered"]


@dataclass(frozen=True, slots=True)
class Question:
    """What stands on the paper. sealed_at and authority: when a QR said so."""

    fiscal_number: str
    code: str
    sealed_at: str = ""
    authority: str = ""

    @classmethod
    def of(cls, number: str, code: str, sealed_at: str = "", authority: str = "") -> "Question":
        """As a person or a scanner gives it: case, spaces and dashes of no meaning go."""
        number = _NOT_OF_A_NUMBER.sub("", number.upper())[:64]
        if len(code) <= CODE_CHARACTERS:
            code = _NOT_OF_A_CODE.sub("", code.upper()).translate(_AS_READ)
        return cls(number, code, sealed_at.strip(), authority.strip())

    @classmethod
    def of_qr(cls, text: str) -> "Question | None":
        """What a QR of ours says; None: it is none of ours."""
        address, _, fields = text.strip().partition("?")
        query = parse_qs(fields)
        if not address.endswith("/i") or not {"fn", "ac"} <= set(query):
            return None
        return cls.of(*(query.get(name, [""])[0] for name in ("fn", "ac", "ts", "fa")))


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class _Signed(_Part):
    entry_hash: str
    signature: str
    signature_alg: str
    auth_code: str


class _Local(_Part):
    signature: str
    auth_code: str


class _Previous(_Part):
    fiscal_number: str
    canonical_payload_hash: str
    sealed_at: str
    previous_hash: str
    is_local: bool


class _Next(_Part):
    previous_hash: str


class Facts(_Part):
    """A row of fiscal.verify. is_known: it is about the number that was asked for."""

    is_known: bool
    is_own: bool = False
    environment: str
    seal: dict[str, Any]
    signed: _Signed
    key: PublishedKey
    payload_hash: str | None
    local: _Local | None
    is_first: bool
    previous: _Previous | None
    next: _Next | None
    merchant_name: str
    outlet_name: str
    total: str | None
    currency: str | None
    invoice_type: str | None
    credited: Literal["none", "partial", "full"]
    authority_sync_status: SyncStatus
    authority_acknowledged_at: str | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. is_shown: this caller may see it; everybody else gets the one not-found."""

    facts: Facts
    is_code_right: bool
    problems: tuple[str, ...]

    @property
    def is_shown(self) -> bool:
        return self.facts.is_known and (self.is_code_right or self.facts.is_own)

    @property
    def status(self) -> Status:
        if not self.problems:
            return "verified"
        return "revoked_key" if self.problems == (Check.REVOKED_KEY,) else "tampered"

    @property
    def is_signature_valid(self) -> bool:
        signed = {Check.PAYLOAD_HASH, Check.KEY, Check.SIGNATURE, Check.AUTH_CODE}
        return signed.isdisjoint(self.problems)

    @property
    def is_chain_valid(self) -> bool:
        return {Check.ENTRY_HASH, "chain", "time"}.isdisjoint(self.problems)


def judge(facts: Facts, question: Question) -> Verdict:
    """Everything that can be checked. Does not depend on whether the number is known."""
    seal = Seal(**facts.seal)
    entry = SignedEntry(
        seal,
        facts.signed.entry_hash,
        facts.signed.signature,
        facts.signed.signature_alg,
        facts.signed.auth_code,
    )
    # On the paper of a terminal that sealed offline stands its own code; the API shows ours.
    is_ours = _is_code(facts.signed, question.code)
    is_code_right = _is_code(facts.local or facts.signed, question.code) or is_ours
    problems = [str(found.check) for found in check_entry(entry, facts.key, facts.environment)]
    problems += _differences(facts, seal, question)
    if not is_code_right:
        problems.append("code")
    return Verdict(facts, is_code_right, tuple(dict.fromkeys(problems)))


def _is_code(signed: _Signed | _Local, given: str) -> bool:
    known = signed.signature if len(given) > CODE_CHARACTERS else signed.auth_code.replace("-", "")
    return hmac.compare_digest(known.encode(), given.encode())


def _differences(facts: Facts, seal: Seal, question: Question) -> Iterator[str]:
    """Names of what does not fit: the document, the neighbours in the chain, the paper."""
    if facts.payload_hash != seal.canonical_payload_hash:
        yield str(Check.PAYLOAD_HASH)
    before, after = facts.previous, facts.next
    expected = GENESIS
    if before is not None:
        expected = entry_hash(
            before.fiscal_number,
            before.canonical_payload_hash,
            before.sealed_at,
            before.previous_hash,
        )
    if seal.previous_hash != expected or facts.is_first != (before is None):
        yield "chain"
    if after is not None and after.previous_hash != facts.signed.entry_hash:
        yield "chain"
    # A wrong time after this one is the successor's fault, and said of the successor. What was
    # sealed offline came into the chain later than its time.
    is_in_order = before is None or before.is_local or before.sealed_at <= seal.sealed_at
    if not is_in_order and facts.local is None:
        yield "time"
    told = (question.sealed_at or seal.sealed_at, question.authority or seal.fiscal_authority_id)
    if told != (seal.sealed_at, seal.fiscal_authority_id):
        yield "paper"
