"""What Schemathesis must know of the tenant it plays: loaded by name in its own process.

FUZZ_FACTS is JSON: `intents`, ids that exist, and `own_key`, the key whose loss ends the run.
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
    """Every other well-formed id of an intent becomes one that exists; our own key stays ours."""
    path = case.path_parameters
    if path and path.get("key_id") == FACTS["own_key"]:
        path["key_id"] = "key_" + FACTS["own_key"][4:][::-1]
    if path and str(path.get("payment_intent_id", "")).startswith("pi_"):
        turn = next(_turn)
        if turn % 2 and FACTS["intents"]:
            path["payment_intent_id"] = FACTS["intents"][turn // 2 % len(FACTS["intents"])]
