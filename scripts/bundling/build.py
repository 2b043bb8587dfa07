"""Writes dist/<function>/: one function, exactly what it imports, and what deploying it takes."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.bundling import image
from scripts.bundling.closure import Closure, closure_of
from scripts.bundling.lock import Lock
from scripts.bundling.manifest import Manifest, read_manifest
from scripts.bundling.packages import problems_of, unread_secrets
from scripts.bundling.tree import LOCK, ROOT, BundleError, Tree, functions_of, read_tree

DIST: Final = ROOT / "dist"
SERVER: Final = "shared.http.server"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in memory. files: path inside the bundle -> content."""

    manifest: Manifest
    closure: Closure
    files: Tree

    def write(self, folder: Path) -> None:
        """Make `folder` hold this bundle and nothing else."""
        draft = folder.with_name(f".{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        for path, content in self.files.items():
            target = draft / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)


def make_bundle(tree: Tree, name: str) -> Bundle:
    """The bundle of one function. BundleError when its manifest and its imports disagree."""
    manifest = read_manifest(tree, name)
    closure = closure_of(tree, (f"functions.{name}.handler", SERVER))
    lock = Lock(tree[LOCK].decode())
    if problems := problems_of(manifest, closure, lock) + unread_secrets(manifest):
        raise BundleError(*problems)
    folders = sorted({path.partition("/")[0] for path in closure.files})
    sources = lock.sources(manifest.packages)
    written = {
        "main.py": image.entry_point(manifest),
        "requirements.txt": lock.requirements(manifest.packages),
        "Dockerfile": image.dockerfile(folders, has_sources=bool(sources)),
        "fly.toml": image.fly_toml(manifest),
    }
    written |= {"sources.txt": sources} if sources else {}
    files = {path: tree[path] for path in closure.files}
    files |= {path: text.encode() for path, text in written.items()}
    return Bundle(manifest, closure, dict(sorted(files.items())))


def main(arguments: Sequence[str]) -> int:
    """`scripts/bundle [--check] [function …]`: all functions when none is named."""
    parser = argparse.ArgumentParser(prog="scripts/bundle", description=__doc__)
    parser.add_argument("function", nargs="*", help="folders under functions/; all by default")
    parser.add_argument("--check", action="store_true", help="write nothing, report every problem")
    chosen = parser.parse_args(arguments)
    tree = read_tree()
    problems: list[str] = []
    for name in chosen.function or functions_of(tree):
        try:
            bundle = make_bundle(tree, name)
        except BundleError as error:
            problems += error.problems
            continue
        if not chosen.check:
            bundle.write(DIST / name)
            print(f"dist/{name}: {_summary(bundle)}")
    for problem in dict.fromkeys(problems):
        print(f"bundle: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _summary(bundle: Bundle) -> str:
    modules = sum(path.endswith(".py") for path in bundle.closure.files)
    data = len(bundle.closure.files) - modules
    packages = bundle.files["requirements.txt"].count(b"==")
    return f"{modules} modules, {data} data files, {packages} locked packages"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
