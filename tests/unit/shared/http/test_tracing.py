"""shared/http/tracing.py: W3C trace context."""

import re

import pytest

from shared.http.tracing import continue_trace

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    "header", [f"00-{TRACE}-{PARENT}-01", f" 00-{TRACE}-{PARENT}-01 ", f"cc-{TRACE}-{PARENT}-01-x"]
)
def test_good_trace_goes_on_with_a_span_of_ours(header: str) -> None:
    trace = continue_trace(header)

    assert trace.trace_id == TRACE
    assert trace.span_id != PARENT
    assert trace.traceparent == f"00-{TRACE}-{trace.span_id}-01"


def test_callers_sampling_decision_is_kept() -> None:
    assert continue_trace(f"00-{TRACE}-{PARENT}-00").flags == "00"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "garbage",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-extra",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE[:-1]}-{PARENT}-01",
    ],
)
def test_malformed_trace_is_replaced(header: str | None) -> None:
    trace = continue_trace(header)

    assert trace.trace_id != TRACE
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", trace.traceparent)
