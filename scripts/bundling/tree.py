"""The files that can become part of a bundle, read once. Everything after works on this mapping."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = ("functions", "shared")
DATA_SUFFIXES: Final = (".css", ".csv", ".json", ".ttf", ".txt")
LOCK: Final = "uv.lock"
_SUFFIXES: Final = (".py", ".toml", *DATA_SUFFIXES)

Tree = Mapping[str, bytes]  # path from the root, with slashes -> content


class BundleError(Exception):
    """A bundle cannot be made. One sentence per problem, each naming a file."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def read_tree(root: Path = ROOT) -> Tree:
    """The sources under `functions/` and `shared/`, and the lock file, in order of their paths."""
    files = {LOCK: (root / LOCK).read_bytes()}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                files[path.relative_to(root).as_posix()] = path.read_bytes()
    return files


def functions_of(tree: Tree) -> list[str]:
    """The names of the functions there are: every folder that has a handler."""
    parts = (path.split("/") for path in tree)
    return sorted(part[1] for part in parts if part[::2] == ["functions", "handler.py"])
