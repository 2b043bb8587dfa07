"""Everything one simulator is made of, wired in one place."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from scripts.stack.daraja.accounts import Accounts
from scripts.stack.daraja.armoury import Armoury
from scripts.stack.daraja.books import Books
from scripts.stack.daraja.certificate import Certificate
from scripts.stack.daraja.clock import Clock
from scripts.stack.daraja.journal import Journal
from scripts.stack.daraja.settings import Settings, load_clock, load_settings, save_settings
from scripts.stack.daraja.store import clear, open_store


class Changes:
    """Tells whoever looks at the page that something changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def announce(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def follow(self, stopping: Callable[[], bool]) -> AsyncIterator[bool]:
        """True for a change, False for each quiet second, until the server stops."""
        while not stopping():
            try:
                await asyncio.wait_for(self._event.wait(), timeout=1)
            except TimeoutError:
                yield False
            else:
                yield True


@dataclass
class World:
    """The parts; `stopping` and `restart` are the process's own doors."""

    store: sqlite3.Connection
    seed: int
    settings: Settings
    clock: Clock
    books: Books
    journal: Journal
    armoury: Armoury
    certificate: Certificate
    stopping: Callable[[], bool]
    restart: Callable[[], None]
    changes: Changes = field(default_factory=Changes)

    @property
    def accounts(self) -> Accounts:
        return self.books.accounts

    def rng(self, *purpose: object) -> Random:
        """Chance that a seed repeats: the same purpose always gets the same numbers."""
        return Random(":".join(map(str, (self.seed, *purpose))))  # noqa: S311 - a simulator's dice

    def change_settings(self, changes: dict[str, Any]) -> Settings:
        """Raises pydantic.ValidationError and then changes nothing."""
        self.settings = Settings.model_validate(self.settings.model_dump() | changes)
        self.clock.set_speed(self.settings.speed)
        save_settings(self.store, self.settings, self.clock)
        self.changes.announce()
        return self.settings

    def reset(self) -> None:
        """Forgets books, log, faults and settings; tokens too."""
        clear(self.store)
        self.change_settings(Settings().model_dump())


def build(
    state: Path, seed: int, stopping: Callable[[], bool], restart: Callable[[], None]
) -> World:
    """Opens the books in `state` and carries on where they end."""
    store = open_store(state)
    settings = load_settings(store)
    return World(
        store=store,
        seed=seed,
        settings=settings,
        clock=load_clock(store, settings),
        books=Books(store),
        journal=Journal(store),
        armoury=Armoury(store),
        certificate=Certificate(state),
        stopping=stopping,
        restart=restart,
    )
