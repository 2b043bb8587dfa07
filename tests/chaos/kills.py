"""Somebody who kills one process after the other, at random, with everything below it."""

import threading
import time
from collections import Counter
from random import Random
from typing import Self

from scripts.stack.process import Child
from scripts.stack.stack import Stack

VICTIMS = ("postgres", "postgrest", "gateway", "pg_net")  # the rail is not ours to kill
PAUSE_S = (0.05, 1.2)  # random: a kill meets every stage of a payment, recovery included


class Killer:
    """Kills `wanted` times while the block runs; each victim comes back by its supervisor."""

    def __init__(self, stack: Stack, chance: Random, wanted: int) -> None:
        self._stack, self._chance, self._wanted = stack, chance, wanted
        self._killed: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._go, daemon=True)
        self._broke: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        if self._broke is not None:
            raise self._broke
        self._stack.wait_ready(60)

    def is_busy(self) -> bool:
        """Whether there are kills to come."""
        return self._thread.is_alive()

    def tally(self) -> str:
        """How often whom."""
        names = ", ".join(f"{name} {count}" for name, count in sorted(self._killed.items()))
        return f"{self._killed.total()} kills ({names})"

    def _go(self) -> None:
        try:
            while self._killed.total() < self._wanted:
                time.sleep(self._chance.uniform(*PAUSE_S))
                name = self._chance.choice(VICTIMS)
                if is_up(self._stack.children[name]):
                    self._stack.kill(name)
                    self._killed[name] += 1
        except BaseException as broke:  # noqa: BLE001  told to the test, which is another thread
            self._broke = broke


def is_up(child: Child) -> bool:
    """Whether there is a process to kill: it may be between two lives."""
    return child.pid is not None
