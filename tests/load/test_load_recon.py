"""The generator of planted breaks, in its short form: exact counts, and the same again."""

from scripts.benchmarks.recon import expected, loaded, measure_once
from scripts.stack.database import Databases

TRANSFERS = 3_000


def test_planted_breaks_are_counted_exactly_twice_the_same(databases: Databases) -> None:
    with loaded(databases, TRANSFERS) as template:
        first, again = (measure_once(databases, template) for _ in range(2))

    assert first.counts == expected(TRANSFERS)
    assert again.counts == first.counts
