"""A load: what to send, how many at once, and what came of it. Sent by a process of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from typing import Final

from scripts.stack.places import ROOT, StackError

# Stands in a request for an idempotency key; each request sent gets one of its own, as long.
KEY: Final = "key-of-this-request-and-no-other"


@dataclass(frozen=True, slots=True)
class Load:
    """Requests for one port. Each client has one connection and one request in flight.

    requests: raw, in latin-1; KEY in them is replaced by something never used before.
    seconds: repeat the requests for so long; None: send each once. capture: a regular expression
    whose first group is wanted from each answer. per_s: requests come at this pace whether the
    answers do or not, and latency counts from when each was due; None: as fast as they are taken.
    """

    port: int
    clients: int
    requests: list[str]
    seconds: float | None = None
    capture: str | None = None
    per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """Latencies in ms, of every answer. rail_ms: of that, waiting for the rail; server_ms: ours.

    cpu_s: what the generator itself spent, on the same machine.
    """

    seconds: float
    cpu_s: float
    statuses: dict[str, int]
    latencies_ms: list[float]
    rail_ms: list[float] = field(default_factory=list)
    server_ms: list[float] = field(default_factory=list)
    captured: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return len(self.latencies_ms)

    @property
    def per_s(self) -> float:
        return self.count / self.seconds

    def percentile(self, share: float) -> float:
        """Of the latencies, in ms."""
        return percentile(self.latencies_ms, share)


@dataclass(frozen=True, slots=True)
class News:
    """Callbacks to deliver, each with the request that shows its intent; all raw."""

    callback_port: int
    intent_port: int
    clients: int
    payments: list[tuple[str, str]]


@dataclass(slots=True)
class Seen:
    """In ms from sending the callback: until it was answered, until the intent had succeeded."""

    answered_ms: list[float] = field(default_factory=list)
    visible_ms: list[float] = field(default_factory=list)
    refused: int = 0


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` of them do not exceed."""
    return sorted(values)[max(0, ceil(len(values) * share) - 1)]


def send(load: Load, *, expect: int) -> Outcome:
    """Send it all. Raises StackError when an answer had another status than `expect`."""
    outcome = Outcome(**json.loads(_generate("load", asdict(load))))
    if set(outcome.statuses) != {str(expect)}:
        raise StackError(f"the load got {outcome.statuses} where all should be {expect}")
    return outcome


def deliver(news: News) -> Seen:
    """Deliver all callbacks. Raises StackError when one was not taken."""
    seen = Seen(**json.loads(_generate("callbacks", asdict(news))))
    if seen.refused:
        raise StackError(f"{seen.refused} callbacks were not taken")
    return seen


def _generate(what: str, order: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.benchmarks.generator", what],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if done.returncode:
        raise StackError(f"the load generator failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout
