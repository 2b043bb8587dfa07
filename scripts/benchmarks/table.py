"""The figures as people read them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

from scripts.benchmarks.rounds import Series

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a figure."""

    sign: Literal["<", "≤", "≥", "="]
    bound: float

    def is_met(self, value: float) -> bool:
        match self.sign:
            case "<":
                return value < self.bound
            case "≤":
                return value <= self.bound
            case "≥":
                return value >= self.bound
            case "=":
                return value == self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line. limit: measured in the same runs; ratio: of value to limit. No target: reported.

    others: the largest share of the machine that other programs used. The target binds the ratio
    where there is one.
    """

    name: str
    value: float
    unit: str
    limit: float | None
    ratio: float | None
    target: Target | None
    others: float
    is_noisy: bool

    @property
    def is_missed(self) -> bool:
        if self.target is None:
            return False
        bound = self.value if self.ratio is None else self.ratio
        return not self.target.is_met(bound)

    @property
    def verdict(self) -> str:
        words = [] if self.target is None else ["MISSED" if self.is_missed else "ok"]
        return ", ".join([*words, *(["noisy"] if self.is_noisy else [])])


def figure(
    name: str,
    runs: Series[T],
    of: Callable[[T], float],
    unit: str,
    target: Target | None = None,
    *,
    limit: Callable[[T], float] | None = None,
) -> Figure:
    """Medians over the runs; the ratio is the median of each run's own."""
    return Figure(
        name=name,
        value=runs.median(of),
        unit=unit,
        limit=runs.median(limit) if limit else None,
        ratio=runs.median(lambda run: of(run) / limit(run)) if limit else None,
        target=target,
        others=runs.others,
        is_noisy=runs.is_noisy,
    )


HEAD: Final = ("figure", "value", "", "limit", "ratio", "target", "", "others")
_NUMERIC: Final = (1, 3, 4, 7)


def table(figures: list[Figure]) -> str:
    """Columns aligned; numbers to the right."""
    rows = [HEAD, *(_cells(one) for one in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(_line(row, widths) for row in rows)


def _cells(one: Figure) -> tuple[str, ...]:
    return (
        one.name,
        number(one.value),
        one.unit,
        "" if one.limit is None else number(one.limit),
        "" if one.ratio is None else f"{one.ratio:.2f}",
        "" if one.target is None else str(one.target),
        one.verdict,
        f"{one.others:.0%}",
    )


def number(value: float) -> str:
    """Three significant digits, thousands separated."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(
        cell.rjust(width) if column in _NUMERIC else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
