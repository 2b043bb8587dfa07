"""Compares the packages a function imports with the packages its manifest names."""

from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions

from scripts.bundling.closure import Closure
from scripts.bundling.lock import Lock, canonical
from scripts.bundling.manifest import Manifest
from shared.config import Settings

Distributions = Mapping[str, Sequence[str]]  # import name -> distributions that install it


def problems_of(
    manifest: Manifest, closure: Closure, lock: Lock, distributions: Distributions | None = None
) -> list[str]:
    """One sentence per package that is imported but not named, or named but not imported.

    A package that comes with a named one (starlette with fastapi) may be imported without being
    named, because pyproject.toml does not name it either.
    """
    known = distributions if distributions is not None else packages_distributions()
    brought = lock.closure(manifest.packages)
    problems, used = [], set()
    for module, file in closure.packages.items():
        names = {canonical(name) for name in known.get(module, ())}
        used |= names
        if not names:
            problems.append(f"{file} imports {module}, which no installed package provides.")
        elif direct := sorted(names & lock.direct.keys()):
            if not names & set(manifest.packages):
                problems.append(
                    f"{file} imports {direct[0]}: add it to packages in {manifest.path}."
                )
        elif not names & brought.keys():
            problems.append(f"{file} imports {module}, which no package in {manifest.path} brings.")
    return problems + [
        f"{manifest.path} names the package {name}, which nothing in the function imports."
        for name in manifest.packages
        if name not in used
    ]


def unread_secrets(manifest: Manifest) -> list[str]:
    """One sentence per secret that is no setting: a misspelt name would be set and never read."""
    return [
        f"{manifest.path} lists the secret {name}, which shared/config.py does not read."
        for name in manifest.secrets
        if name.lower() not in Settings.model_fields
    ]
