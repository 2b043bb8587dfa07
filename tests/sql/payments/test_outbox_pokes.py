"""Who is woken when: at the insert, once in a while, and again when a poke was lost."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.payments.outbox import Log
from tests.support.sql import Books


@pytest.fixture
def books(database: Database) -> Iterator[Books]:
    with Books(database) as opened:
        opened.run(
            "select vault.create_secret('http://127.0.0.1:1/f', 'functions_base_url', ''),"
            " vault.create_secret('internal-token', 'internal_token', '')"
        )
        yield opened


@pytest.fixture
def log(books: Books, database: Database) -> Log:
    return Log.open(books, database)


def poked(books: Books) -> list[str]:
    """The functions that were poked since the last look, in order."""
    urls = books.column("delete from net.http_request_queue returning url")
    books.run("delete from public.pokes")
    return [url.rpartition("/")[2].replace("-", "_") for url in urls]


def test_an_event_pokes_the_function_of_its_destination(log: Log, books: Books) -> None:
    log.write("tr_1", 0)

    assert poked(books) == [log.destination]


def test_many_events_in_a_moment_are_one_poke(log: Log, books: Books) -> None:
    with log.session() as writer:
        writer.begin()
        for seq in range(20):
            writer.write("tr_1", seq)
        writer.commit()

    assert poked(books) == [log.destination]


def test_an_event_without_destination_pokes_nobody(log: Log, books: Books) -> None:
    books.run("update public.destinations set enabled = false")

    log.write("tr_1", 0)

    assert poked(books) == []


def test_a_poke_that_was_rolled_back_with_its_event_reaches_nobody(log: Log, books: Books) -> None:
    with log.session() as writer:
        writer.begin().write("tr_1", 0)
        writer.rollback()

    assert poked(books) == []


def test_cron_heals_a_poke_that_was_lost(log: Log, books: Books) -> None:
    log.write("tr_1", 0)
    poked(books)

    assert books.value("select payments.poke_consumers()") == 1
    assert poked(books) == [log.destination]


def test_cron_leaves_those_alone_who_have_nothing_to_do(log: Log, books: Books) -> None:
    log.write("tr_1", 0)
    with log.session() as consumer:
        consumer.take()

    assert books.value("select payments.poke_consumers()") == 0


def test_cron_starts_a_retry_when_its_time_has_come(log: Log, books: Books) -> None:
    log.write("tr_1", 0)
    with log.session() as consumer:
        consumer.begin()
        (row,) = consumer.take()
        consumer.fail(row)
        consumer.commit()
    log.postpone()
    too_early = books.value("select payments.poke_consumers()")
    log.make_due()

    assert too_early == 0
    assert books.value("select payments.poke_consumers()") == 1


def test_cron_finds_what_a_slow_writer_left(log: Log, books: Books) -> None:
    with log.session() as slow, log.session() as consumer:
        slow.begin().write("tr_slow", 0)
        log.write("tr_1", 0)
        consumer.take()
        while_it_works = books.value("select payments.poke_consumers()")
        slow.commit()

        assert while_it_works == 0
        assert books.value("select payments.poke_consumers()") == 1


def test_cron_finds_a_lease_that_ran_out(books: Books, database: Database) -> None:
    log = Log.open(books, database, "function")
    log.write("tr_1", 0)
    with log.session() as consumer:
        consumer.lease()
    during = books.value("select payments.poke_consumers()")
    books.run("update payments.outbox_leases set lease_until = clock_timestamp()")

    assert during == 0
    assert books.value("select payments.poke_consumers()") == 1
