"""Places for stacks that live as long as one test session."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.stack.places import ROOT
from scripts.stack.probe import taken

BLOCK = 10  # ports of one stack
FIRST, LAST = 20_000, 32_000  # below the range the kernel gives to outgoing connections


def free_block() -> int:
    """The first port of a free block; where the search begins depends on the process.

    Nobody is given the block again, though what is to listen there may start seconds later.
    """
    blocks = (LAST - FIRST) // BLOCK
    for step in range(blocks):
        base = FIRST + (os.getpid() * 7 + step) % blocks * BLOCK
        if _is_ours(base) and not taken(range(base, base + BLOCK)):
            return base
    raise OSError(f"no {BLOCK} free ports in a row between {FIRST} and {LAST}")


@contextmanager
def session_state(name: str) -> Iterator[Path]:
    """A state directory of this process, removed at the end."""
    path = ROOT / ".stalela" / f"test-{os.getpid()}-{name}"
    path.mkdir(mode=0o755, parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _is_ours(base: int) -> bool:
    seat = socket.socket(socket.AF_UNIX)
    try:
        seat.bind(f"\0stalela-ports-{base}")  # abstract: no file
    except OSError:
        seat.close()
        return False
    seat.detach()  # open as long as this process lives
    return True
