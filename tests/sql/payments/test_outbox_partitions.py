"""Partitions of the outbox: there in time, dropped when everybody is past them, never before."""

import uuid
from collections.abc import Iterator

import pytest

from scripts.stack.database import Database
from tests.sql.payments.outbox import Log, keys
from tests.support.sql import Books

# ruff: noqa: S608 -- names of partitions, asked from the catalog
EDGES = ("from_at", "to_at")


@pytest.fixture
def books(database: Database) -> Iterator[Books]:
    """As if it were noon: no day ended since the database was made, and none ends meanwhile."""
    with Books(database) as opened:
        move(opened, "now() - interval '12 hours' - min(from_at) over ()")
        yield opened


@pytest.fixture
def log(books: Books, database: Database) -> Log:
    return Log.open(books, database)


def partitions(books: Books) -> list[str]:
    return books.column("select partition::text from payments.outbox_partitions()")


def let_days_pass(books: Books, days: int) -> None:
    """As if everything there is had been written so many days ago."""
    move(books, f"interval '-{days} days'")


def move(books: Books, by: str) -> None:
    """Move all partitions with what is in them, in time."""
    rows = books.rows(f"select *, {by} as by from payments.outbox_partitions()")
    for row in rows:
        books.run(f"alter table payments.outbox detach partition {row['partition']}")
    for row in rows:
        moved = f"payments.moved_{uuid.uuid4().hex}"
        books.run(f"alter table {row['partition']} rename to {moved.partition('.')[2]}")
        books.run(f"update {moved} set created_at = created_at + %s", row["by"])
        from_at, to_at = (row[edge] + row["by"] for edge in EDGES)
        books.run(
            f"alter table payments.outbox attach partition {moved}"
            f" for values from ('{from_at}') to ('{to_at}')"
        )


def test_partitions_exist_for_today_and_the_days_ahead(books: Books) -> None:
    covered = books.row(
        "select min(from_at) <= now() as today, max(to_at) - now() as ahead from"
        " payments.outbox_partitions()"
    )

    assert covered["today"] is True
    assert covered["ahead"].days >= 3
    assert books.value("select payments.add_outbox_partitions()") == 0


def test_events_go_into_the_partition_of_their_day(log: Log, books: Books) -> None:
    log.write("tr_1", 0)

    assert books.value("select count(*) from payments.outbox_rest") == 0
    assert books.value("select count(distinct tableoid) from payments.outbox") == 1


def test_an_old_partition_is_dropped_when_everybody_is_past_it(log: Log, books: Books) -> None:
    log.write("tr_1", 0)
    with log.session() as consumer:
        consumer.take()
    let_days_pass(books, 9)
    oldest, *others = partitions(books)

    assert books.value("select payments.drop_outbox_partition()") == 1
    assert partitions(books) == others
    assert oldest not in others
    assert books.value("select count(*) from payments.outbox") == 0


def test_a_partition_that_is_young_enough_stays(log: Log, books: Books) -> None:
    let_days_pass(books, 7)

    assert books.value("select payments.drop_outbox_partition()") == 0


@pytest.mark.parametrize("reads", ["nothing", "the first"])
def test_a_partition_that_somebody_has_not_read_stays_and_an_alert_says_so(
    log: Log, books: Books, reads: str
) -> None:
    log.write("tr_1", 0)
    log.write("tr_2", 0)
    with log.session() as consumer:
        if reads == "the first":
            consumer.take(1)
        let_days_pass(books, 9)

        assert books.value("select payments.drop_outbox_partition()") == 0
        assert books.alerts(log.destination) == ["outbox_not_read"]
        consumer.take()
        consumer.take()

    assert books.value("select payments.drop_outbox_partition()") == 1


def test_a_writer_that_is_still_at_work_keeps_its_partition(log: Log, books: Books) -> None:
    with log.session() as slow, log.session() as consumer:
        slow.begin().write("tr_slow", 0)
        log.write("tr_1", 0)
        consumer.take()
        slow.commit()
        let_days_pass(books, 9)

        assert books.value("select payments.drop_outbox_partition()") == 0
        assert keys(consumer.take()) == [("tr_slow", 0)]

    assert books.value("select payments.drop_outbox_partition()") == 1


def test_what_is_out_on_a_lease_keeps_its_partition(books: Books, database: Database) -> None:
    log = Log.open(books, database, "function")
    log.write("tr_1", 0)
    with log.session() as consumer:
        rows = consumer.lease()
        let_days_pass(books, 9)

        assert books.value("select payments.drop_outbox_partition()") == 0
        consumer.acknowledge(*rows)

    assert books.value("select payments.drop_outbox_partition()") == 1


def test_what_failed_outlives_its_partition(log: Log, books: Books) -> None:
    log.write("tr_1", 0, amount="100.00")
    log.write("tr_1", 1)
    with log.session() as consumer:
        consumer.begin()
        first, _ = consumer.take()
        consumer.fail(first)
        consumer.commit()
        let_days_pass(books, 9)
        books.value("select payments.drop_outbox_partition()")
        log.make_due()

        (again,) = consumer.take()

        assert (again["payload"], again["attempts"]) == ({"amount": "100.00"}, 1)
        assert keys(consumer.take()) == [("tr_1", 1)]


def test_when_nobody_made_partitions_for_days_nothing_is_refused_and_the_next_ones_fit(
    log: Log, books: Books
) -> None:
    let_days_pass(books, 9)

    log.write("tr_1", 0)

    assert books.value("select count(*) from payments.outbox_rest") == 1
    assert books.value("select payments.add_outbox_partitions()") >= 3
    assert books.alerts("payments.outbox_rest") == ["outbox_without_partition"]
    with log.session() as consumer:
        assert consumer.taken() == [("tr_1", 0)]


def test_rows_without_partition_leave_too(log: Log, books: Books) -> None:
    let_days_pass(books, 9)
    log.write("tr_1", 0)
    books.value("select payments.add_outbox_partitions()")
    with log.session() as consumer:
        consumer.take()
    books.run("update payments.outbox_rest set created_at = created_at - interval '30 days'")

    assert books.value("select payments.drop_outbox_partition()") == 1
    assert books.value("select count(*) from payments.outbox_rest") == 0
    assert books.alerts("payments.outbox_rest") == []


def test_a_new_partition_is_as_closed_as_its_table(books: Books) -> None:
    guarded = books.rows(
        "select c.relrowsecurity as secured, c.relacl as grants,"
        " (select count(*) from pg_catalog.pg_policy as l where l.polrelid = c.oid) as policies"
        " from payments.outbox_partitions() as p"
        " inner join pg_catalog.pg_class as c on c.oid = p.partition"
    )

    assert {(row["secured"], row["grants"], row["policies"]) for row in guarded} == {
        (True, None, 1)
    }


def test_inserting_goes_on_while_a_partition_waits_to_be_dropped(log: Log, books: Books) -> None:
    let_days_pass(books, 9)
    with log.session() as busy, log.session() as dropping:
        busy.begin().write("tr_1", 0)

        with pytest.raises(Exception, match="lock timeout"):
            dropping.books.value("select payments.drop_outbox_partition()")
        busy.commit()

    assert books.value("select payments.drop_outbox_partition()") == 1
