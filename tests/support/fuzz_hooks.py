"""What Schemathesis must know of the tenant it plays: loaded by name in its own process.

FUZZ_FACTS is JSON: `intents`, ids that exist, and `instead`, which says what to touch in place of
the caller's own key or membership: without them the rest of the run would be one long 401.
"""

import json
import os
from itertools import count
from typing import Any

import schemathesis

FACTS: dict[str, Any] = json.loads(os.environ["FUZZ_FACTS"])
_turn = count()


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]
) -> None:
    """Every other well-formed id of an intent becomes one that exists; what is ours stays ours."""
    path = case.path_parameters or {}
    for name, value in path.items():
        path[name] = FACTS["instead"].get(value, value) if isinstance(value, str) else value
    if str(path.get("payment_intent_id", "")).startswith("pi_"):
        turn = next(_turn)
        if turn % 2 and FACTS["intents"]:
            path["payment_intent_id"] = FACTS["intents"][turn // 2 % len(FACTS["intents"])]
