"""What fails: it is tried again on the ladder, holds its own stream and nobody else's, and dies."""

from collections.abc import Iterator

import psycopg
import pytest

from scripts.stack.database import Database
from tests.sql.payments.outbox import Log, Session, keys
from tests.support.sql import Books


@pytest.fixture
def log(books: Books, module_database: Database) -> Log:
    return Log.open(books, module_database)


@pytest.fixture
def consumer(log: Log) -> Iterator[Session]:
    with log.session() as opened:
        yield opened


def fail_first(consumer: Session, *, final: bool = False) -> list[tuple[str, int]]:
    """One batch whose first event fails; (stream, seq) of what must not be applied."""
    consumer.begin()
    rows = consumer.take()
    held = consumer.fail(rows[0], final=final)
    consumer.commit()
    return keys([row for row in rows if row["outbox_id"] in held])


def test_a_stuck_stream_delays_only_itself(log: Log, consumer: Session) -> None:
    log.write("tr_stuck", 0)
    log.write("tr_fine", 0)
    log.write("tr_stuck", 1)

    held = fail_first(consumer)
    log.postpone()
    log.write("tr_stuck", 2)
    log.write("tr_fine", 1)

    assert held == [("tr_stuck", 0), ("tr_stuck", 1)]
    assert consumer.taken() == [("tr_fine", 1)]
    assert log.exceptions() == [
        ("tr_stuck", 0, "retry", 1),
        ("tr_stuck", 1, "waiting", 0),
        ("tr_stuck", 2, "waiting", 0),
    ]


def test_when_a_retry_succeeds_its_stream_flows_again_in_order(log: Log, consumer: Session) -> None:
    for seq in range(4):
        log.write("tr_1", seq)
    fail_first(consumer)
    log.postpone()

    too_early = consumer.taken()
    log.make_due()
    retried = consumer.take()
    log.write("tr_1", 4)

    assert too_early == []
    assert [(row["seq"], row["attempts"]) for row in retried] == [(0, 1)]
    assert consumer.taken() == [("tr_1", 1), ("tr_1", 2), ("tr_1", 3)]
    assert consumer.taken() == [("tr_1", 4)]
    assert consumer.taken() == []
    assert log.exceptions() == []


def test_a_failure_among_released_events_holds_the_later_ones(log: Log, consumer: Session) -> None:
    for seq in range(4):
        log.write("tr_1", seq)
    fail_first(consumer)
    log.make_due()
    consumer.take()

    held = fail_first(consumer)

    assert held == [("tr_1", 1), ("tr_1", 2), ("tr_1", 3)]
    assert log.exceptions() == [
        ("tr_1", 1, "retry", 1),
        ("tr_1", 2, "waiting", 0),
        ("tr_1", 3, "waiting", 0),
    ]


def test_a_rolled_back_retry_is_due_again(log: Log, consumer: Session) -> None:
    log.write("tr_1", 0)
    fail_first(consumer)
    log.make_due()

    consumer.begin().take()
    consumer.rollback()

    assert consumer.taken() == [("tr_1", 0)]


def test_the_ladder_ends_in_death_with_an_alert_at_five_and_at_ten(
    log: Log, consumer: Session
) -> None:
    log.write("tr_1", 0)
    waits, alerts = [], []
    for _ in range(10):
        fail_first(consumer)
        waits.append(
            log.books.value(
                "select extract(epoch from next_attempt_at - changed_at)"
                " from payments.outbox_exceptions where destination = %s",
                log.destination,
            )
        )
        alerts.append([kind for kind, status, _ in log.alerts() if status == "open"])
        log.make_due()

    for waited, rung in zip(waits, (1, 5, 30, 120, 600, 3600, 7200, 14400, 28800), strict=False):
        assert rung * 0.89 <= float(waited) <= rung * 1.11
    assert alerts == [[]] * 4 + [["delivery_stalled"]] * 5 + [["delivery_dead"]]
    assert log.exceptions() == [("tr_1", 0, "dead", 10)]
    assert consumer.taken() == []


def test_what_can_never_get_better_dies_at_once_and_holds_its_stream(
    log: Log, consumer: Session
) -> None:
    log.write("tr_1", 0)
    log.write("tr_1", 1)
    log.write("tr_2", 0)

    fail_first(consumer, final=True)
    log.make_due()
    log.write("tr_1", 2)

    assert consumer.taken() == []
    assert [state for _, _, state, _ in log.exceptions()] == ["dead", "waiting", "waiting"]
    assert log.alerts() == [("delivery_dead", "open", 1)]


def test_an_event_of_another_transaction_cannot_be_failed(log: Log, consumer: Session) -> None:
    log.write("tr_1", 0)
    (row,) = consumer.take()

    with pytest.raises(psycopg.Error, match="was not taken in this transaction"):
        consumer.fail(row)


def test_a_queue_leaves_in_its_order_however_it_lies_in_the_table(
    log: Log, consumer: Session, books: Books
) -> None:
    for seq in range(60):
        log.write("tr_1", seq)
    fail_first(consumer)
    # The later half is behind the earlier in the index, and before it in the table.
    books.run(
        "update payments.outbox_exceptions set last_error = 'moved' where destination = %s"
        " and seq between 1 and 30",
        log.destination,
    )
    consumer.books.run("set enable_indexscan = off")
    consumer.books.run("set enable_bitmapscan = off")
    log.make_due()

    taken = [consumer.taken(1)[0] for _ in range(60)]

    assert taken == [("tr_1", seq) for seq in range(60)]


def test_a_long_queue_behind_one_event_leaves_in_order(log: Log, consumer: Session) -> None:
    log.write("tr_1", 0)
    fail_first(consumer)
    log.postpone()
    with log.session() as writer:
        writer.begin()
        for seq in range(1, 2501):
            writer.write("tr_1", seq)
        writer.commit()
    assert consumer.taken() == []
    log.make_due()

    taken = []
    while batch := consumer.taken(400):
        taken += batch

    assert taken == [("tr_1", seq) for seq in range(2501)]
    assert log.exceptions() == []
