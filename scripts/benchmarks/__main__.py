"""Measures what this machine can do and what we make of it, in the same run."""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from scripts.benchmarks.balances import measure_balances
from scripts.benchmarks.booking import measure_booking
from scripts.benchmarks.callbacks import measure_callbacks
from scripts.benchmarks.intents import measure_confirms, measure_creates
from scripts.benchmarks.lists import measure_lists
from scripts.benchmarks.outbox import measure_outbox
from scripts.benchmarks.place import GATEWAY, Place, furnished
from scripts.benchmarks.recon import measure_recon
from scripts.benchmarks.rounds import OTHERS_MAX, Rounds
from scripts.benchmarks.scale import FULL, LONG, SHORT, Scale
from scripts.benchmarks.sealing import measure_sealing
from scripts.benchmarks.starts import measure_starts
from scripts.benchmarks.table import Figure, table
from scripts.benchmarks.taxes import measure_taxes
from scripts.benchmarks.transactions import measure_transactions
from scripts.benchmarks.verify import measure_verify
from scripts.benchmarks.walk import measure_walk
from scripts.benchmarks.webhooks import measure_webhooks
from scripts.stack import lock
from scripts.stack.places import ROOT, StackError
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block

STATE: Final = ROOT / ".stalela/bench"
PARTS: Final = (
    "create",
    "confirm",
    "callback",
    "sql",
    "booking",
    "balance",
    "start",
    "list",
    "outbox",
    "webhook",
    "recon",
    "walk",
    "verify",
    "sealing",
    "tax",
)


def main() -> int:
    """Exit code 1 when a target was missed or nothing could be measured."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("part", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; else all")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="one short round, to try it out")
    length.add_argument(
        "--long", action="store_true", help="one round; the outbox is read for ten minutes"
    )
    options = parser.parse_args()
    if unknown := set(options.part) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: tidily
    scale = SHORT if options.short else LONG if options.long else FULL
    rounds, figures = Rounds(scale.rounds, say), list[Figure]()
    try:
        with running_stack() as stack, furnished(stack) as place:
            for part in (part for part in PARTS if part in (options.part or PARTS)):
                figures += measure(part, place, scale, rounds)
            say("stopping")
    except (StackError, TimeoutError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        if figures:
            print(f"\n{table(figures)}\n\n{notes(figures, rounds)}")
    return 1 if any(one.is_missed for one in figures) else 0


def measure(part: str, place: Place, scale: Scale, rounds: Rounds) -> list[Figure]:
    """The figures of one part."""
    measures: dict[str, Callable[[], list[Figure]]] = {
        "create": lambda: measure_creates(place, rounds, scale.seconds),
        "confirm": lambda: measure_confirms(place, rounds, scale.confirms),
        "callback": lambda: measure_callbacks(place, rounds, scale.callbacks),
        "sql": lambda: measure_transactions(place, rounds, scale.seconds),
        "booking": lambda: measure_booking(place, rounds, scale.seconds),
        "balance": lambda: measure_balances(place, rounds, 4 * scale.seconds, scale.events),
        "sealing": lambda: measure_sealing(place, rounds, scale.seconds),
        "tax": lambda: measure_taxes(place, rounds),
        "start": lambda: measure_starts(place, rounds, scale.starts),
        "list": lambda: measure_lists(place.stack, rounds, (scale.few, scale.many), say),
        "outbox": lambda: measure_outbox(place, rounds, scale.events, scale.steady_s),
        "webhook": lambda: measure_webhooks(place, rounds, scale.seconds),
        "recon": lambda: measure_recon(place.stack, rounds, scale.reconciled, say),
        "walk": lambda: measure_walk(place.stack, rounds, scale.walked, say),
        "verify": lambda: measure_verify(place.stack, rounds, scale.verified, scale.seconds, say),
    }
    return measures[part]()


def notes(figures: list[Figure], rounds: Rounds) -> str:
    """How to read the table."""
    noisy = sum(one.is_noisy for one in figures)
    lines = [
        "limit and product were measured in turn, in the same run; values are medians.",
        f"others: share of this machine ({os.cpu_count()} cores) that other programs used;",
        f"runs with more than {OTHERS_MAX:.0%} were made again ({rounds.discarded} discarded).",
    ]
    if noisy:
        lines.append(f"{noisy} figures are noisy: the machine was never quiet. Measure them again.")
    return "\n".join(lines)


@contextmanager
def running_stack() -> Iterator[Stack]:
    """A stack as durable as a hosted one, in a directory of its own that goes away at the end.

    After a failure the directory stays, with what the stack's processes said in its `log`.
    """
    held = lock.hold(STATE)
    if held is None:
        raise StackError("another bench of this checkout is running.")
    with held, (STATE / "log").open("w", buffering=1) as log:
        stack = Stack(
            state=STATE,
            port=free_block(),
            functions=GATEWAY,
            overrides={"log_level": "warning"},
            log=lambda name, line: print(f"{name} | {line}", file=log),
        )
        say(f"starting on ports {stack.ports.base} to {stack.ports.last}")
        try:
            yield stack.start()
        finally:
            stack.stop()
            stack.erase()
    shutil.rmtree(STATE)


def say(line: str) -> None:
    """One line of progress."""
    print(f"bench {time.strftime('%H:%M:%S')}  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
