"""Starts the local stack, seeds it, shows one payment, and stays until Ctrl-C or scripts/down."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TextIO

from scripts.stack import demo, lock, seed
from scripts.stack.console import Console
from scripts.stack.places import ROOT, StackError, base_port
from scripts.stack.process import wait_until
from scripts.stack.stack import Stack

STATE = ROOT / ".stalela"
READY = STATE / "ready"  # exists while the stack of this checkout serves; holds what was printed


def main() -> int:
    """Exit code 1 with one sentence when the stack cannot start."""
    parser = argparse.ArgumentParser(prog="scripts/up", description=__doc__)
    parser.add_argument("--detach", action="store_true", help="return when it is ready")
    parser.add_argument("--no-demo", action="store_true", help="without the demonstration payment")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.umask(0o077)  # what is printed and logged holds sandbox keys
    try:
        if options.detach:
            return detach(["--no-demo"] if options.no_demo else [])
        return serve(show_logs=not options.serve, with_demo=not options.no_demo)
    except (StackError, TimeoutError) as problem:
        print(f"up: {problem}", file=sys.stderr)
        return 1


def serve(*, show_logs: bool, with_demo: bool) -> int:
    """Run the stack in this process until a signal asks it to end."""
    began = time.monotonic()
    held = lock.hold(STATE)
    if held is None:
        raise StackError("the stack of this checkout is running already; ./scripts/down stops it.")
    READY.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ./scripts/down is a Ctrl-C
    console = Console(STATE / "logs/stack.log", show=False)
    stack = Stack(port=base_port(), state=STATE, log=console)
    print(f"up: starting on ports {stack.ports.base} to {stack.ports.last}", flush=True)
    try:
        stack.start()
        print(f"up: ready after {time.monotonic() - began:.1f} s", flush=True)
        seed.seed(stack)
        if with_demo:
            demo.show(stack)
        guide = demo.guide(stack)
        print(guide, flush=True)
        READY.write_text(guide)
        console.show = show_logs
        threading.Event().wait()
    except KeyboardInterrupt:
        console.show = show_logs
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # once is enough
        print("up: stopping", flush=True)
        READY.unlink(missing_ok=True)
        stack.stop()
    print("up: stopped, the data stays", flush=True)
    return 0


def detach(options: list[str]) -> int:
    """Run the stack in a process of its own; pass its words on until it is ready."""
    output = STATE / "logs/up.log"
    output.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if lock.holder(STATE) is not None:
        raise StackError("the stack of this checkout is running already; ./scripts/down stops it.")
    READY.unlink(missing_ok=True)
    with output.open("wb") as file:
        server = subprocess.Popen(
            [sys.executable, "-m", "scripts.stack.up", "--serve", *options],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )
    with output.open() as words:
        wait_until("the stack", lambda: has_news(words, server), timeout_s=120)
        copy_new(words)
    return server.poll() or 0


def copy_new(words: TextIO) -> None:
    """Print what a growing file gained."""
    sys.stdout.write(words.read())
    sys.stdout.flush()


def has_news(words: TextIO, server: subprocess.Popen[bytes]) -> bool:
    """Pass on what was said; whether it is ready, or ended before it was."""
    copy_new(words)
    return READY.exists() or server.poll() is not None


if __name__ == "__main__":
    sys.exit(main())
