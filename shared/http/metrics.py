"""Counts of one app in the Prometheus exposition format.

The hot path adds to dictionaries; prometheus_client is imported by the first scrape and renders
them. Each app has a registry of its own, because the local gateway runs many in one process.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import Metric

# Seconds. The budgets of a handler and of a callback (50, 100, 200 ms) are edges.
_EDGES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)

_current: ContextVar["Metrics | None"] = ContextVar("metrics", default=None)


class Metrics:
    """The numbers of one app. `function` is the label all of them share."""

    def __init__(self, function: str) -> None:
        self._function = function
        self._requests: Counter[tuple[str, ...]] = Counter()
        self._durations: dict[str, list[int]] = {}
        self._seconds: Counter[str] = Counter()
        self._data_api: Counter[tuple[str, ...]] = Counter()
        self._rail: Counter[tuple[str, ...]] = Counter()
        self._registry: CollectorRegistry | None = None

    def activate(self) -> None:
        """Let this request's calls be counted here; its context ends with the request."""
        _current.set(self)

    def request_answered(self, route: str, status: int, seconds: float) -> None:
        """route: the template ("/{payment_intent_id}/confirm"), never the path."""
        self._requests[route, str(status)] += 1
        counts = self._durations.get(route)
        if counts is None:
            counts = self._durations[route] = [0] * (len(_EDGES) + 1)
        counts[bisect_left(_EDGES, seconds)] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]  # a Counter adds floats too

    def render(self) -> tuple[bytes, str]:
        """The exposition and its content type."""
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

        if self._registry is None:
            self._registry = CollectorRegistry()
            self._registry.register(self)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterable["Metric"]:
        """What prometheus_client asks a collector for."""
        yield self._counter(
            "stalela_requests", "Requests answered.", ["route", "status"], self._requests
        )
        yield self._durations_family()
        yield self._counter(
            "stalela_data_api_calls", "Data API calls.", ["rpc", "outcome"], self._data_api
        )
        yield self._counter(
            "stalela_rail_calls", "Rail calls.", ["rail", "operation", "outcome"], self._rail
        )

    def _counter(
        self, name: str, text: str, labels: list[str], counts: Counter[tuple[str, ...]]
    ) -> "Metric":
        from prometheus_client.metrics_core import CounterMetricFamily

        family = CounterMetricFamily(name, text, labels=["function", *labels])
        for values, count in sorted(counts.items()):
            family.add_metric([self._function, *values], count)
        return family

    def _durations_family(self) -> "Metric":
        from prometheus_client.metrics_core import HistogramMetricFamily

        family = HistogramMetricFamily(
            "stalela_request_duration_seconds",
            "Time from the request's head to the answer's last byte.",
            labels=["function", "route"],
        )
        for route, counts in sorted(self._durations.items()):
            running, buckets = 0, []
            for edge, count in zip((*map(str, _EDGES), "+Inf"), counts, strict=True):
                running += count
                buckets.append((edge, float(running)))
            family.add_metric([self._function, route], buckets, self._seconds[route])
        return family


def count_data_api_call(rpc: str, outcome: str) -> None:
    """One call of the request being answered. outcome: ok, refused, unavailable or failed."""
    if metrics := _current.get():
        metrics._data_api[rpc, outcome] += 1


def count_rail_call(rail: str, operation: str, outcome: str) -> None:
    """One outside call of the request being answered. operation: submit, query or token."""
    if metrics := _current.get():
        metrics._rail[rail, operation, outcome] += 1
