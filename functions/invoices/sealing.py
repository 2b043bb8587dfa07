"""What makes a document fiscal: compute, number and chain, then sign."""

from hashlib import sha256
from typing import Any

from functions.invoices.signatures import Signatures
from shared.db import Answer, Database
from shared.fiscal.canonical import canonical_bytes
from shared.fiscal.document import Document
from shared.fiscal.engine import price
from shared.http.caller import Caller


class Sealer:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, db: Database, signatures: Signatures) -> None:
        self._db, self._signatures = db, signatures

    async def seal(self, document: Document, key: str, body_hash: str, caller: Caller) -> Answer:
        """201 with the sealed document, or 202 when it is numbered and its signature is to come."""
        claim = {"idempotency_key": key, "body_hash": body_hash}
        return await self.seal_by("fiscal.seal", claim, document, caller)

    async def seal_by(
        self, routine: str, claim: dict[str, Any], document: Document, caller: Caller
    ) -> Answer:
        """Seal by the SQL routine that knows what makes this document the only one: its claim."""
        return await self.take(routine, claim | computed(document), caller)

    async def take(self, routine: str, arguments: dict[str, Any], caller: Caller) -> Answer:
        """Have a routine number what it knows, and sign it: 201, or 202 while a signer is away."""
        sealing = await self._db.call(routine, arguments, caller)
        numbered = Answer.from_row(sealing["answer"])
        assert numbered is not None, "who seals answers"
        if sealing["work"] is None:
            return numbered
        signed = await self._signatures.sign(sealing["work"], caller)
        return numbered if signed is None else signed.with_headers(numbered.headers)


def computed(document: Document) -> dict[str, Any]:
    """A priced document as SQL takes it. Raises the 422s of the fiscal domain."""
    priced = price(document)
    payload, minor = canonical_bytes(priced.canonical), 10**priced.scale
    return {
        "payload": payload.decode(),
        "canonical_payload_hash": sha256(payload).hexdigest(),
        "tax_summary": priced.tax_summary(),
        "total_minor": int(priced.total * minor),
        "tax_minor": int(priced.total_tax * minor),
    }
