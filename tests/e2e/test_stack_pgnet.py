"""The pg_net stand-in against what was observed of the real worker (0.20.4)."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from scripts.stack.daraja.testing import Receiver, receiving
from scripts.stack.process import wait_until
from scripts.stack.stack import Stack

NOBODY = "http://127.0.0.1:1/"  # a port nothing listens on


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def session(platform: Stack) -> Iterator[psycopg.Connection]:
    with platform.database.connect("postgres") as connection:
        yield connection


def queue(session: psycopg.Connection, call: str, *arguments: object) -> int:
    """Run `net.…` and give the request's id."""
    row = session.execute(f"select net.{call}".encode(), arguments).fetchone()
    assert row is not None
    return int(row[0])


def response(session: psycopg.Connection, request_id: int) -> dict[str, Any]:
    """The stored answer, once there is one."""
    query = (
        "select row_to_json(r) from net._http_response as r where r.id = %s "
        "order by r.created desc limit 1"
    )
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found.extend(row[0] for row in session.execute(query, (request_id,)).fetchall())
        return bool(found)

    wait_until("the response", look)
    return found[0]


def test_committed_request_is_sent_as_postgres_writes_it(
    session: psycopg.Connection, receiver: Receiver
) -> None:
    body = """'{"b": 1, "a": "ü"}'"""

    request_id = queue(session, f'http_post(%s, {body}, \'{{"q": "a b"}}\')', receiver.url)

    sent = receiver.wait()[0]
    assert (sent.path, sent.body.decode()) == ("/?q=a%20b", '{"a": "ü", "b": 1}')
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["user-agent"].startswith("pg_net/0.20")
    answer = response(session, request_id)
    assert (answer["status_code"], answer["timed_out"], answer["error_msg"]) == (200, False, None)


def test_rolled_back_request_is_never_sent(session: psycopg.Connection, receiver: Receiver) -> None:
    with session.transaction(force_rollback=True):
        queue(session, "http_post(%s)", f"{receiver.url}/rolled-back")

    queue(session, "http_post(%s)", f"{receiver.url}/committed")

    assert [sent.path for sent in receiver.wait()] == ["/committed"]


@pytest.mark.alone
def test_idle_worker_is_woken_at_commit(session: psycopg.Connection, receiver: Receiver) -> None:
    asleep = "select count(*) from pg_locks where locktype = 'advisory' and classid = 7310"
    wait_until("sleep", lambda: session.execute(asleep).fetchone() == (1,), timeout_s=10)

    began = time.monotonic()
    queue(session, "http_post(%s)", receiver.url)
    receiver.wait()

    assert time.monotonic() - began < 0.5  # by itself it would look after a second at the earliest


def test_requests_of_many_sessions_are_all_sent_once(platform: Stack, receiver: Receiver) -> None:
    sessions = [platform.database.connect("postgres") for _ in range(10)]
    try:
        for number in range(200):
            queue(sessions[number % 10], "http_post(%s)", f"{receiver.url}/{number}")
        receiver.wait(200)
    finally:
        for session in sessions:
            session.close()

    assert sorted(sent.path for sent in receiver.received) == sorted(f"/{n}" for n in range(200))


def test_response_waits_for_the_slowest_of_its_batch(
    session: psycopg.Connection, receiver: Receiver
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with session.transaction():
            slow = queue(session, "http_get(%s, timeout_milliseconds => 2000)", url)
            quick = queue(session, "http_post(%s)", receiver.url)

        receiver.wait()
        seen = "select from net._http_response where id = %s"
        hidden = session.execute(seen, (quick,)).fetchone()
        late = response(session, slow)

    assert hidden is None
    words, total, took = late["error_msg"].partition(" Total time: ")
    assert words + total == "Timeout of 2000 ms reached. Total time: "
    assert float(took.partition(" ")[0]) >= 2000
    assert late["timed_out"] is True
    assert response(session, quick)["status_code"] == 200


@pytest.mark.parametrize(
    ("url", "words"),
    [(NOBODY, "Couldn't connect to server"), ("ftp://127.0.0.1/", "Unsupported protocol")],
)
def test_failure_is_a_row_with_the_words_of_pg_net(
    session: psycopg.Connection, url: str, words: str
) -> None:
    answer = response(session, queue(session, "http_get(%s)", url))

    assert (answer["status_code"], answer["error_msg"]) == (None, words)


@pytest.mark.parametrize(
    ("call", "sqlstate", "words"),
    [
        ("http_get('nonsense')", "XX000", 'invalid URL "nonsense": Bad scheme'),
        ("http_get('gopher://x/')", "XX000", "Unsupported URL scheme"),
        ("http_get(null)", "23502", "null value"),
        (
            """http_post('http://x/', headers => '{"content-type": "text/plain"}')""",
            "P0001",
            'Content-Type header must be "application/json"',
        ),
    ],
)
def test_bad_input_raises_in_the_caller(
    session: psycopg.Connection, call: str, sqlstate: str, words: str
) -> None:
    with pytest.raises(psycopg.Error, match=words) as raised:
        queue(session, call)

    assert raised.value.sqlstate == sqlstate


def test_any_role_may_send_and_collect(session: psycopg.Connection, receiver: Receiver) -> None:
    session.execute("set role anon")
    request_id = queue(session, "http_post(%s)", receiver.url)
    response(session, request_id)

    collected = session.execute(
        "select (c).status::text, ((c).response).status_code "
        "from net._http_collect_response(%s) as c",
        (request_id,),
    ).fetchone()

    assert collected == ("SUCCESS", 200)


def test_crash_of_the_server_empties_the_queue_and_restarts_ids(platform: Stack) -> None:
    platform.children["pg_net"].kill()
    with platform.database.connect() as session:
        session.execute("select pg_advisory_lock_shared(7310, 1)")
        queue(session, "http_get(%s)", NOBODY)

    platform.kill("postgres")
    platform.wait_ready()

    with platform.database.connect() as session:
        left = session.execute("select count(*) from net._http_response").fetchone()
        assert left == (0,)
        assert queue(session, "http_get(%s)", NOBODY) == 1
