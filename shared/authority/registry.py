"""The authorities there are. Adding one is a line here; nothing is imported until asked for."""

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

from shared.authority.base import Authority, HoldsConnections
from shared.config import Settings

# Jurisdiction -> module with `create(settings: Settings) -> Authority`.
MODULES: Mapping[str, str] = {
    "CD": "shared.authority.cd.adapter",
    "KE": "shared.authority.ke.etims",
    "ZW": "shared.authority.zw.fdms",
}


class _AuthorityModule(Protocol):
    def create(self, settings: Settings) -> Authority: ...


class UnknownAuthority(LookupError):
    """We cannot speak to the authority of this jurisdiction."""


class Authorities:
    """The authorities of one process, each made on first use and kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: dict[str, Authority] = {}

    def get(self, jurisdiction: str) -> Authority:
        """Give the authority of a jurisdiction. UnknownAuthority when there is none."""
        if jurisdiction not in MODULES:
            raise UnknownAuthority(jurisdiction)
        if jurisdiction not in self._made:
            module = cast(_AuthorityModule, import_module(MODULES[jurisdiction]))
            self._made[jurisdiction] = module.create(self._settings)
        return self._made[jurisdiction]

    async def aclose(self) -> None:
        """Close the connections of every authority that was made."""
        for authority in self._made.values():
            if isinstance(authority, HoldsConnections):
                await authority.aclose()
        self._made.clear()
