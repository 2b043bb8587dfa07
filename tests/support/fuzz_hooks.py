"""What Schemathesis must know of the tenant it plays: loaded by name in its own process.

FUZZ_FACTS is JSON: `known`, ids that exist by the name of their path parameter, or by the one
operation that they are kept for ("POST /refunds/{refund_id}/approve"), and `instead`,
which says what to touch in place of the caller's own key or membership: without them the rest of
the run would be one long 401. What was answered is counted into the file FUZZ_ANSWERS.
"""

import atexit
import json
import os
from collections import Counter
from itertools import count
from pathlib import Path
from typing import Any

import schemathesis

FACTS: dict[str, Any] = json.loads(os.environ["FUZZ_FACTS"])
_turn = count()
_answers: Counter[tuple[str, int]] = Counter()


@schemathesis.hook
def before_call(
    _context: schemathesis.HookContext, case: schemathesis.Case[Any], _kwargs: dict[str, Any]
) -> None:
    """Every other id becomes one that exists; what is ours stays ours."""
    path = case.path_parameters or {}
    for name, value in path.items():
        path[name] = FACTS["instead"].get(value, value) if isinstance(value, str) else value
        known = FACTS["known"].get(place_of(case), FACTS["known"].get(name, []))
        # What is not well-formed shall stay so.
        if known and str(value)[:3] == known[0][:3]:
            turn = next(_turn)
            if turn % 2:
                path[name] = known[turn // 2 % len(known)]
    body = case.body
    # What can go back is one payment, and nobody guesses its id.
    if isinstance(body, dict) and str(body.get("payment_intent", ""))[:3] == "pi_":
        for paid in FACTS["known"].get("paid", []):
            body["payment_intent"] = paid
    # A document is sealed by an outlet of ours or not at all, and reports are of one.
    for place in (body, case.query):
        if isinstance(place, dict):
            for part in (place, place.get("document"), *_list(place.get("invoices"))):
                _at_our_outlet(part)


@schemathesis.hook
def after_call(
    _context: schemathesis.HookContext,
    case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> None:
    _answers[place_of(case), response.status_code] += 1


def place_of(case: schemathesis.Case[Any]) -> str:
    return f"{case.method} {case.path}"


@atexit.register
def _write_down() -> None:
    rows = [(place, status, times) for (place, status), times in _answers.items()]
    Path(os.environ["FUZZ_ANSWERS"]).write_text(json.dumps(rows))


def _at_our_outlet(part: Any) -> None:
    if isinstance(part, dict) and str(part.get("outlet_id", ""))[:4] == "out_":
        for outlet in FACTS["known"].get("outlet_id", []):
            part["outlet_id"] = outlet


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
