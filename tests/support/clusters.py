"""A Postgres cluster that ran every migration: made once, copied by the stacks of tests."""

import fcntl
import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from scripts.stack.database import migration_files
from scripts.stack.places import ROOT
from scripts.stack.postgres import BOOTSTRAP, Cluster, program
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block

STATE = ROOT / ".stalela" / "test-cluster"


def start(stack: Stack) -> Stack:
    """Start a new stack as if it had run before, without initdb and migrations."""
    with _model() as model:
        copy = ["cp", "--archive", "--reflink=auto", str(model.home), str(stack.cluster.home)]
        subprocess.run(copy, check=True)  # noqa: S603  our own words
    return stack.start()


@contextmanager
def _model() -> Iterator[Cluster]:
    """The stopped cluster; nobody else makes it meanwhile."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stack, made_of = Stack(state=STATE, port=free_block(), fsync=False), STATE / "made_of"
        if not made_of.exists() or made_of.read_text() != _origin():
            made_of.unlink(missing_ok=True)
            stack.erase()
            try:
                stack.cluster.start()
                stack.migrate()
            finally:
                stack.stop()
            made_of.write_text(_origin())
        yield stack.cluster


def _origin() -> str:
    """All that decides what a new cluster holds."""
    files = [*sorted(BOOTSTRAP.glob("*.sql")), *migration_files()]
    texts = b"\0".join(path.read_bytes() for path in files)
    return f"{program('initdb')} {hashlib.sha256(texts).hexdigest()}"
