"""Consumers outside Postgres: a batch is out with one of them, and comes back if it dies."""

from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.payments.outbox import Log, Session, keys
from tests.support.sql import Books, at_once


@pytest.fixture
def log(books: Books, module_database: Database) -> Log:
    return Log.open(books, module_database, "function")


@pytest.fixture
def consumer(log: Log) -> Iterator[Session]:
    with log.session() as opened:
        yield opened


def run_out(log: Log) -> None:
    """Let the time of every lease end."""
    log.books.run(
        "update payments.outbox_leases set lease_until = clock_timestamp() where destination = %s",
        log.destination,
    )


def leases(log: Log) -> int:
    number: int = log.books.value(
        "select count(*) from payments.outbox_leases where destination = %s", log.destination
    )
    return number


def test_what_was_acknowledged_is_over(log: Log, consumer: Session) -> None:
    log.write("tr_1", 0)
    log.write("tr_1", 1)
    log.write("tr_2", 0)
    rows = consumer.lease()

    assert consumer.acknowledge(*rows[:2]) == 2
    assert consumer.acknowledge(*rows) == 1
    assert consumer.acknowledge(*rows) == 0
    assert leases(log) == 0
    assert consumer.lease() == []


def test_what_is_leased_is_not_leased_again_and_holds_its_stream(
    log: Log, consumer: Session
) -> None:
    log.write("tr_1", 0)
    rows = consumer.lease()
    log.write("tr_1", 1)
    log.write("tr_2", 0)

    others = consumer.lease()
    consumer.acknowledge(*rows)

    assert keys(others) == [("tr_2", 0)]
    assert keys(consumer.lease()) == [("tr_1", 1)]


def test_a_consumer_that_dies_counts_as_a_failed_attempt(log: Log, consumer: Session) -> None:
    log.write("tr_1", 0)
    log.write("tr_1", 1)
    log.write("tr_2", 0)
    consumer.lease()
    run_out(log)

    after_the_crash = consumer.lease()

    assert after_the_crash == []
    assert log.exceptions() == [
        ("tr_1", 0, "retry", 1),
        ("tr_1", 1, "waiting", 0),
        ("tr_2", 0, "retry", 1),
    ]
    log.make_due()
    assert keys(consumer.lease()) == [("tr_1", 0), ("tr_2", 0)]


def test_an_event_that_kills_its_consumer_dies_in_the_end(
    books: Books, module_database: Database
) -> None:
    log = Log.open(books, module_database, "function", max_attempts=3, stalled_after=2)
    log.write("tr_1", 0)
    with log.session() as consumer:
        for _ in range(3):
            consumer.lease()
            run_out(log)
            consumer.lease()
            log.make_due()

    assert log.exceptions() == [("tr_1", 0, "dead", 3)]
    assert [kind for kind, status, _ in log.alerts() if status == "open"] == ["delivery_dead"]


def test_a_late_acknowledgement_counts(log: Log, consumer: Session) -> None:
    log.write("tr_1", 0)
    log.write("tr_1", 1)
    rows = consumer.lease(1)
    run_out(log)
    consumer.lease()

    consumer.acknowledge(*rows)

    assert log.exceptions() == [("tr_1", 1, "retry", 0)]
    assert keys(consumer.lease()) == [("tr_1", 1)]


def test_a_returned_event_waits_and_takes_its_stream_along(log: Log, consumer: Session) -> None:
    log.write("tr_1", 0)
    log.write("tr_1", 1)
    log.write("tr_2", 0)
    first, second, other = consumer.lease()

    returned = consumer.give_back(first, retry_after_s=90)
    consumer.acknowledge(other)

    assert returned == [first["outbox_id"], second["outbox_id"]]
    assert consumer.give_back(first) == []
    assert log.exceptions() == [("tr_1", 0, "retry", 1), ("tr_1", 1, "waiting", 0)]
    assert (
        log.books.value(
            "select next_attempt_at > clock_timestamp() + interval '80 s'"
            " from payments.outbox_exceptions where destination = %s and state = 'retry'",
            log.destination,
        )
        is True
    )
    log.make_due()
    assert keys(consumer.lease()) == [("tr_1", 0)]


def test_many_consumers_share_the_work_without_meeting(log: Log) -> None:
    with log.session() as writer:
        for number in range(120):
            writer.write(f"tr_{number % 40}", number // 40)

    def consume() -> list[tuple[str, int]]:
        done: list[tuple[str, int]] = []
        with log.session() as session:
            while rows := session.lease(7):
                session.acknowledge(*rows)
                done += keys(rows)
        return done

    done = [key for found in at_once([consume] * 4) for key in found]
    with log.session() as last:
        while rows := last.lease(7):
            last.acknowledge(*rows)
            done += keys(rows)

    assert sorted(done) == sorted((f"tr_{n % 40}", n // 40) for n in range(120))
    assert log.exceptions() == []
    assert leases(log) == 0
