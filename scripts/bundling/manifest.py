"""functions/<name>/function.toml: all a deployer needs to know about a function."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scripts.bundling.tree import BundleError, Tree

_NEEDED = {"domain": str, "db_role": str, "secrets": list, "packages": list, "routes": dict}
_ALLOWED = {*_NEEDED, "schedule"}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One function. routes: "POST /{id}/confirm" -> who may call it."""

    name: str
    path: str
    db_role: str
    secrets: tuple[str, ...]
    packages: tuple[str, ...]
    routes: Mapping[str, str]

    @property
    def slug(self) -> str:
        """The folder's name as it stands in URLs: payment_intents -> payment-intents."""
        return self.name.replace("_", "-")

    @property
    def is_called_back(self) -> bool:
        """Whether a rail posts results here, which it repeats rarely or never."""
        return "callback-token" in self.routes.values()


def read_manifest(tree: Tree, name: str) -> Manifest:
    """The manifest of `name`. BundleError names what is missing, unknown or of a wrong type."""
    path = f"functions/{name}/function.toml"
    if f"functions/{name}/handler.py" not in tree:
        raise BundleError(f"there is no function {name}: functions/{name}/handler.py is missing.")
    if path not in tree:
        raise BundleError(f"{path} is missing.")
    try:
        facts = tomllib.loads(tree[path].decode())
    except tomllib.TOMLDecodeError as broken:
        raise BundleError(f"{path} is not TOML: {broken}.") from None
    if problems := _problems(path, facts):
        raise BundleError(*problems)
    return Manifest(
        name=name,
        path=path,
        db_role=facts["db_role"],
        secrets=tuple(facts["secrets"]),
        packages=tuple(facts["packages"]),
        routes=dict(facts["routes"]),
    )


def _problems(path: str, facts: dict[str, Any]) -> list[str]:
    unknown = [f"{path} has an unknown key: {key}." for key in facts if key not in _ALLOWED]
    wrong = [
        f"{path} needs {key}, a {kind.__name__}."
        for key, kind in _NEEDED.items()
        if not isinstance(facts.get(key), kind)
    ]
    return unknown + wrong
