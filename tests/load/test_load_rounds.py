"""How figures come about: which runs count, and what a verdict says."""

from collections.abc import Callable

from scripts.benchmarks.cpu import Moment
from scripts.benchmarks.load import percentile
from scripts.benchmarks.rounds import Rounds, Series
from scripts.benchmarks.table import Target, figure, table


def clock(*shares: float) -> Callable[[], Moment]:
    """Runs of one second each, in which others use these shares of the machine."""
    moments = []
    for number, share in enumerate(shares):
        others = share * 1_000_000  # more CPUs than any machine has would still be busy
        moments += [Moment(number, 0, 0), Moment(number + 1, others, 0)]
    return iter(moments).__next__


def rounds(*shares: float) -> Rounds:
    return Rounds(2, lambda _line: None, clock(*shares))


def runs(*values: float, is_noisy: bool = False) -> Series[float]:
    return Series(list(values), others=0.03, is_noisy=is_noisy)


def test_disturbed_run_is_made_again() -> None:
    numbers = iter([1.0, 2.0, 3.0])
    measured = rounds(0, 0.5, 0)

    series = measured.series("x", lambda: next(numbers))

    assert series == Series([1.0, 3.0], others=0, is_noisy=False)
    assert measured.discarded == 1


def test_series_is_noisy_when_the_machine_never_is_quiet() -> None:
    numbers = iter([1.0, 2.0, 3.0, 4.0])

    series = rounds(0.5, 0.5, 0, 0.5).series("x", lambda: next(numbers))

    assert series.gave == [1.0, 2.0, 3.0, 4.0]
    assert series.is_noisy


def test_target_binds_the_ratio_where_there_is_a_limit() -> None:
    ratio = figure("x", runs(400), lambda run: run, "/s", Target("≥", 0.4), limit=lambda _: 1000)
    value = figure("x", runs(0.3), lambda run: run, "ms", Target("≥", 0.4))

    assert (ratio.ratio, ratio.verdict, value.verdict) == (0.4, "ok", "MISSED")


def test_table_says_which_figures_are_noisy() -> None:
    line = figure("x", runs(1, 9, 2, is_noisy=True), lambda run: run, "ms", Target("<", 5))

    assert table([line]).splitlines()[1].split() == ["x", "2", "ms", "<", "5", "ok,", "noisy", "3%"]


def test_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([4, 1, 3, 2], 0.5) == 2
    assert percentile(range(1, 201), 0.99) == 198
