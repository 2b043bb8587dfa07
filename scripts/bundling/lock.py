"""uv.lock: the exact packages of the whole repository, of which a bundle takes a subset."""

import re
import tomllib
from collections.abc import Iterable, Iterator
from typing import Any, Final

from scripts.bundling.tree import LOCK, BundleError

PROJECT: Final = "stalela"
# Bundles run on Debian: wheels for it, on any processor, so no image needs a compiler.
_WHEEL: Final = re.compile(r"/[^/]+-(none-any|[^/]*manylinux[^/]*)\.whl$")
# Pure Python whose publisher ships no wheel: built where it is installed, by the locked setuptools.
SOURCE_ONLY: Final = frozenset(
    {
        "alibabacloud-darabonba-array",
        "alibabacloud-darabonba-map",
        "alibabacloud-darabonba-signature-util",
        "alibabacloud-darabonba-string",
        "alibabacloud-endpoint-util",
        "alibabacloud-tea",
        "alibabacloud-tea-xml",
        "crcmod",  # for speed it has C, too, which is left out where there is no compiler
        "oss2",
    }
)
BUILDER: Final = "setuptools"

Condition = frozenset[str]  # environment markers that must all hold; none: always needed


def canonical(name: str) -> str:
    """A distribution's name in the one spelling lock files use (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


class Lock:
    """The lock file, parsed."""

    def __init__(self, text: str) -> None:
        self._packages: dict[str, dict[str, Any]] = {
            package["name"]: package for package in tomllib.loads(text)["package"]
        }
        # What pyproject.toml itself depends on: the packages a manifest may name.
        self.direct: dict[str, dict[str, Any]] = {
            needed["name"]: needed for needed in self._packages[PROJECT]["dependencies"]
        }

    def closure(self, packages: Iterable[str]) -> dict[str, set[Condition]]:
        """`packages` and all they need, by name, each with the conditions under which it is needed.

        BundleError names a package that pyproject.toml does not depend on.
        """
        names = sorted(set(packages))
        if unknown := [name for name in names if name not in self.direct]:
            raise BundleError(*(f"{name} is no dependency in pyproject.toml." for name in unknown))
        found: dict[str, set[Condition]] = {}
        queue = [(self.direct[name], frozenset[str]()) for name in names]
        seen = set()
        while queue:
            needed, condition = queue.pop(0)
            condition |= {needed["marker"]} if "marker" in needed else set()
            state = (needed["name"], tuple(needed.get("extra", ())), condition)
            if state not in seen:
                seen.add(state)
                found.setdefault(needed["name"], set()).add(condition)
                queue += [(below, condition) for below in self._below(needed)]
        return found

    def requirements(self, packages: Iterable[str]) -> str:
        """The text of requirements.txt for `packages`: every version exact, every wheel hashed.

        With what builds the sources, when there are some.
        """
        closure = self.closure(packages)
        if closure.keys() & SOURCE_ONLY:
            closure[BUILDER] = {frozenset()}
        return "".join(
            self._line(name, closure[name]) for name in sorted(closure.keys() - SOURCE_ONLY)
        )

    def sources(self, packages: Iterable[str]) -> str:
        """The text of sources.txt: what must be built, hashed too; empty when nothing must."""
        closure = self.closure(packages)
        return "".join(
            f"{name}=={self._packages[name]['version']} \\\n"
            f"    --hash={self._packages[name]['sdist']['hash']}\n"
            for name in sorted(closure.keys() & SOURCE_ONLY)
        )

    def _below(self, needed: dict[str, Any]) -> Iterator[dict[str, Any]]:
        package = self._packages[needed["name"]]
        yield from package.get("dependencies", ())
        for extra in needed.get("extra", ()):
            yield from package["optional-dependencies"].get(extra, ())

    def _line(self, name: str, conditions: set[Condition]) -> str:
        package = self._packages[name]
        hashes = sorted(w["hash"] for w in package.get("wheels", ()) if _WHEEL.search(w["url"]))
        if not hashes:
            raise BundleError(f"{LOCK} has no wheel of {name} for Linux.")
        marker = _marker(conditions)
        start = f"{name}=={package['version']}" + (f" ; {marker}" if marker else "")
        return " \\\n    ".join([start, *(f"--hash={digest}" for digest in hashes)]) + "\n"


def _marker(conditions: set[Condition]) -> str:
    if frozenset() in conditions:
        return ""
    each = sorted(" and ".join(f"({marker})" for marker in sorted(all_of)) for all_of in conditions)
    return " or ".join(each)
