"""Runs of limit and product in turn; runs that other programs disturbed are made again."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final, Generic, TypeVar

from scripts.benchmarks.cpu import Moment

OTHERS_MAX: Final = 0.10  # of the machine; a run above it says more about them than about us

T = TypeVar("T")
P = TypeVar("P")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """What one run gave, and the share of the machine that others used meanwhile."""

    gave: T
    others: float

    @property
    def is_clean(self) -> bool:
        return self.others <= OTHERS_MAX


@dataclass(frozen=True, slots=True)
class Series(Generic[T]):
    """The runs that count. others: the worst share among them.

    When too few were clean, all count and `is_noisy` says so.
    """

    gave: list[T]
    others: float
    is_noisy: bool

    def median(self, of: Callable[[T], float]) -> float:
        """The median over the runs of one of their numbers."""
        return median(of(one) for one in self.gave)


class Rounds:
    """How often to measure. say: progress, a line per run. now: what time and CPU it is."""

    def __init__(self, count: int, say: Say, now: Callable[[], Moment] = Moment.now) -> None:
        self.count, self.say, self.now = count, say, now
        self.discarded = 0

    def series(self, name: str, run: Callable[[], T]) -> Series[T]:
        """`count` clean runs, from at most twice as many."""
        return self.prepared(name, lambda: None, lambda _: run())

    def prepared(self, name: str, prepare: Callable[[], P], run: Callable[[P], T]) -> Series[T]:
        """The same, with something made before each run that is not part of it."""
        runs: list[Run[T]] = []
        while len(_clean(runs)) < self.count and len(runs) < 2 * self.count:
            one = self._run(prepare(), run)
            runs.append(one)
            self.say(f"{name}: run {len(runs)}, others {one.others:.0%} of the machine")
        clean = _clean(runs)
        counted = clean if len(clean) == self.count else runs
        self.discarded += len(runs) - len(counted)
        return Series(
            [one.gave for one in counted],
            others=max(one.others for one in counted),
            is_noisy=counted is runs,
        )

    def _run(self, prepared: P, run: Callable[[P], T]) -> Run[T]:
        before = self.now()
        gave = run(prepared)
        return Run(gave, self.now().others_since(before))


def _clean(runs: list[Run[T]]) -> list[Run[T]]:
    return [one for one in runs if one.is_clean]
