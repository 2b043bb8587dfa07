"""What people see of a running stack: one prefixed, coloured line per process and line."""

import sys
import threading
from pathlib import Path

COLOURS = {
    "postgres": 34,
    "postgrest": 36,
    "gateway": 32,
    "pg_net": 35,
    "daraja": 33,
    "resend": 31,
    "emcf": 31,
    "oss": 94,
    "etims": 31,
    "fdms": 31,
    "stack": 1,
}
WIDTH = max(map(len, COLOURS))


class Console:
    """Prints lines of several threads whole, and keeps them in a file."""

    def __init__(self, path: Path, *, show: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", buffering=1)
        self.show, self._lock = show, threading.Lock()
        self._colour = sys.stdout.isatty()

    def __call__(self, name: str, line: str) -> None:
        label = name.ljust(WIDTH)
        with self._lock:
            self._file.write(f"{label} | {line}\n")
            if self.show:
                if self._colour:
                    label = f"\033[{COLOURS.get(name, 37)}m{label}\033[0m"
                print(f"{label} | {line}", flush=True)
