"""Audit, alerts and pokes: what is written beside the work."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from tests.sql.public.house import House, at_once, run_in
from tests.support.simulator import until

ALERT = "select public.raise_alert('rail_down', 'critical', %s, null, null, %s)"


def alert(house: House, subject: str) -> dict[str, object]:
    (row,) = house.run(
        "select occurrences, details, status from public.alerts where subject = %s", subject
    )
    return row


def test_an_audit_entry_says_who_where_and_in_which_request(house: House) -> None:
    key = house.key()
    house.run(
        "select public.audit(public.caller(), 'thing.do', 'th_1', '{\"a\": 1}')",
        headers=key.headers | {"x-request-id": "req_1"},
    )

    (row,) = house.run("select * from public.audit_log where tenant_id = %s", key.tenant_id)

    assert (row["actor"], row["environment"]) == (key.key_id, "sandbox")
    assert (row["subject"], row["details"], row["request_id"]) == ("th_1", {"a": 1}, "req_1")


def test_the_house_itself_is_the_actor_when_nobody_calls(house: House) -> None:
    house.run("select public.audit(null, 'task.run', 'nightly', null)")

    assert house.one("select actor from public.audit_log where subject = 'nightly'") == "system"


@pytest.mark.parametrize("role", ["stalela_owner", "supabase_admin"])
@pytest.mark.parametrize(
    "change",
    [
        "update public.audit_log set actor = 'x'",
        "update public.audit_log set actor = 'x' where false",
        "delete from public.audit_log",
        "truncate public.audit_log",
    ],
)
def test_the_audit_log_never_changes(house: House, change: str, role: str) -> None:
    with pytest.raises(psycopg.Error, match=r"public\.audit_log is append-only"):
        house.run(change, role=role)


def test_repeated_trouble_is_one_alert_that_counts(house: House) -> None:
    house.run(ALERT, "mpesa", '{"n": 1}')
    house.run(ALERT, "mpesa", '{"n": 2}')

    assert alert(house, "mpesa") == {"occurrences": 2, "details": {"n": 2}, "status": "open"}


def test_trouble_after_a_resolution_opens_a_new_alert(house: House) -> None:
    house.run(ALERT, "ecocash", "{}")
    house.run(
        "update public.alerts set status = 'resolved', resolved_at = now()"
        " where subject = 'ecocash' returning 1"
    )
    house.run(ALERT, "ecocash", "{}")

    rows = house.run("select status from public.alerts where subject = 'ecocash' order by alert_id")
    assert [row["status"] for row in rows] == ["resolved", "open"]


def test_an_alert_waits_for_nobody(house: House) -> None:
    house.run(ALERT, "busy", "{}")
    with house.database.connect(autocommit=False) as holder:
        run_in(holder, ALERT, "busy", "{}")
        started = time.monotonic()
        house.run(ALERT, "busy", "{}")
        waited = time.monotonic() - started
        holder.commit()

    assert waited < 30, "it waited for a lock until that timed out"
    assert alert(house, "busy")["occurrences"] == 2


def test_simultaneous_alerts_open_one(house: House) -> None:
    at_once(lambda _: house.run(ALERT, "storm", "{}"), 20)

    assert 1 <= alert(house, "storm")["occurrences"] <= 20  # type: ignore[operator]


@pytest.fixture
def poked_house(empty_house: House) -> House:
    """A house whose vault knows where functions live."""
    empty_house.arrange(
        "select vault.create_secret('http://127.0.0.1:1/functions/v1', 'functions_base_url', '');"
        "select vault.create_secret('internal-token', 'internal_token', '')"
    )
    return empty_house


def queued(house: House) -> list[tuple[str, str | None]]:
    rows = house.run("select url, headers from net.http_request_queue order by id", role="postgres")
    return [(row["url"], row["headers"].get("Authorization")) for row in rows]


def test_a_poke_goes_to_the_url_of_the_function_with_our_token(poked_house: House) -> None:
    poked_house.run("select public.poke('momo_callback')")

    assert queued(poked_house) == [
        ("http://127.0.0.1:1/functions/v1/momo-callback", "Bearer internal-token")
    ]


def test_a_busy_pause_is_one_poke_for_each_function(poked_house: House) -> None:
    # An hour, and `poke` itself a second (the next test): twenty connections may take longer.
    poke = "select public.poke_all(array[%s], interval '1 hour')"
    at_once(lambda _: poked_house.run(poke, "reconcile"), 20)
    poked_house.run(poke, "reconcile")
    poked_house.run(poke, "webhooks")

    assert [url.rpartition("/")[2] for url, _ in queued(poked_house)] == ["reconcile", "webhooks"]


def test_somebody_pokes_between_our_look_and_our_turn(poked_house: House) -> None:
    waiting = (
        "select count(*) from pg_catalog.pg_stat_activity"
        " where datname = current_database() and wait_event_type = 'Lock'"
    )
    with poked_house.database.connect(autocommit=False) as holder, ThreadPoolExecutor(1) as pool:
        run_in(holder, "insert into public.pokes values ('reconcile', now()) returning 1")
        ours = pool.submit(
            poked_house.run, "select public.poke_all('{reconcile,webhooks}', interval '1 hour')"
        )
        until(
            lambda: poked_house.one(waiting, role="postgres") == 1,
            "our poke at its first function",
        )
        poked_house.run("select public.poke('webhooks')")
        holder.rollback()
        ours.result()

    assert sorted(url.rpartition("/")[2] for url, _ in queued(poked_house)) == [
        "reconcile",
        "webhooks",
    ]


def test_the_next_second_pokes_again(poked_house: House) -> None:
    poked_house.run("select public.poke('reconcile')")
    poked_house.run("update public.pokes set poked_at = poked_at - interval '1 second' returning 1")
    poked_house.run("select public.poke('reconcile')")

    assert len(queued(poked_house)) == 2


def test_a_poke_that_was_rolled_back_does_not_silence_the_next(poked_house: House) -> None:
    with poked_house.database.connect(autocommit=False) as connection:
        run_in(connection, "select public.poke('reconcile')")
        connection.rollback()
    poked_house.run("select public.poke('reconcile')")

    assert len(queued(poked_house)) == 1


def test_a_poke_waits_for_nobody(poked_house: House) -> None:
    with poked_house.database.connect(autocommit=False) as holder:
        run_in(holder, "select public.poke('reconcile')")
        started = time.monotonic()
        poked_house.run("select public.poke('reconcile')")
        waited = time.monotonic() - started

    assert waited < 30, "it waited for a lock until that timed out"


def test_a_house_without_vault_rows_pokes_nobody(empty_house: House) -> None:
    empty_house.run("select public.poke('reconcile')")

    assert queued(empty_house) == []


def test_a_poke_that_fails_leaves_the_business_alone(poked_house: House) -> None:
    poked_house.arrange("drop function net.http_post cascade")
    with poked_house.database.connect(autocommit=False) as connection:
        run_in(connection, ALERT, "survivor", "{}")
        run_in(connection, "select public.poke('reconcile')")
        connection.commit()

    assert alert(poked_house, "survivor")["occurrences"] == 1
