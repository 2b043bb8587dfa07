import os
import sys
from pathlib import Path

import pytest

from scripts.stack.process import Child, wait_until


class Lines:
    """A log that remembers."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def __call__(self, _name: str, line: str) -> None:
        self.all.append(line)


def python(code: str, log: Lines) -> Child:
    return Child("program", [sys.executable, "-u", "-c", code], log=log, env=dict(os.environ))


def test_program_that_dies_is_started_again_and_its_end_is_said() -> None:
    log = Lines()
    child = python("import os; print('hello'); os._exit(3)", log)

    child.start()
    wait_until("a second start", lambda: log.all.count("hello") > 1)
    child.stop()

    assert "ended with 3; starting it again" in log.all
    assert child.pid is None


def test_program_that_ignores_the_request_to_end_is_killed() -> None:
    log = Lines()
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(60)"
    child = python(code, log)
    child.start()
    wait_until("its first line", lambda: "up" in log.all)

    child.stop(patience_s=0.2)

    assert child.pid is None


def test_orphans_that_hear_nothing_do_not_hold_up_the_next_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("scripts.stack.process.ORPHANS_S", 0.2)
    log = Lines()
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    code = (
        "import os, subprocess, sys; "
        f"p = subprocess.Popen({sleeper}, start_new_session=True); print(p.pid); os._exit(3)"
    )
    child = python(code, log)

    child.start()
    wait_until("a second start", lambda: sum(line.isdigit() for line in log.all) > 1)
    child.stop()

    wait_until("its end", lambda: not is_running(int(log.all[0])))


def test_kill_reaches_grandchildren_in_other_sessions() -> None:
    log = Lines()
    sleeper = "[sys.executable, '-c', 'import time; time.sleep(60)']"
    code = (
        "import subprocess, sys; "
        f"p = subprocess.Popen({sleeper}, start_new_session=True); print(p.pid); p.wait()"
    )
    child = python(code, log)
    child.start()
    wait_until("the grandchild", lambda: bool(log.all))
    grandchild = int(log.all[0])

    child.kill()
    child.stop()

    wait_until("its end", lambda: not is_running(grandchild))


def is_running(pid: int) -> bool:
    """Not gone, and not a zombie that waits to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_not_ready_in_time_is_named() -> None:
    with pytest.raises(TimeoutError, match="the moon was not ready within 0 s"):
        wait_until("the moon", lambda: False, timeout_s=0.05)
