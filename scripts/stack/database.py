"""Databases from `sql/` (what it is) or from `supabase/migrations` (how it got there)."""

import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg

from scripts.stack.places import ROOT, StackError
from scripts.stack.postgres import ADMIN, Cluster

Source = Literal["sql", "migrations"]

UNRELEASED = "0"
START_ANEW = "./scripts/down --erase throws the local data away, then ./scripts/up builds it anew."

HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
    version text primary key,
    statements text[],
    name text
);
"""


def schema_files(root: Path = ROOT) -> list[Path]:
    """The files of `sql/` in the order of `db.migrations.schema_paths`."""
    config = tomllib.loads((root / "supabase/config.toml").read_text())
    patterns: list[str] = config["db"]["migrations"]["schema_paths"]
    files = [path for pattern in patterns for path in sorted((root / "supabase").glob(pattern))]
    return list(dict.fromkeys(path.resolve() for path in files))


def exposed_schemas(root: Path = ROOT) -> list[str]:
    """The schemas the Data API serves: all that are ours."""
    config = tomllib.loads((root / "supabase/config.toml").read_text())
    schemas: list[str] = config["api"]["schemas"]
    return schemas


def migration_files(root: Path = ROOT) -> list[Path]:
    """The migrations, oldest first."""
    return sorted((root / "supabase/migrations").glob("*.sql"))


def apply_schema(connection: psycopg.Connection, files: list[Path]) -> None:
    """Run `files` in one transaction. The session must be `postgres`, as on a hosted project."""
    with connection.transaction():
        # Bodies may name what a later file makes; plpgsql_check reads them all afterwards.
        connection.execute("set local check_function_bodies = off")
        for path in files:
            run_file(connection, path)


def apply_migrations(connection: psycopg.Connection, root: Path = ROOT) -> list[str]:
    """Run the migrations not in the history yet, a transaction each; their versions.

    Before the first migration exists, all of `sql/` is one under version 0.
    """
    connection.execute(HISTORY)
    history = connection.execute(
        "select version, statements from supabase_migrations.schema_migrations"
    )
    applied: dict[str, list[str] | None] = dict(history.fetchall())
    planned = {path.stem: [path] for path in migration_files(root)}
    planned = planned or {f"{UNRELEASED}_sql": schema_files(root)}
    done = []
    for stem, files in planned.items():
        version, _, name = stem.partition("_")
        texts = [path.read_text() for path in files]
        if version in applied:
            _refuse_if_edited(stem, applied[version], texts)
            continue
        _refuse_over_unreleased(applied)
        apply_schema(connection, files)
        connection.execute(
            "insert into supabase_migrations.schema_migrations values (%s, %s, %s)",
            (version, texts, name),
        )
        done.append(version)
    return done


def _refuse_if_edited(stem: str, ran: list[str] | None, texts: list[str]) -> None:
    # The CLI stores single statements; only whole files, as stored here, can be compared.
    if ran and len(ran) == len(texts) and ran != texts:
        raise StackError(f"{stem} changed after this database ran it. {START_ANEW}")


def _refuse_over_unreleased(applied: dict[str, list[str] | None]) -> None:
    if UNRELEASED in applied:
        raise StackError(f"This database was made from sql/ before any migration. {START_ANEW}")


def run_file(connection: psycopg.Connection, path: Path) -> None:
    """Run one SQL file. Raises StackError with file, line and the server's words."""
    text = path.read_text()
    try:
        connection.execute(text.encode())
    except psycopg.Error as error:
        position = error.diag.statement_position or error.diag.internal_position
        line = text.count("\n", 0, int(position)) + 1 if position else 0
        raise StackError(f"{path}:{line}: {error}") from error


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a running cluster."""

    cluster: Cluster
    name: str

    def connect(self, role: str = ADMIN, *, autocommit: bool = True) -> psycopg.Connection:
        """A session over the socket, by default the superuser's."""
        return self.cluster.connect(self.name, role, autocommit=autocommit)

    def dsn(self, role: str = "postgres") -> str:
        """A URL over TCP."""
        return self.cluster.dsn(role, self.name)


class Databases:
    """Fresh databases of one cluster, each a copy of a template that was built once."""

    def __init__(self, cluster: Cluster, root: Path = ROOT) -> None:
        self.cluster, self.root = cluster, root

    def create_template(self, source: Source = "sql") -> str:
        """Build the template database for `source`; its name."""
        name = f"template_{source}"
        with self.cluster.connect("template1") as connection:
            found = connection.execute("select from pg_database where datname = %s", (name,))
            if found.fetchone() is not None:
                return name
        try:
            self.build(name, source)
        except BaseException:
            self.cluster.drop_database(name)  # half a template would be taken for a whole one
            raise
        return name

    def build(self, name: str, source: Source) -> None:
        """A new database holding the platform and this repository's SQL."""
        self.cluster.create_database(name)
        self.cluster.bootstrap(name)
        with self.cluster.connect(name, "postgres") as connection:
            if source == "sql":
                apply_schema(connection, schema_files(self.root))
            else:
                apply_migrations(connection, self.root)

    @contextmanager
    def fresh_database(self, source: Source = "sql") -> Iterator[Database]:
        """An own copy of the template (about 60 ms), dropped at the end."""
        template = self.create_template(source)
        name = f"db_{uuid.uuid4().hex[:12]}"
        self.cluster.create_database(name, template)
        try:
            yield Database(self.cluster, name)
        finally:
            self.cluster.drop_database(name)
