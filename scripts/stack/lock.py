"""One running stack per state directory: the lock says it runs, its file says which process."""

import fcntl
import os
from pathlib import Path
from typing import TextIO


def hold(state: Path) -> TextIO | None:
    """Take the lock until the process ends; None when another process holds it."""
    state.mkdir(mode=0o755, parents=True, exist_ok=True)
    file = (state / "stack.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def holder(state: Path) -> int | None:
    """The process that runs the stack of `state`; None when nobody does."""
    path = state / "stack.lock"
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read())
    return None


def wait_until_free(state: Path) -> None:
    """Block until the running stack has ended."""
    with (state / "stack.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
