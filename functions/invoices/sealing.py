"""What makes a document fiscal: compute, number and chain, then sign."""

from hashlib import sha256
from typing import Any

from functions.invoices.signatures import Signatures, Work
from shared.canonical import canonical_bytes
from shared.db import Answer, Database
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
        return await self.take("fiscal.seal", claim | computed(document), caller)

    async def take(self, routine: str, arguments: dict[str, Any], caller: Caller) -> Answer:
        """Have a routine number what it knows, and sign it: 201, or 202 while a signer is away."""
        numbered, work = await self._number(routine, arguments, caller)
        if work is None:
            return numbered
        answer = await self._signatures.sign(work, caller)
        if answer is None:
            of = {"fiscal_number": work["fiscal_number"]}
            answer = await self._db.answer("fiscal.numbered_invoice", of, caller, idempotent=True)
        return answer.with_headers(numbered.headers)

    async def issue(self, order: dict[str, Any], document: Document, caller: Caller) -> None:
        """Seal what nobody waits for: its signature may come from the queue."""
        _, work = await self._number("fiscal.issue_order", order | computed(document), caller)
        if work is not None:
            await self._signatures.sign(work, caller)

    async def _number(
        self, routine: str, arguments: dict[str, Any], caller: Caller
    ) -> tuple[Answer, Work | None]:
        """What is to be signed, and the answer's headers; or the whole answer and no work."""
        sealing = await self._db.call(routine, arguments, caller)
        answer = Answer.from_row(sealing["answer"])
        assert answer is not None, "who seals answers"
        return answer, sealing["work"]


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
