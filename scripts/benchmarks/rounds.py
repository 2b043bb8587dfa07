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
    """The runs that count. discarded: how many did not. others: the worst share among those kept.

    When too few were clean, all are kept and `is_noisy` says so.
    """

    gave: list[T]
    discarded: int
    others: float
    is_noisy: bool

    def median(self, of: Callable[[T], float]) -> float:
        """The median over the runs of one of their numbers."""
        return median(of(one) for one in self.gave)


class Rounds:
    """How often to measure. say: progress, a line per run."""

    def __init__(self, count: int, say: Say) -> None:
        self.count, self.say = count, say

    def series(self, name: str, run: Callable[[], T]) -> Series[T]:
        """`count` clean runs, from at most twice as many."""
        return self.prepared(name, lambda: None, lambda _: run())

    def once(self, name: str, run: Callable[[], T]) -> Series[T]:
        """One run, for what does not depend on how busy the machine is."""
        return Rounds(1, self.say).series(name, run)

    def prepared(self, name: str, prepare: Callable[[], P], run: Callable[[P], T]) -> Series[T]:
        """The same, with something made before each run that is not part of it."""
        kept: list[Run[T]] = []
        runs: list[Run[T]] = []
        while len(kept) < self.count and len(runs) < 2 * self.count:
            one = _run(prepare(), run)
            runs.append(one)
            if one.is_clean:
                kept.append(one)
            self.say(f"{name}: run {len(runs)}, others {one.others:.0%} of the machine")
        enough = len(kept) == self.count
        counted = kept if enough else runs
        return Series(
            [one.gave for one in counted],
            len(runs) - len(counted),
            max(one.others for one in counted),
            not enough,
        )


def _run(prepared: P, run: Callable[[P], T]) -> Run[T]:
    before = Moment.now()
    gave = run(prepared)
    return Run(gave, Moment.now().others_since(before))
