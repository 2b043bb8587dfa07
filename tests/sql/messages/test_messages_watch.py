"""Service levels computed from what is in the database."""

import pytest

from shared.ids import _encode, uuid7
from tests.support.sql import Books


def watch(books: Books) -> dict[str, dict[str, object]]:
    """The burning levels and what was found about them."""
    books.run("select messages.watch()")
    rows = books.rows(
        "select subject, details from public.alerts where kind = 'slo_burning' and status = 'open'"
    )
    return {row["subject"]: row["details"] for row in rows}


def late_minutes(books: Books, late: int, on_time: int, hours_ago: int = 0) -> None:
    for late_s, minutes in ((600, late), (0, on_time)):
        books.run(
            "insert into messages.slo_samples (sampled_at, destination, late_s)"
            " select now() - make_interval(hours => %s, secs => 30 * m), 'made ' || %s, %s"
            " from generate_series(1, %s) as m",
            hours_ago,
            late_s,
            late_s,
            minutes,
        )


def test_quiet_house_burns_nothing(books: Books) -> None:
    assert watch(books) == {}


def test_level_that_is_missed_for_an_hour_raises_an_alert_that_ends(books: Books) -> None:
    late_minutes(books, late=20, on_time=80)

    burning = watch(books)["deliveries_on_time"]
    books.run("update messages.slo_samples set late_s = 0")

    assert (burning["hours"], burning["what"]) == (1, "Events reach every destination within 10 s")
    assert float(str(burning["burn"])) > 14.4
    assert watch(books) == {}


def test_slow_burn_over_six_hours_is_seen(books: Books) -> None:
    # Four percent late is four times the budget; ten percent some hours ago makes it six.
    late_minutes(books, late=4, on_time=96)
    assert watch(books) == {}

    late_minutes(books, late=10, on_time=90, hours_ago=3)

    assert watch(books)["deliveries_on_time"]["hours"] == 6


def test_few_cases_say_nothing(books: Books) -> None:
    late_minutes(books, late=10, on_time=0)

    assert watch(books) == {}


def test_forger_cannot_spend_the_budget_of_callbacks(books: Books) -> None:
    books.run(
        "insert into rails.callbacks (rail, dedupe_key, token_hash, source_trusted, headers,"
        " body_sealed, received_at) select 'mpesa', 'forged ' || n, 'x', true, '{}', 'sealed',"
        " now() - interval '10 minutes' from generate_series(1, 100) as n"
    )

    figures = books.row("select * from messages.callback_figures(now() - interval '1 hour', 5)")

    assert (figures["good"], figures["total"]) == (0, 0)


@pytest.mark.parametrize("instant", ["2026-11-21T08:00:00.123Z", "1970-01-01T00:00:00Z"])
def test_first_id_of_a_millisecond_is_not_greater_than_any_other_of_it(
    books: Books, instant: str
) -> None:
    first = books.value("select messages.first_id('tr', %s::timestamptz)", instant)
    ms = books.value("select (extract(epoch from %s::timestamptz) * 1000)::bigint", instant)

    same = f"tr_{_encode(uuid7(ms, bytes(10)))}"
    last = _encode(uuid7(max(0, ms - 1), bytes([255] * 10)))
    before = f"tr_{last}"

    assert first <= same
    assert ms == 0 or before < first
