"""Runs a bundle as a platform would: only its files, only its packages, only its environment."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bundling import image
from scripts.stack.install import TOOLS
from scripts.stack.testing import free_block

_HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: bundle\r\nConnection: close\r\n\r\n"
_PATIENCE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Installed:
    """A bundle outside the repository, with a virtual environment of its own."""

    folder: Path

    @property
    def command(self) -> tuple[str, ...]:
        """What the image runs."""
        return (str(self.folder / "venv/bin/python"), "main.py")


@dataclass(frozen=True, slots=True)
class Running:
    """A bundle that has answered. cold_start_ms: from before the fork to the first 200."""

    pid: int
    port: int
    cold_start_ms: float
    start_cpu_ms: (
        float  # processor time up to then, which other programs on the machine disturb less
    )

    def resident_mb(self) -> float:
        """Memory in RAM now, in 10^6 bytes (VmRSS of proc(5))."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6


def install(bundle: Path, folder: Path, like: Installed | None = None) -> Installed:
    """Copy `bundle` to `folder`, install its locked packages there, compile all as the image does.

    like: another bundle with the same list of packages; what they installed is linked, not
    installed and compiled again. Raises CalledProcessError when a hash is not the locked one, or a
    package needs one that is not in the bundle.
    """
    shutil.copytree(bundle, folder)
    python, not_compiled = str(folder / "venv/bin/python"), image.NOT_COMPILED
    if like:
        packages = like.folder / "venv"
        shutil.copytree(packages, folder / "venv", symlinks=True, copy_function=os.link)
        not_compiled = f"^./venv/|{not_compiled}"
    else:
        _install_packages(folder, python)
    _run(folder, python, *image.COMPILE, "-x", not_compiled, ".")
    return Installed(folder)


def _install_packages(folder: Path, python: str) -> None:
    uv = str(TOOLS / "bin/uv")
    base = getattr(sys, "_base_executable", sys.executable)
    _run(folder, uv, "venv", "--quiet", "--no-project", "--python", base, "venv")
    exactly = ("--quiet", "--python", python, "--no-deps", "--require-hashes")
    wheels = ("--only-binary", ":all:", "-r", "requirements.txt")
    _run(folder, uv, "pip", "install", *exactly, *wheels)
    if (folder / "sources.txt").exists():
        built = ("--no-build-isolation", "--no-binary", ":all:", "-r", "sources.txt")
        _run(folder, uv, "pip", "install", *exactly, *built)
    _run(folder, uv, "pip", "check", "--quiet", "--python", python)


@contextmanager
def started(installed: Installed, environment: Mapping[str, str]) -> Iterator[Running]:
    """The bundle running with exactly `environment` and a free port; stopped at the end."""
    port = free_block()
    own = {**environment, "HOST": "127.0.0.1", "PORT": str(port)}
    log = installed.folder / "log"
    begin = time.perf_counter()
    with log.open("wb") as lines, _spawn(installed, own, lines.fileno()) as process:
        try:
            _wait_for_health(process, port, log)
            wall_ms = (time.perf_counter() - begin) * 1000
            yield Running(process.pid, port, wall_ms, _cpu_ms(process.pid))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_PATIENCE_S)


def import_cpu_ms(installed: Installed, modules: str) -> float:
    """Processor time of a bare interpreter of the bundle that imports `modules` ("a, b")."""
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    python = installed.command[0]
    subprocess.run([python, "-c", f"import {modules}"], cwd=installed.folder, env={}, check=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (end.ru_utime - begin.ru_utime + end.ru_stime - begin.ru_stime) * 1000


def run_to_end(installed: Installed, environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit code and the complaints of a bundle that cannot start."""
    ended = subprocess.run(
        installed.command,
        cwd=installed.folder,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
    )
    return ended.returncode, ended.stderr


def _cpu_ms(pid: int) -> float:
    # Fields 14 and 15 of proc(5), in clock ticks; the name before them may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def _spawn(
    installed: Installed, environment: Mapping[str, str], output: int
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        installed.command,
        cwd=installed.folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
    )


def _wait_for_health(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not _is_healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the bundle did not answer /healthz:\n{log.read_text()}")
        time.sleep(0.001)


def _is_healthy(port: int) -> bool:
    # A bare socket: an HTTP client would add its own start to the time.
    with suppress(ConnectionError), socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_HEALTH)
        return connection.recv(64).startswith(b"HTTP/1.1 200 ")
    return False


def _run(folder: Path, *command: str) -> None:
    # Not in the checkout, so that none of its settings reach the tools.
    own = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run(command, cwd=folder, env=own, check=True)
