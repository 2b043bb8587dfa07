"""One program of the stack: started, its lines passed on, started again when it dies."""

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

Log = Callable[[str, str], None]  # (process name, line)

PAUSE_FIRST_S, PAUSE_MAX_S = 0.05, 2.0  # before starting a program again that died at once
LIVED_S = 2.0  # after this long a program counts as having started well
ORPHANS_S = 5.0  # for those below a program that died to notice; then they are ended


class Child:
    """A supervised program. Its thread is the parent: the kernel ends the program with it.

    Linux sends PR_SET_PDEATHSIG (here through setpriv) when the *thread* that forked ends, so
    even a supervisor that is killed with SIGKILL leaves no orphans.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Log,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name, self.log, self.stop_signal = name, log, stop_signal
        identity = ["--reuid", user, "--regid", user, "--init-groups"] if user else []
        ends = stop_signal.name.removeprefix("SIG")
        self.command = ["setpriv", "--pdeathsig", ends, *identity, "--", *command]
        self.env = dict(env) if env is not None else None
        self.restarts = 0
        self.last_lines: deque[str] = deque(maxlen=12)
        self._stopping = threading.Event()
        self._running: subprocess.Popen[str] | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._supervise, name=f"child-{name}", daemon=True)

    def start(self) -> None:
        """Start it; returns when the program exists, not when it is ready."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._running or not self._thread.is_alive())

    def stop(self, patience_s: float = 15) -> None:
        """Ask it to end, wait; after `patience_s` insist."""
        self._stopping.set()
        self._signal(self.stop_signal)
        self._thread.join(patience_s)
        if self._thread.is_alive():
            self.kill()
            self._thread.join()

    def kill(self) -> None:
        """SIGKILL for the program and all its descendants; returns when it is dead."""
        running = self._running
        if running is None:
            return
        _end(running.pid, *descendants(running.pid))
        running.wait()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        running = self._running
        return running.pid if running and running.poll() is None else None

    def _supervise(self) -> None:
        pause_s = PAUSE_FIRST_S
        while not self._stopping.is_set():
            started = time.monotonic()
            code = self._run_once()
            if self._stopping.is_set():
                return
            pause_s = PAUSE_FIRST_S if time.monotonic() - started > LIVED_S else pause_s * 2
            self.restarts += 1
            self.log(self.name, f"ended with {code}; starting it again")
            self._stopping.wait(min(pause_s, PAUSE_MAX_S))

    def _run_once(self) -> int:
        with subprocess.Popen(
            self.command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C reaches the supervisor only, which stops in order
        ) as running:
            with self._changed:
                self._running = running
                self._changed.notify_all()
            if self._stopping.is_set():
                self._signal(self.stop_signal)
            assert running.stdout is not None, "it is a pipe"
            pipe, silent = os.fstat(running.stdout.fileno()).st_ino, threading.Event()
            threading.Thread(target=_end_orphans, args=(running, pipe, silent), daemon=True).start()
            # The pipe ends when the last process holding it ended: also orphaned backends.
            for line in running.stdout:
                self.last_lines.append(line.rstrip("\n"))
                self.log(self.name, self.last_lines[-1])
            silent.set()
            return running.wait()

    def _signal(self, number: signal.Signals) -> None:
        running = self._running
        if running is not None and running.poll() is None:
            with suppress(ProcessLookupError):
                running.send_signal(number)


def _end_orphans(running: "subprocess.Popen[str]", pipe: int, silent: threading.Event) -> None:
    """End whoever still holds the pipe of a program that is dead.

    A backend that waits for a lock of one that was killed never hears that its postmaster is gone,
    and no new postmaster may start beside it.
    """
    running.wait()
    while not silent.wait(ORPHANS_S):
        _end(*writers(pipe))


def writers(pipe: int) -> list[int]:
    """Process ids whose standard output is the pipe of this inode."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if str((entry / "fd/1").readlink()) == f"pipe:[{pipe}]":
                    found.append(int(entry.name))
    return found


def _end(*pids: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Process ids below `pid`, whatever their session or group."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                stat = (entry / "stat").read_text()
                parent = int(stat.rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found = parents.get(pid, [])
    return found + [below for child in found for below in descendants(child)]


def wait_until(what: str, probe: Callable[[], bool], *, timeout_s: float = 60) -> None:
    """Poll `probe` every 10 ms until it is true. Raises TimeoutError naming `what`."""
    deadline = time.monotonic() + timeout_s
    while not probe():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was not ready within {timeout_s:.0f} s")
        time.sleep(0.01)
