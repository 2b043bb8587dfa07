"""Stops calling a rail that is in trouble: one breaker per rail, tenant and environment.

5 failures in 60 s open it for 30 s; then one probe decides. Shared by all callers of an instance.
"""

import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from shared.http.metrics import count_rail_call
from shared.http.timing import spent
from shared.rails.base import (
    RAIL_UNAVAILABLE,
    CallbackKind,
    CallbackRequest,
    Instruction,
    Outcome,
    Rail,
    RailEvent,
    RailUnavailable,
    Source,
)

FAILURES_TO_OPEN = 5
WINDOW_S = 60.0
OPEN_S = 30.0

Key = tuple[str, str, str]


@dataclass(slots=True)
class _State:
    """Failures within the window; `opened_at` None is closed; `is_probing` is half-open."""

    failures: deque[float] = field(default_factory=deque)
    opened_at: float | None = None
    is_probing: bool = False


class Breakers:
    """The breakers of one process. `now` is a monotonic clock in seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._states: dict[Key, _State] = {}

    def admit(self, key: Key) -> bool:
        """Let a call pass, True when it is the probe; RailUnavailable while the breaker is open."""
        state = self._states.get(key)
        if state is None or state.opened_at is None:
            return False
        left_s = state.opened_at + OPEN_S - self._now()
        if left_s > 0 or state.is_probing:
            raise RailUnavailable(
                f"The rail {key[0]} failed repeatedly and is being left alone",
                retry_after_s=max(1, math.ceil(left_s)),
            )
        state.is_probing = True
        return True

    def succeeded(self, key: Key, *, is_probe: bool) -> None:
        """A call was answered. Only the probe closes an open breaker; late answers do not."""
        if is_probe:
            self._states.pop(key, None)

    def failed(self, key: Key, *, is_probe: bool) -> None:
        """A call met trouble at the rail. The probe's failure opens the breaker again at once."""
        now = self._now()
        state = self._states.setdefault(key, _State())
        if is_probe:
            state.opened_at, state.is_probing = now, False
            return
        state.failures.append(now)
        while state.failures[0] <= now - WINDOW_S:
            state.failures.popleft()
        if state.opened_at is None and len(state.failures) >= FAILURES_TO_OPEN:
            state.opened_at = now
            state.failures.clear()

    def abandoned(self, key: Key, *, is_probe: bool) -> None:
        """A call ended without telling anything (cancelled, refused by us): the next may probe."""
        state = self._states.get(key)
        if is_probe and state is not None:
            state.is_probing = False


class GuardedRail:
    """A rail behind its breakers. Callbacks pass freely: the rail speaks, we do not call."""

    def __init__(self, name: str, rail: Rail, breakers: Breakers) -> None:
        self._name = name
        self._rail = rail
        self._breakers = breakers

    async def submit(self, instruction: Instruction) -> RailEvent:
        return await self._guard(Source.SUBMIT, self._rail.submit, instruction)

    async def query(self, instruction: Instruction) -> RailEvent:
        return await self._guard(Source.QUERY, self._rail.query, instruction)

    def read_callback(self, request: CallbackRequest) -> list[RailEvent]:
        return self._rail.read_callback(request)

    def redact(self, body: bytes, kind: CallbackKind) -> bytes:
        return self._rail.redact(body, kind)

    async def _guard(
        self,
        operation: Source,
        call: Callable[[Instruction], Awaitable[RailEvent]],
        instruction: Instruction,
    ) -> RailEvent:
        key = (self._name, instruction.tenant_id, instruction.environment)
        is_probe = self._breakers.admit(key)
        settle, outcome = self._breakers.abandoned, "refused"
        started = time.perf_counter()
        try:
            event = await call(instruction)
            outcome = event.outcome.value
            settle = self._breakers.failed if is_trouble(event) else self._breakers.succeeded
        except RailUnavailable:
            settle, outcome = self._breakers.failed, "unavailable"
            raise
        finally:
            spent("rail", time.perf_counter() - started)
            settle(key, is_probe=is_probe)
            count_rail_call(self._name, operation.value, outcome)
        return event


def is_trouble(event: RailEvent) -> bool:
    """Say whether the rail itself failed: transport or 5xx, never a verdict about the payer.

    A query may report that an earlier prompt failed because the rail was busy; that answer is a
    working rail, so a query counts only when it learned nothing.
    """
    is_unanswered = event.outcome is Outcome.UNKNOWN or event.source is Source.SUBMIT
    return event.reason == RAIL_UNAVAILABLE and is_unanswered
