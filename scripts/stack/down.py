"""Stops the local stack of this checkout. Standard library only, as it may run before setup."""

import argparse
import os
import shutil
import signal
import sys

from scripts.stack import lock
from scripts.stack.places import ROOT, postgres_home, socket_directory


def main() -> int:
    """Ask the running stack to end and wait for it; with --erase remove its data."""
    parser = argparse.ArgumentParser(prog="scripts/down", description=__doc__)
    parser.add_argument("--erase", action="store_true", help="also throw the local data away")
    erase = parser.parse_args().erase
    state = ROOT / ".stalela"
    pid = lock.holder(state)
    if pid is None:
        print("down: nothing is running here")
    else:
        os.kill(pid, signal.SIGTERM)
        lock.wait_until_free(state)
        print("down: stopped")
    if erase:
        home = postgres_home(state)
        for path in (socket_directory(home), home, state / "daraja"):
            shutil.rmtree(path, ignore_errors=True)
        (state / "keys.json").unlink(missing_ok=True)
        print("down: the local data is gone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
