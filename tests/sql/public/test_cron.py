"""The two lanes: what is due runs, alone, once, and trouble stays with the task that made it."""

import time
from typing import Any

import psycopg
import pytest

from tests.sql.public.house import House, at_once
from tests.support.simulator import until

TASKS = """
create schema chores;
grant usage on schema chores to stalela_owner;
create table chores.done (task text, at timestamptz default clock_timestamp());
grant all on chores.done to stalela_owner;
create function chores.good() returns integer language sql as
'insert into chores.done values (''good'') returning 1';
create function chores.bad() returns void language plpgsql as
$$begin insert into chores.done values ('bad'); raise exception 'broken'; end$$;
create function chores.endless() returns void language sql as 'select pg_sleep(60)';
create function chores.refusing() returns void language sql as
$$select public.refuse('40911', 'no')$$;
grant execute on all functions in schema chores to stalela_owner;
truncate public.cron_tasks;
"""


@pytest.fixture
def chores(empty_house: House) -> House:
    """A house whose only tasks are those a test adds."""
    empty_house.arrange(TASKS)
    return empty_house


def add(
    house: House, task: str, *, lane: str = "fast", interval_s: int = 60, enabled: bool = True
) -> None:
    house.run(
        "insert into public.cron_tasks"
        " (task, lane, interval_s, lease_s, routine, enabled, description)"
        " values (%s, %s, %s, 30, %s, %s, 'test') returning 1",
        task,
        lane,
        interval_s,
        f"chores.{task}",
        enabled,
    )


def state(house: House, task: str) -> dict[str, Any]:
    (row,) = house.run("select * from public.cron_tasks where task = %s", task)
    return row


def done(house: House) -> list[str]:
    return [row["task"] for row in house.run("select task from chores.done order by at")]


def run_lane(house: House, lane: str, budget: str) -> None:
    """The command of the pg_cron job as pg_cron sends it, with a shorter budget."""
    command = str(
        house.one(
            "select command from cron.job where jobname = %s", f"stalela-{lane}", role="postgres"
        )
    )
    for full in ("55 seconds", "4 minutes 50 seconds"):
        command = command.replace(full, budget)
    with house.database.connect("postgres") as connection:
        connection.execute(command.encode())


def test_there_are_exactly_two_jobs(empty_house: House) -> None:
    jobs = empty_house.run("select jobname, schedule, username from cron.job", role="postgres")

    assert {(job["jobname"], job["schedule"], job["username"]) for job in jobs} == {
        ("stalela-fast", "* * * * *", "postgres"),
        ("stalela-slow", "*/5 * * * *", "postgres"),
    }


def test_every_task_names_a_routine_that_exists(empty_house: House) -> None:
    missing = empty_house.run(
        "select task from public.cron_tasks where to_regprocedure(routine || '()') is null"
    )

    assert missing == []
    assert empty_house.one("select count(*) from public.cron_tasks where enabled") > 0


@pytest.mark.parametrize("lane", ["fast", "slow"])
def test_every_task_runs(empty_house: House, lane: str) -> None:
    waiting = "select task from public.cron_tasks where enabled and runs = 0 and lane = %s"

    def all_ran() -> bool:
        run_lane(empty_house, lane, "1 second")
        return not empty_house.run(waiting, lane)

    until(all_ran, f"a run of every task of the {lane} lane")

    failed = empty_house.run("select task, last_error from public.cron_tasks where failures > 0")
    assert failed == []


def test_a_lane_runs_what_is_due_in_it_and_nothing_else(chores: House) -> None:
    add(chores, "good")
    chores.run(
        "insert into public.cron_tasks"
        " (task, lane, interval_s, lease_s, routine, enabled, description)"
        " values ('slow', 'slow', 60, 30, 'chores.good', true, 'test'),"
        " ('off', 'fast', 60, 30, 'chores.good', false, 'test') returning 1"
    )

    run_lane(chores, "fast", "1 second")

    assert done(chores) == ["good"]
    good = state(chores, "good")
    assert (good["runs"], good["failures"], good["last_status"]) == (1, 0, "succeeded")
    assert good["lease_until"] is None
    assert good["last_finished_at"] >= good["last_started_at"]


@pytest.mark.alone
def test_a_lane_ends_within_its_budget(chores: House) -> None:
    started = time.monotonic()
    run_lane(chores, "fast", "1 second")

    assert 1 <= time.monotonic() - started < 3


def test_a_lane_stops_before_the_statement_timeout_would_cut_it_off(chores: House) -> None:
    (row,) = chores.run(
        "select set_config('statement_timeout', '10s', true),"
        " public.lane_deadline('55 seconds') - clock_timestamp() as budget"
    )

    assert 8 < row["budget"].total_seconds() <= 9


@pytest.mark.alone
def test_a_task_beats_every_second_when_asked_to(chores: House) -> None:
    add(chores, "good", interval_s=1)

    run_lane(chores, "fast", "4 seconds")

    assert 4 <= len(done(chores)) <= 5


def test_missed_beats_are_not_made_up_for(chores: House) -> None:
    add(chores, "good", interval_s=60)
    chores.run("update public.cron_tasks set next_run_at = now() - interval '1 day' returning 1")

    run_lane(chores, "fast", "1 second")

    assert done(chores) == ["good"]


def test_a_failing_task_leaves_nothing_and_delays_nobody(chores: House) -> None:
    add(chores, "bad")
    add(chores, "refusing")
    add(chores, "good")

    run_lane(chores, "fast", "1 second")

    assert done(chores) == ["good"]
    assert state(chores, "bad")["last_status"] == "failed"
    assert "broken" in state(chores, "bad")["last_error"]
    assert state(chores, "refusing")["failures"] == 1


def test_the_third_failure_in_a_row_raises_an_alert_and_a_success_ends_the_row(
    chores: House,
) -> None:
    add(chores, "bad")
    alerts = (
        "select count(*) from public.alerts where kind = 'cron_task_failing' and subject = 'bad'"
    )
    counts = []
    for _ in range(3):
        chores.run("select public.run_task('bad')")
        counts.append(chores.one(alerts))
    chores.run("update public.cron_tasks set routine = 'chores.good' returning 1")
    chores.run("select public.run_task('bad')")

    assert counts == [0, 0, 1]
    assert (state(chores, "bad")["failures"], state(chores, "bad")["runs"]) == (0, 4)


def test_simultaneous_runners_run_a_task_once(chores: House) -> None:
    add(chores, "good")

    claimed = at_once(lambda _: chores.one("select public.claim_task('fast')"), 10)

    assert sorted(claimed, key=str) == [None] * 9 + ["good"]


def test_a_task_that_takes_longer_than_its_interval_is_not_started_beside_itself(
    chores: House,
) -> None:
    add(chores, "good", interval_s=1)
    first = chores.one("select public.claim_task('fast')")
    chores.run("update public.cron_tasks set next_run_at = now() - interval '1 second' returning 1")

    second = chores.one("select public.claim_task('fast')")
    chores.run("select public.run_task('good')")
    third = chores.one("select public.claim_task('fast')")

    assert (first, second, third) == ("good", None, "good")


def test_a_task_that_is_cut_off_is_not_first_again_and_counts_as_a_failure(chores: House) -> None:
    add(chores, "endless")
    add(chores, "good")
    with chores.database.connect("postgres") as connection:
        connection.execute("select public.claim_task('fast')")
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("set statement_timeout = '200ms'; select public.run_task('endless')")

    run_lane(chores, "fast", "1 second")
    chores.run(
        "update public.cron_tasks set lease_until = now(), next_run_at = now()"
        " where task = 'endless' returning 1"
    )
    chores.run("select public.claim_task('fast')")

    assert done(chores) == ["good"]
    assert state(chores, "endless")["failures"] == 1
    assert state(chores, "endless")["last_error"] == "cut off before it finished"


@pytest.mark.parametrize("routine", ["pg_sleep", "a.b(); drop table x", "a.b.c", 'a."b"'])
def test_a_routine_is_a_plain_name_in_a_schema(chores: House, routine: str) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        chores.run(
            "insert into public.cron_tasks"
            " (task, lane, interval_s, lease_s, routine, enabled, description)"
            " values ('x', 'fast', 1, 1, %s, true, 'x') returning 1",
            routine,
        )


def test_old_cron_history_goes_away(chores: House) -> None:
    chores.arrange(
        "insert into cron.job_run_details (jobid, runid, status, start_time, end_time)"
        " values (1, 1, 'succeeded', now() - interval '8 days', now() - interval '8 days'),"
        " (1, 2, 'running', now() - interval '8 days', null),"
        " (1, 3, 'succeeded', now() - interval '6 days', now() - interval '6 days')"
    )

    run_lane(chores, "slow", "0.1 seconds")

    assert chores.one("select runid from cron.job_run_details", role="postgres") == 3
