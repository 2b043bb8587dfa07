"""What a second person says of a transfer that waits: written down, and sent if approved."""

from dataclasses import asdict, dataclass
from typing import Literal

from shared.db import Answer, Database
from shared.http.caller import Caller
from shared.sending import Sender


@dataclass(frozen=True, slots=True)
class Decision:
    """About a transfer of this purpose; one of another purpose is not there. body_hash: as sent."""

    transfer_id: str
    purpose: Literal["payout", "refund", "direct"]
    decision: Literal["approve", "reject"]
    reason: str
    body_hash: str


async def decide(
    db: Database, sender: Sender, decision: Decision, key: str, caller: Caller
) -> Answer:
    """Record the decision; carry out what is approved. Raises as `Sender.send` does."""
    arguments = asdict(decision) | {"idempotency_key": key}
    begun = await db.call("payments.decide_approval", arguments, caller)
    return await sender.send(begun, key, caller)
