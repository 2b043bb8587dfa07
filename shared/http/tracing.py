"""W3C Trace Context (Recommendation of 23 November 2021): one trace id from caller to rail."""

import os
import re
from dataclasses import dataclass
from typing import Final

_TRACEPARENT: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII
)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16


@dataclass(frozen=True, slots=True)
class Trace:
    """Our span in the caller's trace: trace_id 32 and span_id 16 hex characters."""

    trace_id: str
    span_id: str
    flags: str

    @property
    def traceparent(self) -> str:
        """What we send onwards: the same trace, with our span as the parent."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def continue_trace(traceparent: str | None) -> Trace:
    """A new span in the trace of `traceparent`, or in a new trace when it is absent or malformed.

    Malformed (§3.2): other lengths or upper case, version ff, all zeros, or more parts than
    version 00 has. A later version may have more parts; we read the ones we know.
    """
    span_id = os.urandom(8).hex()
    match = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent else None
    if match is None or _refused(match[1], match[2], match[3], match[5]):
        return Trace(os.urandom(16).hex(), span_id, "01")
    return Trace(match[2], span_id, match[4])


def _refused(version: str, trace_id: str, parent_id: str, rest: str | None) -> bool:
    if version == "ff" or (version == "00" and rest is not None):
        return True
    return trace_id == _NO_TRACE or parent_id == _NO_SPAN
