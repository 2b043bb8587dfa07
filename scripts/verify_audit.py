"""Verifies audit archives offline, with the published keys and nothing else.

    ./scripts/verify-audit audit-KIN001-2026-11-01-2026-11-30-1of1.zip --keys keys.json

Several archives of one outlet are checked together: each must go on where the one before ended,
and no number may be missing, but those that a terminal may still hold offline.
keys.json is the answer of GET /verify/keys, saved as it came; without it an archive's own keys are
used, which proves that it agrees with itself and not who signed it. Exit code 0: the archives are
what was sealed. 1: they are not, and every line says what is wrong. 2: a file cannot be read.
"""

import argparse
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile, ZipFile

from scripts.verify_invoice import Unreadable, keys_in, once
from shared.canonical import canonical_bytes
from shared.fiscal import audit
from shared.fiscal.proof import Keys, read_keys

SHOWN = 50


@dataclass
class Stretch:
    """What was found in one archive: where it is in its chain, and what is wrong."""

    path: Path
    place: audit.Place | None = None
    first: audit.Entry | None = None
    last: audit.Entry | None = None
    entries: int = 0
    numbers: audit.Numbers = field(default_factory=audit.Numbers)

    @property
    def ends(self) -> str:
        """From where to where it goes."""
        if self.first is None or self.last is None:
            return ""
        return f", {self.first.fiscal_number} to {self.last.fiscal_number}"


def main(arguments: list[str] | None = None) -> int:
    """See the module's text for the exit codes."""
    parser = argparse.ArgumentParser(
        prog="verify-audit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("archive", type=Path, nargs="+", help="what GET /reports/audit-export gave")
    parser.add_argument("--keys", type=Path, help="the answer of GET /verify/keys")
    wanted = parser.parse_args(arguments)
    try:
        keys = keys_in(wanted.keys) if wanted.keys else None
        stretches, wrong = verify(wanted.archive, keys)
    except Unreadable as problem:
        print(f"verify-audit: {problem}", file=sys.stderr)
        return 2
    for line in wrong[:SHOWN]:
        print(f"  FAIL  {line}")
    if wrong:
        more = f"; the first {SHOWN} are shown" if len(wrong) > SHOWN else ""
        print(f"NOT verified. Findings: {len(wrong)}{more}")
        return 1
    for one in stretches:
        print(f"verified: {one.path.name}: {one.entries} entries{one.ends}")
    if keys is None:
        print("with the archive's own keys: compare them with the published ones (--keys)")
    print("not seen from here: whether the chain went on after the last entry. Ask /verify.")
    return 0


def verify(paths: Iterable[Path], keys: Keys | None) -> tuple[list[Stretch], list[str]]:
    """What the archives hold, and everything that is wrong with them. Raises Unreadable."""
    stretches, wrong = [], []
    for path in paths:
        stretch = Stretch(path)
        wrong += [f"{path.name}: {line}" for line in _check(stretch, keys)]
        stretches.append(stretch)
    full = sorted(
        (one for one in stretches if one.first),
        key=lambda one: one.first.entry_no if one.first else 0,
    )
    breaks = [
        f"{after.path.name}: does not go on where {before.path.name} ended"
        for before, after in pairwise(full)
        if not _goes_on(before, after)
    ]
    if full and not breaks:
        wrong += _missing(full)
    return stretches, wrong + breaks


def _goes_on(before: Stretch, after: Stretch) -> bool:
    assert before.last is not None, "it has a first entry"
    assert after.first is not None, "it has a first entry"
    return before.place == after.place and after.first.previous_hash == before.last.entry_hash


def _missing(full: list[Stretch]) -> Iterator[str]:
    first, last = full[0].first, full[-1].last
    assert first is not None, "it is not empty"
    assert last is not None, "it is not empty"
    return audit.missing_numbers([one.numbers for one in full], first, last)


def _check(stretch: Stretch, keys: Keys | None) -> Iterator[str]:
    try:
        with ZipFile(stretch.path) as archive:
            yield from _check_files(stretch, archive, keys)
    except OSError as unread:
        raise Unreadable(f"{stretch.path} cannot be read: {unread.strerror or unread}") from None
    except (BadZipFile, zlib.error, EOFError) as broken:
        yield f"the archive is damaged: {broken}"
    except (ValueError, KeyError, TypeError) as odd:
        yield f"it does not look like an audit archive: {odd}"


def _check_files(stretch: Stretch, archive: ZipFile, keys: Keys | None) -> Iterator[str]:
    names = [info.filename for info in archive.infolist()]
    if len(set(names)) != len(names):
        yield "a file is there twice"
        return
    manifest = _json(archive.read(audit.MANIFEST))
    place = audit.Place(
        environment=manifest["environment"],
        jurisdiction=manifest["jurisdiction"],
        outlet_id=manifest["outlet_id"],
        fiscal_authority_id=manifest["fiscal_authority_id"],
    )
    stretch.place = place
    own = archive.read(audit.KEYS)
    listed = read_keys(_json(own))
    if keys is not None:
        yield from (
            f"{audit.KEYS}: {name} is not the published key"
            for name, key in listed.items()
            if name not in keys or keys[name].public_key != key.public_key
        )
    contents, reports = audit.Contents(place), {}
    walk = audit.Walk(place, listed if keys is None else keys, numbers=stretch.numbers)
    with archive.open(audit.ENTRIES) as file:
        lines = _Lines(file)
        for line in lines:
            entry = audit.read_entry(line)
            _json(line)  # no member twice
            yield from walk.check(entry)
            contents.add(entry)
            if entry.record_type == "report_z" and entry.payload is not None:
                reports[f"{audit.REPORTS}{entry.fiscal_number}.json"] = canonical_bytes(
                    entry.payload
                )
    files = {
        audit.ENTRIES: (lines.size, lines.digest.hexdigest()),
        audit.KEYS: (len(own), sha256(own).hexdigest()),
    }
    stretch.first, stretch.last, stretch.entries = contents.first, contents.last, contents.entries
    for name, body in reports.items():
        files[name] = (len(body), sha256(body).hexdigest())
        if name not in names:
            yield f"{name} is missing"
        elif archive.read(name) != body:
            yield f"{name} is not the report in the ledger"
    yield from (
        f"{name} does not belong here" for name in names if name not in (*files, audit.MANIFEST)
    )
    yield from _differences(manifest, json.loads(canonical_bytes(contents.manifest(files))))


class _Lines:
    """The lines of a file, whose size and digest are known once they were read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size, self.digest = 0, sha256()

    def __iter__(self) -> Iterator[bytes]:
        for line in self._file:
            self.size += len(line)
            self.digest.update(line)
            yield line


def _differences(said: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    for name in sorted(said.keys() | found.keys()):
        if name == "files":
            listed = {file["name"]: file for file in said.get("files", [])}
            yield from (
                f"{file['name']} is not the file that {audit.MANIFEST} lists"
                for file in found["files"]
                if listed.pop(file["name"], None) != file
            )
            yield from (f"{name} is listed in {audit.MANIFEST} and not here" for name in listed)
        elif said.get(name) != found.get(name):
            yield f"{audit.MANIFEST}: {name} is not {said.get(name)} but {found.get(name)}"


def _json(text: bytes) -> Any:
    return json.loads(text, object_pairs_hook=once)


if __name__ == "__main__":
    sys.exit(main())
