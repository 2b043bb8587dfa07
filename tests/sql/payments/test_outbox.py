"""The log and its readers: nothing skipped, nothing twice, each stream in order."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from scripts.stack.database import Database
from tests.sql.payments.outbox import Log, Session, keys
from tests.support.sql import Books, at_once


@pytest.fixture
def log(books: Books, module_database: Database) -> Log:
    return Log.open(books, module_database)


@pytest.fixture
def consumer(log: Log) -> Iterator[Session]:
    with log.session() as opened:
        yield opened


def test_a_consumer_takes_each_event_once_with_its_payload(log: Log, consumer: Session) -> None:
    log.write("tr_1", 0, amount="100.00")
    log.write("tr_1", 1)

    first, second = consumer.take()

    assert (first["payload"], first["attempts"]) == ({"amount": "100.00"}, 0)
    assert first["event_type"] == f"{log.destination}.happened"
    assert keys([first, second]) == [("tr_1", 0), ("tr_1", 1)]
    assert consumer.take() == []


def test_a_backlog_comes_in_batches_and_in_order(log: Log, consumer: Session) -> None:
    with log.session() as writer:
        for seq in range(25):
            writer.write("tr_1", seq)

    batches = [consumer.taken(10) for _ in range(4)]

    assert batches == [
        [("tr_1", seq) for seq in range(10)],
        [("tr_1", seq) for seq in range(10, 20)],
        [("tr_1", seq) for seq in range(20, 25)],
        [],
    ]


def test_an_unfinished_writer_is_neither_skipped_nor_waited_for(
    log: Log, consumer: Session
) -> None:
    with log.session() as slow:
        slow.begin().write("tr_slow", 0)
        log.write("tr_quick", 0)

        while_it_works = consumer.taken()
        slow.commit()

        assert while_it_works == [("tr_quick", 0)]
        assert consumer.taken() == [("tr_slow", 0)]
        assert consumer.taken() == []


def test_an_unfinished_writer_is_found_again_after_many_windows(
    log: Log, consumer: Session
) -> None:
    with log.session() as slow:
        slow.begin().write("tr_slow", 0)
        seen = []
        for number in range(10):
            log.write(f"tr_{number}", 0)
            seen += consumer.taken(1)
        slow.write("tr_slow", 1)
        slow.commit()

        assert seen == [(f"tr_{number}", 0) for number in range(10)]
        assert consumer.taken(1) == [("tr_slow", 0)]
        assert consumer.taken(1) == [("tr_slow", 1)]
        assert consumer.taken(1) == []


def test_a_writer_that_gives_up_leaves_nothing(log: Log, consumer: Session) -> None:
    with log.session() as failing:
        failing.begin().write("tr_failing", 0)
        log.write("tr_quick", 0)
        before = consumer.taken()
        failing.rollback()

        assert before == [("tr_quick", 0)]
        assert consumer.taken() == []


def test_a_stream_stays_in_order_when_transaction_ids_do_not(log: Log, consumer: Session) -> None:
    # The second event of the stream has the smaller transaction id; a third session, whose id is
    # between them, is still at work. Reading up to the oldest transaction at work would take the
    # second event and leave the first.
    with log.session() as second, log.session() as between, log.session() as first:
        second.begin().take_number()
        between.begin().write("tr_between", 0)
        first.begin().write("tr_1", 0)
        first.commit()
        second.write("tr_1", 1)
        second.commit()

        taken = consumer.taken()
        between.commit()

        assert taken == [("tr_1", 0), ("tr_1", 1)]
        assert consumer.taken() == [("tr_between", 0)]


def test_a_consumer_that_rolls_back_loses_nothing(log: Log, consumer: Session) -> None:
    log.write("tr_1", 0)
    with log.session() as crashing:
        taken = crashing.begin().taken()
        crashing.books.connection.close()

    assert taken == [("tr_1", 0)]
    assert consumer.taken() == [("tr_1", 0)]
    assert consumer.taken() == []


def test_a_second_consumer_waits_and_takes_what_the_first_left(log: Log) -> None:
    with log.session() as writer, log.session() as first, log.session() as second:
        for number in range(20):
            writer.write(f"tr_{number}", 0)
        one = first.begin().taken(15)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(second.taken, 15)
            first.commit()
            two = waiting.result()

    assert len(one) == 15
    assert len(two) == 5
    assert set(one) | set(two) == {(f"tr_{number}", 0) for number in range(20)}


def test_destinations_do_not_disturb_each_other(
    log: Log, books: Books, module_database: Database
) -> None:
    other = Log.open(books, module_database)
    log.write("tr_1", 0)
    other.write("tr_1", 1)
    with log.session() as one, other.session() as two:
        one.begin().take()

        assert two.taken() == [("tr_1", 1)]


def test_a_reader_with_one_old_snapshot_is_refused(log: Log) -> None:
    with log.session() as reader:
        reader.books.run("begin isolation level repeatable read")
        with pytest.raises(psycopg.Error, match="read committed"):
            reader.take()


def test_a_destination_that_leases_is_not_taken_from(
    books: Books, module_database: Database
) -> None:
    outside = Log.open(books, module_database, "function")
    with outside.session() as session, pytest.raises(psycopg.Error, match="no destination"):
        session.take()


def test_everything_arrives_once_and_in_order_under_many_writers_and_two_consumers(
    log: Log,
) -> None:
    writers, rounds = 8, 40
    streams = {f"tr_{number}": 0 for number in range(12)}
    locks = {stream: threading.Lock() for stream in streams}
    written: Counter[str] = Counter()
    over = threading.Event()

    def write(seed: int) -> None:
        dice = random.Random(seed)
        with log.session() as session:
            for _ in range(rounds):
                stream = dice.choice(sorted(streams))
                session.begin()
                if dice.random() < 0.5:
                    session.take_number()
                # As the row lock of a transfer does: the next writer of a stream waits for commit.
                with locks[stream]:
                    session.write(stream, streams[stream])
                    if dice.random() < 0.2:
                        session.rollback()
                    else:
                        session.commit()
                        streams[stream] += 1
                        written[stream] += 1

    def consume() -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        with log.session() as session:
            while True:
                last_round = over.is_set()
                session.begin()
                batch = session.taken(7)
                # In the consumer's own transaction, as it would book them.
                for stream, seq in batch:
                    session.books.run(
                        "insert into payments.taken_by_test values (%s, %s, %s)",
                        log.destination,
                        stream,
                        seq,
                    )
                session.commit()
                found += batch
                if last_round and not batch:
                    return found

    log.books.run(
        "create table payments.taken_by_test"
        " (destination text, stream text, seq bigint, at bigint generated always as identity)"
    )
    with ThreadPoolExecutor(2) as consumers:
        consuming = [consumers.submit(consume) for _ in range(2)]
        at_once([lambda seed=seed: write(seed) for seed in range(writers)])
        over.set()
        taken = [found for consumer in consuming for found in consumer.result()]
    order = log.books.rows("select stream, seq from payments.taken_by_test order by at")
    log.books.run("drop table payments.taken_by_test")

    assert sum(written.values()) > rounds
    assert Counter(taken) == Counter(
        (stream, seq) for stream, number in written.items() for seq in range(number)
    )
    for stream in streams:
        seqs = [row["seq"] for row in order if row["stream"] == stream]
        assert seqs == list(range(written[stream]))


def test_a_consumer_that_wrote_something_before_it_takes_skips_nobody(
    log: Log, consumer: Session
) -> None:
    seen = []
    for number in range(5):
        with log.session() as slow:
            slow.begin().write(f"tr_slow_{number}", 0)
            consumer.begin().take_number()
            log.write(f"tr_{number}", 0)
            seen += consumer.taken()
            consumer.commit()
            slow.commit()
    seen += consumer.taken()

    assert sorted(seen) == sorted(
        (f"tr_{name}{number}", 0) for name in ("", "slow_") for number in range(5)
    )
