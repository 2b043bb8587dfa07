"""Exactly the files a function needs: its modules, their packages, the data beside them."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from scripts.bundling.imports import imports_of
from scripts.bundling.tree import DATA_SUFFIXES, FOLDERS, BundleError, Tree


@dataclass(frozen=True, slots=True)
class Closure:
    """files: paths in the tree, sorted. packages: imported third-party module -> the first file."""

    files: tuple[str, ...]
    packages: Mapping[str, str]


def closure_of(tree: Tree, entries: Iterable[str]) -> Closure:
    """What is reachable from the modules `entries`, however late it is imported.

    BundleError names an import that no bundle can satisfy and a data file that is not beside the
    module which names it.
    """
    walk = _Walk(tree)
    for entry in entries:
        walk.add(entry, "the entry point")
    walk.run()
    data = _data_of(tree, walk.folders)
    problems = walk.problems + _unshipped(walk.data, data)
    if problems:
        raise BundleError(*sorted(problems))
    return Closure(tuple(sorted({*walk.files, *data})), dict(sorted(walk.packages.items())))


def _data_of(tree: Tree, shipped: set[str]) -> list[str]:
    """Data beside shipped modules, and the folders of data alone that a domain keeps below it."""
    with_modules = {_folder(path) for path in tree if path.endswith(".py")}

    def is_shipped(folder: str) -> bool:
        domain = _folder(folder)
        is_domains = "/" in domain and domain in shipped and folder not in with_modules
        return folder in shipped or is_domains

    return [path for path in tree if path.endswith(DATA_SUFFIXES) and is_shipped(_folder(path))]


class _Walk:
    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.files: set[str] = set()
        self.packages: dict[str, str] = {}
        self.data: dict[str, str] = {}
        self.problems: list[str] = []
        self._queue: list[str] = []

    @property
    def folders(self) -> set[str]:
        return {_folder(path) for path in self.files}

    def run(self) -> None:
        while self._queue:
            self._read(self._queue.pop(0))

    def add(self, name: str, importer: str) -> None:
        """Follow the dotted `name`, which must be a module of ours, of Python or of a package."""
        top = name.partition(".")[0]
        if top not in FOLDERS:
            if top not in sys.stdlib_module_names:
                self.packages.setdefault(top, importer)
        elif not self._add_own(name) and not self._is_folder(name):
            self.problems.append(f"{importer} imports {name}, which does not exist.")

    def _add_own(self, name: str) -> bool:
        path = name.replace(".", "/")
        found = next((p for p in (f"{path}.py", f"{path}/__init__.py") if p in self.tree), None)
        if found is None:
            return False
        parents = [f"{parent}/__init__.py" for parent in PurePosixPath(found).parents]
        for file in (found, *(parent for parent in parents if parent in self.tree)):
            if file not in self.files:
                self.files.add(file)
                self._queue.append(file)
        return True

    def _is_folder(self, name: str) -> bool:
        prefix = f"{name.replace('.', '/')}/"
        return any(path.startswith(prefix) for path in self.tree)

    def _read(self, path: str) -> None:
        found = imports_of(self.tree[path].decode(), _folder(path).replace("/", "."))
        for name in sorted(found.modules | found.named):
            self.add(name, path)
        for name in sorted(found.members):
            if name.partition(".")[0] in FOLDERS:
                self._add_own(name)  # otherwise an attribute of a module that is followed already
        self.data.update((name, path) for name in found.data)


def _unshipped(named: Mapping[str, str], shipped: Iterable[str]) -> list[str]:
    names = {path.rpartition("/")[2] for path in shipped}
    return [
        f"{path} names {name}, which lies beside no module of the bundle."
        for name, path in named.items()
        if name not in names
    ]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
