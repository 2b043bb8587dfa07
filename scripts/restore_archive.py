"""Reads what was archived of an outlet back and proves it, hash by hash and signature by signature.

    ./scripts/restore-archive fiscal/CD/<merchant>/<outlet>/             all of it
    ./scripts/restore-archive fiscal/CD/<merchant>/<outlet>/2026/11/21/  one day

With --database, the rows go into a schema of their own there, beside nothing that is in use. The
bucket is that of OSS_ENDPOINT, OSS_REGION, OSS_BUCKET, OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET;
without OSS_BUCKET it is the local stack's. Objects that no range is made of are named: what the
storage spoilt has a whole copy beside it. Exit code 0: every entry is what was sealed. 1: it is
not, and each line says what is wrong. 2: the archive cannot be read, or not
restored.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from scripts.stack.keys import Keys as LocalKeys
from scripts.stack.oss.app import BUCKET, REGION
from scripts.stack.places import ROOT, Ports, base_port
from scripts.verify_invoice import Unreadable as UnreadableFile
from scripts.verify_invoice import keys_in
from shared.fiscal.archived import (
    Archived,
    Unreadable,
    Walk,
    is_whole,
    keys_of,
    read_lines,
    read_manifest,
)
from shared.fiscal.proof import Keys
from shared.objects import Missing, Objects, Place, Refused, StoreUnavailable

# Which table the lines of each kind are rows of. Documents are answers of the API.
TABLES = {
    "ledger": "fiscal.fiscal_ledger",
    "signatures": "fiscal.signatures",
    "reports": "fiscal.reports",
    "rotations": "signing.key_rotations",
    "manifests": "fiscal.archive_manifests",
    "signing_log": "signing.signing_log",
    "keys": "signing.keys",
}


@dataclass
class ReadBack:
    """What an archive holds, what is wrong with it, and the objects that nothing is made of."""

    walk: Walk = field(default_factory=Walk)
    ranges: list[Archived] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)


def main(arguments: list[str] | None = None) -> int:
    """See the module's text for the exit codes."""
    parser = argparse.ArgumentParser(
        prog="restore-archive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("prefix", help="fiscal/{jurisdiction}/{merchant}/{outlet}/[yyyy/mm/dd/]")
    parser.add_argument("--keys", type=Path, help="the answer of GET /verify/keys, saved")
    parser.add_argument("--database", help="where to restore to, with the schemas of this release")
    parser.add_argument("--schema", default="restored", help="a new schema there")
    wanted = parser.parse_args(arguments)
    bucket = place()
    try:
        published = keys_in(wanted.keys) if wanted.keys else None
        read_back = follow(Objects(bucket), wanted.prefix, published)
    except StoreUnavailable as problem:
        print(f"restore-archive: no answer from {bucket.endpoint}: {problem}", file=sys.stderr)
        return 2
    except (Unreadable, UnreadableFile, Missing, Refused) as problem:
        print(f"restore-archive: {problem}", file=sys.stderr)
        return 2
    walk, findings = read_back.walk, read_back.findings
    if not read_back.ranges:
        print(f"restore-archive: there is no manifest under {wanted.prefix}", file=sys.stderr)
        return 2
    for line in read_back.unused + findings:
        print(line)
    if findings:
        print(f"NOT verified: {len(findings)} findings in {walk.entries} entries")
        return 1
    if wanted.database:
        try:
            restore(read_back.ranges, wanted.database, wanted.schema)
        except psycopg.Error as problem:
            print(f"restore-archive: nothing was restored: {problem}", file=sys.stderr)
            return 2
        print(f"restored into schema {wanted.schema}")
    whose = "the archive's own keys" if published is None else "the published keys"
    print(f"verified with {whose}: {walk.entries} entries, {walk.documents} documents")
    return 0


def follow(objects: Objects, prefix: str, published: Keys | None) -> ReadBack:
    """All that is kept below `prefix`, proved by these keys, or by its own. Raises Unreadable."""
    names, used, found = objects.names(prefix), set[str](), ReadBack()
    for archived, parts in read(objects, names):
        used |= parts
        if not found.ranges:
            found.walk = Walk(before(archived))
        keys = keys_of(archived) if published is None else published
        found.findings += found.walk.follow(archived, keys)
        found.ranges.append(archived)
    for name in names:
        if name not in used:
            spoilt = "" if is_whole(name, b"".join(objects.read(name))) else ", spoilt"
            found.unused.append(f"not used: {name}{spoilt}")
    return found


def read(objects: Objects, names: list[str]) -> Iterator[tuple[Archived, set[str]]]:
    """Every range with all its lines, oldest first, and the objects it is. Raises Unreadable."""
    copies = dict[str, list[str]]()
    for name in names:
        of_range, is_manifest, _ = name.rpartition("/")[2].partition(".manifest.")
        if is_manifest:
            copies.setdefault(of_range, []).append(name)
    # By the numbers of the entries: a range may reach into another day's folder.
    for _, found in sorted(copies.items()):
        name, text = whole(objects, found)
        kept = read_manifest(text)
        parts = kept.manifest["objects"]
        lines = {
            part["kind"]: read_lines(part, b"".join(objects.read(part["key"]))) for part in parts
        }
        used = {name, *(part["key"] for part in parts)}
        yield Archived(kept.manifest, kept.entry, kept.signature, lines), used


def whole(objects: Objects, copies: list[str]) -> tuple[str, bytes]:
    """The first of several copies that is what its name says. Raises Unreadable."""
    for name in copies:
        text = b"".join(objects.read(name))
        if is_whole(name, text):
            return name, text
    raise Unreadable(f"{copies[0]} is not what was kept: its SHA-256 is another")


def before(first: Archived) -> dict[str, object] | None:
    """The entry before the first one that is read: as that one says, when it is not the first."""
    entry = first.of("ledger")[0]
    if entry["entry_no"] == 1:
        return None
    return {"entry_no": entry["entry_no"] - 1, "entry_hash": entry["previous_hash"]}


def restore(ranges: list[Archived], database: str, schema: str) -> None:
    """Fill tables like ours in a new schema: every check and every unique index holds there too."""
    name = sql.Identifier(schema)
    with psycopg.connect(database) as connection:
        connection.execute(sql.SQL("create schema {}").format(name))
        for kind, table in TABLES.items():
            connection.execute(
                sql.SQL(
                    "create table {}.{} (like {} including constraints including indexes)"
                ).format(name, sql.Identifier(kind), sql.Identifier(*table.split(".")))
            )
            rows = unique(ranges, kind)
            connection.execute(
                sql.SQL(
                    "insert into {0}.{1} select * from jsonb_populate_recordset(null::{0}.{1}, %s)"
                ).format(name, sql.Identifier(kind)),
                (json.dumps(rows),),
            )
        connection.execute(
            sql.SQL(
                "create table {}.documents (fiscal_number text primary key, document jsonb)"
            ).format(name)
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                sql.SQL("insert into {}.documents values (%s, %s)").format(name),
                [
                    (row["fiscal_number"], json.dumps(row))
                    for archived in ranges
                    for row in archived.of("documents")
                ],
            )


def unique(ranges: list[Archived], kind: str) -> list[dict[str, object]]:
    """The rows of one kind. Keys come with every range; the last one knows most of them."""
    if kind == "keys":
        return list({row["key_id"]: row for one in ranges for row in one.of("keys")}.values())
    return [row for archived in ranges for row in archived.of(kind)]


def place() -> Place:
    """The bucket of the environment, or the local stack's."""
    if os.environ.get("OSS_BUCKET"):
        names = ("ENDPOINT", "REGION", "BUCKET", "ACCESS_KEY_ID", "ACCESS_KEY_SECRET")
        return Place(*(os.environ.get(f"OSS_{name}", "") for name in names))
    keys, ports = LocalKeys(ROOT / ".stalela"), Ports(base_port())
    endpoint = f"http://127.0.0.1:{ports.oss}"
    key, secret = keys["oss_access_key_id"], keys["oss_access_key_secret"]
    return Place(endpoint, REGION, BUCKET, key, secret)


if __name__ == "__main__":
    sys.exit(main())
