"""From what a terminal sealed to an entry of the chain: signature and tax here, the rest in SQL."""

from datetime import UTC, datetime
from typing import Any

from functions.offline.models import LocalSeal, Policy
from shared import log
from shared.canonical import canonical_bytes, canonical_hash
from shared.db import Answer, Database
from shared.errors import (
    InvalidParameter,
    LocalSealRefused,
    ManifestNotInForce,
    NumberConflict,
    Unprocessable,
)
from shared.fiscal.engine import Priced, price
from shared.fiscal.seal import Seal, auth_code
from shared.http.caller import Caller
from shared.money import Money
from shared.signing.encoding import from_base64url
from shared.signing.verification import is_signed

Signer = dict[str, str]


class Reconciler:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reconcile(self, credential_id: str, sealed: LocalSeal, caller: Caller) -> Answer:
        """The document in the chain. Raises LocalSealRefused and NumberConflict, both on record."""
        named = {"credential_id": credential_id}
        signer: Signer = await self._database.call(
            "fiscal.local_signer", named, caller, idempotent=True
        )
        seal = _seal_of(sealed, credential_id, signer)
        if not is_signed(seal.digest(), sealed.signature, "ES256", signer["spki"]):
            detail = "is not this credential's over what the seal says"
            raise await self._refused(credential_id, sealed, "/signature", detail, caller)
        try:
            priced = _priced_at(sealed)
        except Unprocessable as wrong:
            raise await self._refused(
                credential_id, sealed, "/document", wrong.message, caller
            ) from wrong
        if canonical_hash(priced.canonical) != sealed.canonical_payload_hash:
            detail = "is computed otherwise here than by the terminal"
            pointer = "/canonical_payload_hash"
            raise await self._refused(credential_id, sealed, pointer, detail, caller)
        return await self._append(credential_id, sealed, seal, priced, caller)

    async def _append(
        self, credential_id: str, sealed: LocalSeal, seal: Seal, priced: Priced, caller: Caller
    ) -> Answer:
        minor = 10**priced.scale
        outcome = await self._database.call(
            "fiscal.reconcile",
            {
                "credential_id": credential_id,
                "document": {
                    "payload": canonical_bytes(priced.canonical).decode(),
                    "tax_summary": priced.tax_summary(),
                    "total_minor": int(priced.total * minor),
                    "tax_minor": int(priced.total_tax * minor),
                },
                "seal": {
                    "sequence": sealed.sequence,
                    "sealed_at": sealed.sealed_at,
                    "local_previous_hash": sealed.local_previous_hash,
                    "digest": seal.digest().hex(),
                    "signature": sealed.signature,
                    "auth_code": auth_code(from_base64url(sealed.signature)),
                },
            },
            caller,
        )
        if refused := outcome.get("refused"):
            raise _refusal(refused["pointer"], refused["detail"])
        if number := outcome.get("conflict"):
            raise NumberConflict(
                f"another document has the number {number}; this one is kept aside"
            )
        answer = Answer.from_row(outcome["answer"])
        assert answer is not None, "what is taken is answered"
        log.event("document_reconciled", fiscal_number=seal.fiscal_number)
        return answer

    async def _refused(
        self, credential_id: str, sealed: LocalSeal, pointer: str, detail: str, caller: Caller
    ) -> LocalSealRefused:
        """The refusal, after people were told."""
        await self._database.call(
            "fiscal.note_forgery",
            {
                "credential_id": credential_id,
                "fiscal_number": str(sealed.sequence),
                "pointer": pointer,
                "detail": detail,
            },
            caller,
        )
        return _refusal(pointer, detail)


def minor_of(policy: Policy) -> dict[str, Any]:
    """A policy as SQL takes it. InvalidParameter when an amount lacks its currency."""
    if (policy.max_total is None) != (policy.currency is None):
        raise InvalidParameter(
            "max_total and currency belong together",
            errors=[{"pointer": "/policy", "detail": "max_total and currency belong together"}],
        )
    types = sorted(set(policy.types))
    if policy.max_total is None or policy.currency is None:
        return {"types": types}
    most = Money.parse(policy.max_total, policy.currency)
    return {"types": types, "max_total_minor": most.minor, "currency": most.currency}


def _priced_at(sealed: LocalSeal) -> Priced:
    """The document computed by the rules that were in force when it was sealed."""
    priced = price(sealed.document)
    at = datetime.strptime(sealed.sealed_at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    in_force = priced.rules.manifest_at(at)
    if in_force != sealed.document.tax_group_manifest_version:
        raise ManifestNotInForce(f"{in_force} was in force when it was sealed")
    return priced


def _seal_of(sealed: LocalSeal, credential_id: str, signer: Signer) -> Seal:
    return Seal(
        jurisdiction=signer["jurisdiction"],
        outlet_id=signer["outlet_id"],
        fiscal_authority_id=signer["fiscal_authority_id"],
        fiscal_number=f"{signer['number_prefix']}-{sealed.sequence:06d}",
        sequence=sealed.sequence,
        canonical_payload_hash=sealed.canonical_payload_hash,
        previous_hash=sealed.local_previous_hash,
        sealed_at=sealed.sealed_at,
        key_id=credential_id,
    )


def _refusal(pointer: str, detail: str) -> LocalSealRefused:
    message = f"{pointer} {detail}"
    return LocalSealRefused(message, errors=[{"pointer": pointer, "detail": detail}])
