"""A stack stopped, killed and started again; two of them side by side; the two commands."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.stack import lock
from scripts.stack.places import ROOT
from scripts.stack.process import descendants, wait_until
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block, session_state


@pytest.fixture
def state() -> Iterator[Path]:
    with session_state("lifecycle") as path:
        yield path


def note(stack: Stack, text: str) -> None:
    with stack.database.connect() as connection:
        connection.execute("create table if not exists notes (text text)")
        connection.execute("insert into notes values (%s)", (text,))


def notes(stack: Stack) -> list[str]:
    with stack.database.connect() as connection:
        return [row[0] for row in connection.execute("select text from notes").fetchall()]


def test_data_and_keys_survive_stop_and_start(state: Path) -> None:
    port = free_block()
    first = Stack(state=state, port=port, functions=())
    try:
        first.start()
        note(first, "written before")
        token = first.role_token("service_role")
        first.stop()

        second = Stack(state=state, port=port, functions=()).start()
        try:
            assert notes(second) == ["written before"]
            assert second.role_token("service_role") == token
        finally:
            second.stop()
    finally:
        first.stop()
        first.erase()


def test_durable_settings_are_on_unless_a_test_says_otherwise(state: Path) -> None:
    settings = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums")
    stack = Stack(state=state, port=free_block(), functions=())
    try:
        stack.start()
        with stack.database.connect() as connection:
            found = [connection.execute(f"show {name}".encode()).fetchone() for name in settings]
    finally:
        stack.stop()
        stack.erase()

    assert found == [("on",)] * len(settings)


@pytest.mark.parametrize("name", ["gateway", "postgrest", "pg_net", "daraja", "postgres"])
def test_killed_process_comes_back_by_itself(platform: Stack, name: str) -> None:
    note(platform, f"before {name}")
    before = platform.children[name].pid

    platform.kill(name)
    platform.wait_ready()

    assert platform.children[name].pid not in (None, before)
    assert f"before {name}" in notes(platform)
    key = {"apikey": platform.keys["secret_key"]}
    # Each dead pooled connection of the Data API costs one 503.
    wait_until(
        "the Data API",
        lambda: httpx.get(f"{platform.url}/rest/v1/", headers=key).status_code == 200,
    )


def test_migrations_run_as_a_role_that_is_no_superuser(platform: Stack) -> None:
    with platform.database.connect("postgres") as connection:
        who = "select rolname, rolsuper from pg_roles where rolname = current_user"
        assert connection.execute(who).fetchone() == ("postgres", False)


def test_two_stacks_do_not_touch_each_other(platform: Stack, state: Path) -> None:
    other = Stack(state=state, port=free_block(), fsync=False, functions=())
    try:
        other.start()
        note(platform, "mine")
        note(other, "theirs")
        assert "theirs" not in notes(platform)
        assert other.keys["secret_key"] != platform.keys["secret_key"]
    finally:
        other.stop()
        other.erase()

    assert httpx.get(f"{platform.url}/healthz").is_success


def test_supervisor_killed_with_sigkill_leaves_no_process_behind(state: Path) -> None:
    port = free_block()
    program = (
        "import sys, threading; from pathlib import Path; from scripts.stack.stack import Stack\n"
        f"s = Stack(state=Path({str(state)!r}), port={port}, fsync=False, functions=()).start()\n"
        "print('up', flush=True); threading.Event().wait()"
    )
    with subprocess.Popen(  # noqa: S603  our own interpreter and words
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as supervisor:
        assert supervisor.stdout is not None
        supervisor.stdout.readline()
        below = descendants(supervisor.pid)
        supervisor.kill()
        supervisor.wait()

    try:
        assert len(below) > 5
        wait_until("their end", lambda: not any(alive(pid) for pid in below))
    finally:
        Stack(state=state, port=port).erase()


def test_lock_tells_who_runs_and_is_free_afterwards(state: Path) -> None:
    held = lock.hold(state)
    assert held is not None

    ask = "from scripts.stack import lock; p = Path({!r}); print(lock.hold(p), lock.holder(p))"
    code = f"from pathlib import Path; {ask.format(str(state))}"
    other = subprocess.run(  # noqa: S603  our own interpreter and words
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
    )
    held.close()

    assert other.stdout.split() == ["None", str(os.getpid())]
    assert lock.holder(state) is None


def alive(pid: int) -> bool:
    """Running, not a zombie that nobody has collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
