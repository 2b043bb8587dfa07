"""Daraja's codes in our words: the rows of rails.reason_codes.csv, read once.

A code that means different things by its text has rows `code/fragment`, the fragment in lower case;
the row whose fragment the text contains wins over the bare code.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from shared.rails.base import UNKNOWN_RAIL_ERROR, Outcome, RailEvent, Source

Channel = Literal[
    "stk",  # result codes of a prompt, by callback and by query
    "api",  # synchronous errors
    "result",  # result codes of payouts and reversals
    "status",  # TransactionStatus of those, by query
]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a code means. `reason` is ours; `retry_after_s` None when waiting changes nothing."""

    outcome: Outcome
    reason: str | None
    retry_after_s: int | None


NOT_KNOWN = Meaning(Outcome.UNKNOWN, UNKNOWN_RAIL_ERROR, None)  # of a code that is in no table


def meaning(channel: Channel, code: str, text: str = "") -> Meaning | None:
    """Look a code up, None when it is in no table. `text` is the rail's message beside it."""
    rows = _rows()
    lowered = text.lower()
    for (row_channel, row_code), row in rows.items():
        known, _, fragment = row_code.partition("/")
        if fragment and (row_channel, known) == (channel, code) and fragment in lowered:
            return row
    return rows.get((channel, code)) if "/" not in code else None


def api_error(source: Source, code: str, message: str, rail_ref: str | None) -> RailEvent:
    """Translate the error a request was answered with; one that is in no table is UNKNOWN."""
    known = meaning("api", code, message)
    # A charge that Daraja calls "being processed" got no reference of its own: we know nothing.
    if known is None or known.outcome is Outcome.PENDING:
        known = NOT_KNOWN
    return RailEvent(
        known.outcome,
        source,
        rail_ref,
        code=code,
        message=message or None,
        reason=known.reason,
        retry_after_s=known.retry_after_s,
        channel="api",
    )


@cache
def _rows() -> dict[tuple[str, str], Meaning]:
    path = Path(__file__).with_name("rails.reason_codes.csv")
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["channel"], row["code"]): _meaning(row) for row in csv.DictReader(file)}


def _meaning(row: dict[str, str]) -> Meaning:
    wait = row["retry_after_s"]
    return Meaning(Outcome(row["outcome"]), row["reason"] or None, int(wait) if wait else None)
