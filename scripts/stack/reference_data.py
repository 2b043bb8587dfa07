"""Writes `sql/<schema>/data.sql` from every `shared/**/<schema>.<table>.csv` (or .json).

A header names columns; an empty field is null. Rows are inserted or brought up to date by primary
key, tables in the order of `sql/<schema>/tables.sql`. Standard library only.
"""

import csv
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEADER = "-- Reference rows. Written by scripts/data from shared/; edit the files named below.\n"

Rows = list[list[str | None]]


class DataError(Exception):
    """A file whose rows cannot become SQL; the message names it."""


@dataclass(frozen=True, slots=True)
class Table:
    """One reference table: its place in tables.sql, its key, its rows and the files they are in."""

    name: str
    position: int
    key: list[str]
    columns: list[str]
    rows: Rows
    sources: list[str]


def main() -> int:
    """Write what differs; with --check only report it (exit code 1)."""
    check_only = "--check" in sys.argv[1:]
    try:
        texts = render(ROOT)
    except DataError as problem:
        print(f"data: {problem}", file=sys.stderr)
        return 1
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"data: {path.relative_to(ROOT)} {'is out of date' if check_only else 'written'}")
        if not check_only:
            path.write_text(texts[path])
    return 1 if check_only and stale else 0


def render(root: Path) -> dict[Path, str]:
    """The text of each data.sql."""
    files: dict[str, list[Path]] = {}
    found = [*root.glob("shared/**/*.*.csv"), *root.glob("shared/**/*.*.json")]
    for path in sorted(found):
        files.setdefault(path.stem, []).append(path)
    by_schema: dict[str, list[Table]] = {}
    for name, paths in files.items():
        by_schema.setdefault(name.partition(".")[0], []).append(_table(root, name, paths))
    return {
        root / "sql" / schema / "data.sql": _file(sorted(tables, key=lambda t: t.position))
        for schema, tables in by_schema.items()
    }


def _table(root: Path, name: str, paths: list[Path]) -> Table:
    definition = root / "sql" / name.partition(".")[0] / "tables.sql"
    position, key = primary_key(definition.read_text() if definition.exists() else "", name)
    columns: list[str] = []
    rows: Rows = []
    for path in paths:
        head, body = _read(path)
        if columns and head != columns:
            raise DataError(f"{path.relative_to(root)} has other columns than {paths[0].name}")
        columns, rows = head, rows + body
    if not rows:
        raise DataError(f"{paths[0].relative_to(root)} has no rows")
    if missing := [column for column in key if column not in columns]:
        raise DataError(f"{paths[0].relative_to(root)} lacks the key column {missing[0]}")
    return Table(name, position, key, columns, rows, [str(p.relative_to(root)) for p in paths])


def primary_key(definitions: str, name: str) -> tuple[int, list[str]]:
    """Where `create table <name>` stands, and its primary key's columns, read from the SQL text."""
    created = re.search(rf"create table {re.escape(name)} \((.*?)\n\)", definitions, re.S)
    if created is None:
        raise DataError(f"no `create table {name}` in sql/{name.partition('.')[0]}/tables.sql")
    body = created.group(1)
    listed = re.search(r"primary key \(([^)]*)\)", body)
    if listed:
        return created.start(), [column.strip() for column in listed.group(1).split(",")]
    single = re.search(r"^\s*(\w+) [^\n]*\bprimary key\b", body, re.M)
    if single is None:
        raise DataError(f"{name} has no primary key in its `create table`")
    return created.start(), [single.group(1)]


def _read(path: Path) -> tuple[list[str], Rows]:
    if path.suffix == ".json":
        records = json.loads(path.read_text())
        columns = list(dict.fromkeys(name for record in records for name in record))
        return columns, [[_json_field(record.get(name)) for name in columns] for record in records]
    with path.open(newline="") as file:
        reader = csv.reader(file, strict=True)
        columns = next(reader)
        rows: Rows = []
        for fields in reader:
            if len(fields) != len(columns):
                raise DataError(f"{path}:{reader.line_num} has {len(fields)} fields")
            rows.append([field or None for field in fields])
    return columns, rows


def _json_field(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _file(tables: list[Table]) -> str:
    statements = "\n".join(_statement(table) for table in tables)
    return f"{HEADER}\nset role stalela_owner;\n\n{statements}\nreset role;\n"


def _statement(table: Table) -> str:
    sources = "".join(f"-- {source}\n" for source in table.sources)
    columns = ", ".join(table.columns)
    values = ",\n".join(f"({', '.join(map(_literal, row))})" for row in table.rows)
    changing = [column for column in table.columns if column not in table.key]
    action = "nothing"
    if changing:
        settings = ",\n    ".join(f"{column} = excluded.{column}" for column in changing)
        action = f"update set\n    {settings}"
    return (
        f"{sources}insert into {table.name} ({columns})\nvalues\n{values}\n"
        f"on conflict ({', '.join(table.key)}) do {action};\n"
    )


def _literal(field: str | None) -> str:
    return "null" if field is None else "'" + field.replace("'", "''") + "'"


if __name__ == "__main__":
    sys.exit(main())
