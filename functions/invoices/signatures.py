"""Signatures of ledger entries: asked of the signer, attached by the database, once."""

import asyncio
from time import perf_counter
from typing import Any, Final

from shared import log
from shared.db import Answer, Database
from shared.errors import InvalidTransition
from shared.fiscal.seal import Seal, auth_code
from shared.http.caller import Caller
from shared.signing.base import (
    NotSigned,
    PublicKey,
    Signature,
    SignerRefused,
    SignerResting,
    SignerUnavailable,
)
from shared.signing.breaker import GuardedSigner
from shared.signing.encoding import from_base64url
from shared.signing.verification import is_signed

BATCH: Final = 32  # signatures under way when the queue is drained

Work = dict[str, Any]


class Signatures:
    """Lives as long as the app; holds no state of a request.

    Which key signs an entry was decided when it was sealed and comes with the work.
    """

    def __init__(self, db: Database, signer: GuardedSigner) -> None:
        self._db, self._signer = db, signer

    async def sign_waiting(self, caller: Caller) -> int:
        """Sign what waits in the queue until nothing is due; how many got their signature."""
        signed = 0
        # A signer that is left alone is not given work, and one that is tried again only one.
        while (room := self._signer.room) != 0:
            works = await self._db.call(
                "signing.claim_signatures", {"max_rows": room or BATCH}, caller
            )
            if not works:
                break
            answers = await asyncio.gather(*(self.sign(work, caller) for work in works))
            signed += sum(answer is not None for answer in answers)
        return signed

    async def sign(self, work: Work, caller: Caller) -> Answer | None:
        """Sign one numbered entry and attach it; None when it still waits for its signature."""
        try:
            facts = await self.key_for(work, caller)
        except (SignerUnavailable, SignerRefused, InvalidTransition) as absent:
            # Which key would sign is not known, so there was no call to log.
            log.warning(
                "signer_unavailable", fiscal_number=work["fiscal_number"], reason=str(absent)
            )
            return None
        key_id = facts["key_id"]
        digest = _seal_of(work, key_id).digest()
        began = perf_counter()
        try:
            signature = await self.sign_digest(facts, digest)
        except SignerResting:
            return None
        except NotSigned as trouble:
            await self._note_failure(work, key_id, digest, began, trouble, caller)
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
        if answer.status != 201:
            return None
        log.event("document_signed", fiscal_number=work["fiscal_number"], key_id=key_id)
        return answer

    async def rotate(self, key_id: str, reason: str, caller: Caller) -> Answer:
        """Have another key sign from now on: the provider's newest, or one it makes now."""
        used = await self._db.call("signing.plan_rotation", {"key_id": key_id}, caller)
        newest = await self._signer.newest()
        if newest.spki in used:
            newest = await self._signer.create()
        return await self._db.answer(
            "signing.rotate_key", {"replaces": key_id, "reason": reason} | _facts_of(newest), caller
        )

    async def rotate_due(self, caller: Caller) -> int:
        """Replace every key that signed long enough; how many."""
        due = await self._db.call("signing.keys_to_rotate", {}, caller)
        for key_id in due:
            await self.rotate(key_id, "signed long enough", caller)
        return len(due)

    async def key_for(self, work: Work, caller: Caller) -> dict[str, str]:
        """The facts of the key that must sign this; ours, registered now, when there is none."""
        facts: dict[str, str] = work["key"] or await self._register(work, caller)
        return facts

    async def sign_digest(self, facts: dict[str, str], digest: bytes) -> Signature:
        """Sign 32 bytes with a key, and see that it did. Raises NotSigned."""
        key = _key_of(facts)
        signature = await self._signer.sign(key, digest)
        if not is_signed(digest, signature.value, key.alg, key.spki):
            raise SignerRefused("the signature is not by the key that was asked for")
        return signature

    async def _register(self, work: Work, caller: Caller) -> dict[str, str]:
        """The key that signs here: ours when there was none, else the one somebody registered."""
        newest = await self._signer.newest()
        place = {"jurisdiction": work["jurisdiction"], "environment": work["environment"]}
        facts: dict[str, str] = await self._db.call(
            "signing.register_key", place | _facts_of(newest), caller, idempotent=True
        )
        return facts

    async def _note_failure(
        self,
        work: Work,
        key_id: str,
        digest: bytes,
        began: float,
        trouble: NotSigned,
        caller: Caller,
    ) -> None:
        log.warning("signature_failed", fiscal_number=work["fiscal_number"], reason=trouble.reason)
        await self._db.call(
            "signing.record_failure",
            {
                "fiscal_number": work["fiscal_number"],
                "key_id": key_id,
                "digest": digest.hex(),
                "latency_ms": _ms_since(began),
                "error": trouble.reason,
                "is_permanent": isinstance(trouble, SignerRefused),
            },
            caller,
        )


def _key_of(facts: dict[str, str]) -> PublicKey:
    return PublicKey(
        facts["provider"], facts["key_ref"], facts["key_version"], facts["alg"], facts["spki"]
    )


def _facts_of(key: PublicKey) -> dict[str, str]:
    return {
        "provider": key.provider,
        "key_ref": key.key_ref,
        "key_version": key.key_version,
        "alg": key.alg,
        "public_key_spki": key.spki,
    }


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
