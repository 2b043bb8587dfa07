"""Messages to people on their way out: sealed when they are kept, opened only to be sent.

A function renders; SQL keeps, counts and decides what may go now; here it is sent, one at a time,
until nothing is due. What dies in between is repeated under the same key (see shared/email.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from shared import log
from shared.db import Database
from shared.email import Email, Mailer, Outcome, Verdict
from shared.http.caller import Caller
from shared.masking import mask_email
from shared.vault import Vault, VaultError

_BATCH: Final = 5  # leased for a minute, each attempt takes ten seconds at most


def address_index(vault: Vault, address: str) -> str:
    """By what equal addresses meet: messages and suppressions."""
    return vault.blind_index(address.strip().lower(), "email")


def sealed_message(
    vault: Vault, email: Email, dedupe_key: str, language: str, sms_text: str | None = None
) -> dict[str, Any]:
    """A rendered mail as messages.add_message keeps it."""
    return {
        "language": language,
        "recipient_masked": mask_email(email.to),
        "recipient_hash": address_index(vault, email.to),
        "body_sealed": vault.seal(email.to_body().encode(), _context(dedupe_key)),
        "sms_text": sms_text,
    }


class Postman:
    """Sends the messages of some kinds. claim, record: the SQL functions a role may call for it."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        mailer: Mailer,
        *,
        kinds: Sequence[str],
        claim: str,
        record: str,
    ) -> None:
        self._database, self._vault, self._mailer = database, vault, mailer
        self._kinds, self._claim, self._record = list(kinds), claim, record

    async def send_due(self, caller: Caller) -> int:
        """Send what is due, at most a batch; how many were tried."""
        claimed = await self._database.call(
            self._claim, {"kinds": self._kinds, "max_rows": _BATCH}, caller
        )
        pause: Outcome | None = None
        for message in claimed:
            outcome = pause or await self._attempt(message)
            await self._database.call(
                self._record, _recorded(message, outcome), caller, idempotent=True
            )
            log.event(
                "mail_tried",
                subject_id=message["message_id"],
                outcome=outcome.verdict,
                reason=outcome.code,
            )
            if outcome.pause_s:
                # The rest of the batch is given back untried.
                pause = Outcome(Verdict.RETRY, code=outcome.code, retry_after_s=outcome.pause_s)
        return len(claimed)

    async def _attempt(self, message: Mapping[str, Any]) -> Outcome:
        try:
            body = self._vault.open(message["body_sealed"], _context(message["dedupe_key"]))
        except VaultError as failed:
            log.error("mail_not_opened", failed, subject_id=message["message_id"])
            return Outcome(Verdict.RETRY, code="not_opened")
        return await self._mailer.send(message["message_id"], body.decode())


def _context(dedupe_key: str) -> str:
    """What a sealed mail is bound to; its id does not exist yet when it is sealed."""
    return f"message|{dedupe_key}"


def _recorded(message: Mapping[str, Any], outcome: Outcome) -> dict[str, Any]:
    return {
        "message_id": message["message_id"],
        "verdict": outcome.verdict,
        "email_id": outcome.email_id,
        "code": outcome.code,
        "retry_after_s": outcome.retry_after_s,
        "pause_s": outcome.pause_s,
        "is_unsure": outcome.is_unsure,
    }
