"""The rails there are. Adding one is a line here; nothing is imported until it is asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

from shared.config import Settings
from shared.rails.base import (
    ChecksBalance,
    ChecksCredentials,
    HoldsConnections,
    Operation,
    PaysOut,
    Rail,
    Refunds,
    TakesDeposits,
)
from shared.rails.breaker import Breakers, GuardedRail

# Rail name -> module with `create(settings: Settings) -> Rail`.
MODULES: Mapping[str, str] = {
    "mpesa": "shared.rails.mpesa.rail",
}


class _RailModule(Protocol):
    def create(self, settings: Settings) -> Rail: ...


_ABILITIES: Mapping[Operation, type] = {Operation.PAY_OUT: PaysOut, Operation.REFUND: Refunds}


class UnknownRail(LookupError):
    """No rail of this name is registered."""


def build(name: str, settings: Settings) -> Rail:
    """Import and make one rail, without a breaker. UnknownRail when there is none."""
    if name not in MODULES:
        raise UnknownRail(name)
    return cast(_RailModule, import_module(MODULES[name])).create(settings)


class Rails:
    """The rails of one process: each made on first use, kept, and guarded by shared breakers."""

    def __init__(self, settings: Settings, breakers: Breakers | None = None) -> None:
        self._settings = settings
        self._breakers = breakers or Breakers()
        self._made: dict[str, Rail] = {}

    def get(self, name: str) -> Rail:
        """Give the rail behind its breaker. UnknownRail when there is none."""
        return GuardedRail(name, self._make(name), self._breakers)

    def checker(self, name: str) -> ChecksCredentials | None:
        """Give the rail's credential checks, None when it has none; the breaker is not asked."""
        rail = self._make(name)
        return rail if isinstance(rail, ChecksCredentials) else None

    def balances(self, name: str) -> ChecksBalance | None:
        """Give the rail's balance questions, None when it has none; the breaker is not asked."""
        rail = self._make(name)
        return rail if isinstance(rail, ChecksBalance) else None

    def deposits(self, name: str) -> TakesDeposits | None:
        """Give the rail's deposits, None when it has none; the breaker is not asked."""
        rail = self._make(name)
        return rail if isinstance(rail, TakesDeposits) else None

    def can(self, name: str, operation: Operation) -> bool:
        """Say whether `submit` of the rail takes the operation. UnknownRail when there is none."""
        rail = self._make(name)
        return operation is Operation.COLLECT or isinstance(rail, _ABILITIES[operation])

    async def aclose(self) -> None:
        """Close the connections of every rail that was made."""
        for rail in self._made.values():
            if isinstance(rail, HoldsConnections):
                await rail.aclose()
        self._made.clear()

    def _make(self, name: str) -> Rail:
        if name not in self._made:
            self._made[name] = build(name, self._settings)
        return self._made[name]
