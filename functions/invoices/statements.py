"""Signatures of statements: asked of the signer, attached by the database, once."""

import json
from time import perf_counter
from typing import Any, Final

from functions.invoices.signatures import Signatures
from shared import log
from shared.db import Database
from shared.errors import InvalidTransition
from shared.fiscal.statements import statement_digest
from shared.http.caller import Caller
from shared.signing.base import NotSigned, SignerResting

BATCH: Final = 20

Work = dict[str, Any]


class Statements:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, db: Database, signatures: Signatures) -> None:
        self._db, self._signatures = db, signatures

    async def sign_waiting(self, caller: Caller) -> int:
        """Sign the statements that are due; how many got their signature."""
        works = await self._db.call("signing.claim_statements", {"max_rows": BATCH}, caller)
        signed = 0
        for work in works:
            signed += await self.sign(work, caller)
        return signed

    async def sign(self, work: Work, caller: Caller) -> bool:
        """Sign one statement with the key that is active; False when it still waits for it."""
        try:
            facts = await self._signatures.key_for(work, caller)
        except (NotSigned, InvalidTransition) as absent:
            # Which key would sign is not known, so there was no call to log.
            log.warning("signer_unavailable", subject_id=work["statement_id"], reason=str(absent))
            return False
        digest = statement_digest(json.loads(work["body"]), facts["key_id"])
        began, signature, trouble = perf_counter(), None, None
        try:
            signature = await self._signatures.sign_digest(facts, digest)
        except SignerResting:
            return False
        except NotSigned as refused:
            trouble = refused.reason
        return bool(
            await self._db.call(
                "signing.attach_to_statement",
                {
                    "statement_id": work["statement_id"],
                    "key_id": facts["key_id"],
                    "digest": digest.hex(),
                    "signature": signature and signature.value,
                    "error": trouble,
                    "latency_ms": int((perf_counter() - began) * 1000),
                    "provider_request_id": signature and signature.request_id,
                },
                caller,
            )
        )
