"""Secrets that are shown once.

The stored answer of a request holds no secret, because SQL never sees one. So a replay of the
same Idempotency-Key answers with null in its place and a note that says what to do.
"""

import json
from dataclasses import replace

from shared.db import Answer

REPLAY_NOTE = (
    "The secret was shown in the first answer and is not stored. If that answer was lost, "
    "rotate or revoke what it is for."
)


def shown_once(answer: Answer, **secret: str) -> Answer:
    """`answer` with `secret` added to its body, or with null when it is a replay.

    secret: one member, such as token="invite_…".
    """
    body = json.loads(answer.body)
    if "Idempotent-Replayed" in answer.headers:
        body |= dict.fromkeys(secret) | {"note": REPLAY_NOTE}
    else:
        body |= secret
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    # A shared cache must not keep it either.
    return replace(answer, body=content).with_headers({"Cache-Control": "no-store"})
