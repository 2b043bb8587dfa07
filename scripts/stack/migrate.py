"""Migrations: written from `sql/` once, then proved equal to it, each with a proved way back."""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from scripts.stack.catalog import describe, difference
from scripts.stack.database import Database, Databases, migration_files, run_file, schema_files
from scripts.stack.places import ROOT, StackError
from scripts.stack.postgres import Cluster
from scripts.stack.testing import free_block, session_state

MIGRATIONS, ROLLBACKS = ROOT / "supabase/migrations", ROOT / "supabase/rollbacks"
CLI = ROOT / "node_modules/.bin/supabase"

BASELINE = """\
-- The whole of sql/ in the order of db.migrations.schema_paths, for an empty database: locks
-- nothing that anybody uses. Written by scripts/migrate baseline; do not edit.
set check_function_bodies = off;
"""
WAY_BACK = """\
-- The way back from {name}: everything it made goes, with all data.
-- Written by scripts/migrate baseline; do not edit.
{jobs}
-- Who drops what a role owns must be its member.
grant {roles} to current_user;
drop owned by {roles} cascade;
drop role {roles};
alter default privileges for role postgres grant execute on functions to public;
"""


def main() -> int:
    """Exit code 1 with the difference, or with one sentence."""
    parser = argparse.ArgumentParser(prog="scripts/migrate", description=__doc__)
    parser.add_argument("command", choices=["baseline", "check", "undo"])
    command = {"baseline": baseline, "check": check, "undo": undo}[parser.parse_args().command]
    try:
        return command()
    except StackError as problem:
        print(f"migrate: {problem}", file=sys.stderr)
        return 1


def baseline() -> int:
    """Write the first migration and its rollback from `sql/`. Refuses once there is a second."""
    existing = migration_files()
    if len(existing) > 1:
        raise StackError("there are migrations after the baseline: a released one is never edited.")
    stamp = f"{datetime.now(UTC):%Y%m%d%H%M%S}_baseline.sql"
    name = existing[0].name if existing else stamp
    for folder in (MIGRATIONS, ROLLBACKS):
        folder.mkdir(parents=True, exist_ok=True)
    (MIGRATIONS / name).write_text(baseline_text())
    (ROLLBACKS / name).write_text(_way_back(name))
    print(f"migrate: wrote supabase/migrations/{name} and its rollback")
    return 0


def baseline_text() -> str:
    """All of `sql/` as one migration."""
    parts = [f"\n-- {path.relative_to(ROOT)}\n\n{path.read_text()}" for path in schema_files()]
    return BASELINE + "".join(parts)


def check() -> int:
    """Prove that `sql/` and the migrations make the same database, by the CLI and by ourselves."""
    with _databases() as databases:
        databases.build("from_sql", "sql")
        databases.build("from_migrations", "migrations")
        ours = Database(databases.cluster, "from_sql")
        theirs = Database(databases.cluster, "from_migrations")
        drafted = _diff_by_cli(theirs, ours)
        found = difference("supabase/migrations", describe(theirs), "sql/", describe(ours))
    print(
        drafted + found if drafted or found else "migrate: sql/ and supabase/migrations are equal"
    )
    return 1 if drafted or found else 0


def undo() -> int:
    """Prove each rollback: apply a migration, roll it back, compare with before, apply it again."""
    with _databases() as databases:
        databases.cluster.create_database("undo")
        databases.cluster.bootstrap("undo")
        database = Database(databases.cluster, "undo")
        for path in migration_files():
            if found := _proof_of_rollback(database, path):
                print(found)
                return 1
            print(f"migrate: {path.name} can be undone")
    return 0


def _proof_of_rollback(database: Database, path: Path) -> str:
    rollback = ROLLBACKS / path.name
    if not rollback.exists():
        raise StackError(f"{path.name} has no rollback in supabase/rollbacks.")
    before = describe(database)
    for file in (path, rollback):
        _run(database, file)
    after = describe(database)
    _run(database, path)
    return difference(f"before {path.name}", before, f"after {rollback.name}", after)


def _run(database: Database, path: Path) -> None:
    with database.connect("postgres") as connection, connection.transaction():
        run_file(connection, path)


def _way_back(name: str) -> str:
    """The rollback of the baseline, naming the roles and jobs it adds to an empty platform."""
    with _databases() as databases:
        databases.cluster.create_database("empty")
        databases.cluster.bootstrap("empty")
        roles = set(_names(databases, "empty", "select rolname from pg_roles"))
        databases.build("full", "migrations")
        new = [
            r for r in _names(databases, "full", "select rolname from pg_roles") if r not in roles
        ]
        jobs = _names(databases, "full", "select jobname from cron.job")
    unscheduled = "".join(f"select cron.unschedule('{job}');\n" for job in sorted(jobs))
    return WAY_BACK.format(name=name, jobs=unscheduled, roles=", ".join(sorted(new)))


def _names(databases: Databases, database: str, query: str) -> list[str]:
    with databases.cluster.connect(database) as connection:
        return [row[0] for row in connection.execute(query.encode()).fetchall()]


def _diff_by_cli(before: Database, after: Database) -> str:
    command = [str(CLI), "db", "diff", "--from", before.dsn(), "--to", after.dsn()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise StackError(f"supabase db diff failed: {done.stderr.strip()}")
    return done.stdout.strip()


@contextmanager
def _databases() -> Iterator[Databases]:
    with session_state("migrate") as state:
        cluster = Cluster(state, free_block(), fsync=False, cron=False)
        try:
            cluster.start()
            yield Databases(cluster)
        finally:
            cluster.stop()
            cluster.erase()


if __name__ == "__main__":
    sys.exit(main())
