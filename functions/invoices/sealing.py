"""What takes more than one call: compute, number and chain, sign, attach."""

import asyncio
from time import perf_counter
from typing import Any, Final

from shared import log
from shared.db import Answer, Database
from shared.fiscal.canonical import canonical_bytes, canonical_hash
from shared.fiscal.document import Document
from shared.fiscal.engine import price
from shared.fiscal.seal import Seal, auth_code
from shared.http.caller import Caller
from shared.signing.base import PublicKey, Signer, SignerUnavailable
from shared.signing.encoding import from_base64url

SIGNER_S: Final = 5.0  # longer, and the queue signs it instead
BATCH: Final = 32  # signatures in flight when the queue is drained

Work = dict[str, Any]


class Sealer:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, db: Database, signer: Signer) -> None:
        self._db, self._signer = db, signer
        self._key: PublicKey | None = None
        self._key_ids: dict[tuple[str, str], str] = {}

    async def seal(self, document: Document, key: str, body_hash: str, caller: Caller) -> Answer:
        """201 with the sealed document, or 202 when it is numbered and its signature is to come."""
        claim = {"idempotency_key": key, "body_hash": body_hash}
        return await self.seal_by("fiscal.seal", claim, document, caller)

    async def seal_by(
        self, routine: str, claim: dict[str, Any], document: Document, caller: Caller
    ) -> Answer:
        """Seal by the SQL routine that knows what makes this document the only one: its claim."""
        priced = price(document)
        minor = 10**priced.scale
        sealing = await self._db.call(
            routine,
            claim
            | {
                "payload": canonical_bytes(priced.canonical).decode(),
                "canonical_payload_hash": canonical_hash(priced.canonical),
                "tax_summary": priced.tax_summary(),
                "total_minor": int(priced.total * minor),
                "tax_minor": int(priced.total_tax * minor),
            },
            caller,
        )
        numbered = Answer.from_row(sealing["answer"])
        assert numbered is not None, "who seals answers"
        if sealing["work"] is None:
            return numbered
        signed = await self.sign(sealing["work"], caller)
        return numbered if signed is None else signed.with_headers(numbered.headers)

    async def sign_waiting(self, caller: Caller) -> int:
        """Sign what waits in the queue until nothing is due; how many got their signature."""
        signed = 0
        while works := await self._db.call("signing.claim_signatures", {"max_rows": BATCH}, caller):
            answers = await asyncio.gather(*(self.sign(work, caller) for work in works))
            signed += sum(answer is not None for answer in answers)
        return signed

    async def sign(self, work: Work, caller: Caller) -> Answer | None:
        """Sign one numbered document and attach it; None when the signer did not sign."""
        try:
            key_id = await self._key_id(work["jurisdiction"], work["environment"], caller)
        except SignerUnavailable as absent:
            # Which key would sign is not known either, so there is no call to log.
            log.warning(
                "signer_unavailable", fiscal_number=work["fiscal_number"], reason=absent.reason
            )
            return None
        digest = _seal_of(work, key_id).digest()
        began = perf_counter()
        try:
            async with asyncio.timeout(SIGNER_S):
                signature = await self._signer.sign(digest)
        except (SignerUnavailable, TimeoutError) as absent:
            reason = absent.reason if isinstance(absent, SignerUnavailable) else "timed out"
            await self._note_failure(work, key_id, digest, began, reason, caller)
            return None
        answer = await self._db.answer(
            "fiscal.attach_signature",
            {
                "fiscal_number": work["fiscal_number"],
                "key_id": key_id,
                "digest": digest.hex(),
                "signature": signature.value,
                "auth_code": auth_code(from_base64url(signature.value)),
                "latency_ms": _ms_since(began),
                "provider_request_id": signature.request_id,
            },
            caller,
            idempotent=True,
        )
        log.event("document_signed", fiscal_number=work["fiscal_number"], key_id=key_id)
        return answer

    async def _note_failure(
        self, work: Work, key_id: str, digest: bytes, began: float, reason: str, caller: Caller
    ) -> None:
        log.warning("signature_failed", fiscal_number=work["fiscal_number"], reason=reason)
        await self._db.call(
            "signing.record_failure",
            {
                "fiscal_number": work["fiscal_number"],
                "key_id": key_id,
                "digest": digest.hex(),
                "latency_ms": _ms_since(began),
                "error": reason,
            },
            caller,
        )

    async def _key_id(self, jurisdiction: str, environment: str, caller: Caller) -> str:
        """The registered name of our key for this jurisdiction; registered by its first use."""
        place = (jurisdiction, environment)
        if place not in self._key_ids:
            key = self._key = self._key or await self._signer.public_key()
            self._key_ids[place] = await self._db.call(
                "signing.register_key",
                {
                    "jurisdiction": jurisdiction,
                    "environment": environment,
                    "provider": key.provider,
                    "key_ref": key.key_ref,
                    "key_version": key.key_version,
                    "alg": key.alg,
                    "public_key_spki": key.spki,
                },
                caller,
                idempotent=True,
            )
        return self._key_ids[place]


def _seal_of(work: Work, key_id: str) -> Seal:
    return Seal(
        jurisdiction=work["jurisdiction"],
        outlet_id=work["outlet_id"],
        fiscal_authority_id=work["fiscal_authority_id"],
        fiscal_number=work["fiscal_number"],
        sequence=work["sequence"],
        canonical_payload_hash=work["canonical_payload_hash"],
        previous_hash=work["previous_hash"],
        sealed_at=work["sealed_at"],
        key_id=key_id,
    )


def _ms_since(began: float) -> int:
    return int((perf_counter() - began) * 1000)
