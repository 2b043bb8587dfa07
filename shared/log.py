"""One JSON object per line on stdout: a past-tense event name and fields from an allow-list.

    log.event("rail_callback_accepted", transfer_id="tr_…", rail="mpesa", latency_ms=12)

A field that is not on the list is dropped and counted (`dropped_fields` on the line). Bodies,
phone numbers, names and secrets are not on the list, and must not get there under another name.
"""

import json
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

# fmt: off
ALLOWED: Final = frozenset((
    "amount_minor", "api_version", "app_role", "attempt", "attempts", "batch", "bucket",
    "bytes", "callback_id", "claimed", "code", "correlation_ref", "count", "currency",
    "delay_s", "delivered", "delivery_id", "dependency", "deployment", "device_id", "disposition",
    "documents", "duration_ms", "environment", "error_code", "error_type", "error_where",
    "event_id",
    "event_type", "failed", "fiscal_number", "function", "http_status", "intent_state",
    "interval_s", "job", "jurisdiction",
    "key_id", "key_version", "lane", "latency_ms", "limit", "method", "operation", "order_id",
    "outcome", "payment_intent_id", "phase", "pid", "port", "position", "processing_ms",
    "queue", "rail", "rail_code", "rail_ref", "reason", "remaining", "request_id", "result",
    "retry_after", "retry_after_s", "route", "rows", "rpc", "scope", "session_id", "source",
    "source_trusted", "sqlstate", "state", "status", "subject_id", "sync_id", "task", "tenant_id",
    "to_state", "trace_id", "transfer_id", "url_host", "user_id", "version", "wait_ms",
))
# fmt: on
_TEXT_LIMIT: Final = 300  # a log line is for reading, and a long text is rarely a fact
_ENCODER: Final = json.JSONEncoder(default=str, ensure_ascii=False, separators=(",", ":"))
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

_context: ContextVar[Mapping[str, Any]] = ContextVar("log_context", default={})  # noqa: B039  never mutated
_threshold = _LEVELS["info"]
dropped_total = 0


def configure(level: str) -> None:
    """Set the level of this process: debug, info, warning or error."""
    global _threshold
    _threshold = _LEVELS[level]


@contextmanager
def context(**fields: object) -> Iterator[None]:
    """Add `fields` to every line written inside the block, tasks started there included."""
    token = _context.set({**_context.get(), **fields})
    try:
        yield
    finally:
        _context.reset(token)


def bind(**fields: object) -> None:
    """Add `fields` to the lines of the request that is being answered."""
    _context.set({**_context.get(), **fields})


def event(name: str, /, **fields: object) -> None:
    """Something was decided or done."""
    _write("info", name, fields)


def debug(name: str, /, **fields: object) -> None:
    """A step on the way, for somebody who is looking."""
    _write("debug", name, fields)


def warning(name: str, /, **fields: object) -> None:
    """Somebody should know, nobody must get up."""
    _write("warning", name, fields)


def error(name: str, /, cause: BaseException | None = None, **fields: object) -> None:
    """A defect or an outage. `cause` gives its type and its frames, never its text.

    The text of an exception may hold what a caller sent; where it was raised cannot.
    """
    _write("error", name, {**fields, **_origin(cause)} if cause is not None else fields)


def _origin(cause: BaseException) -> dict[str, object]:
    frames = traceback.extract_tb(cause.__traceback__)[-4:]
    where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    return {"error_type": type(cause).__name__, "error_where": where}


def _write(level: str, name: str, fields: Mapping[str, object]) -> None:
    if _LEVELS[level] >= _threshold:
        getattr(_logger(), level)(name, **fields)


@cache
def _logger() -> Any:
    # structlog is imported with the first line, so a cold start does not wait for it.
    import structlog

    return structlog.wrap_logger(
        _Stdout(),
        processors=[_line],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _line(_: object, level: str, fields: MutableMapping[str, Any]) -> str:
    """The line, in one pass: two of them are part of every request."""
    global dropped_total
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line: dict[str, Any] = {"at": now, "level": level}
    dropped = 0
    for key, value in {**_context.get(), **fields}.items():
        if key in ALLOWED or key == "event":
            line[key] = value[:_TEXT_LIMIT] if isinstance(value, str) else value
        else:
            dropped += 1
    if dropped:
        dropped_total += dropped
        line["dropped_fields"] = dropped
    return _ENCODER.encode(line)


class _Stdout:
    """Looks stdout up at each line, so that whoever replaces it (a test, a supervisor) is heard."""

    def msg(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    debug = info = warning = error = msg
