"""That the comparison of scripts/migrate can fail, and that the Supabase CLI agrees with us."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.stack.catalog import describe, difference
from scripts.stack.database import Database, Databases, apply_migrations
from scripts.stack.migrate import CLI, baseline_text
from scripts.stack.places import ROOT, StackError
from scripts.stack.postgres import Cluster


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Database]:
    """A hosted project's database before the first migration."""
    name = "empty_project"
    cluster.create_database(name)
    cluster.bootstrap(name)
    yield Database(cluster, name)
    cluster.drop_database(name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout whose only migration is today's `sql/`."""
    (tmp_path / "supabase/migrations").mkdir(parents=True)
    shutil.copy(ROOT / "supabase/config.toml", tmp_path / "supabase")
    migration = tmp_path / "supabase/migrations/20261121000000_baseline.sql"
    migration.write_text(baseline_text())
    return tmp_path


def supabase(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(CLI), *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)  # noqa: S603


@pytest.mark.parametrize(
    "change",
    [
        "alter table payments.payment_intents add column extra text",
        "alter table payments.payment_intents alter column description set not null",
        "grant select on payments.payment_intents to anon",
        "revoke execute on function payments.get_intent from fn_payment_intents",
        "drop policy payment_intents_select_own on payments.payment_intents",
        "comment on table payments.payment_intents is 'Another sentence.'",
        "alter function payments.get_intent security invoker",
        "update public.currencies set scale = 3 where code = 'KES'",
        "delete from payments.intent_transitions",
        "select cron.unschedule('stalela-fast')",
    ],
)
def test_every_kind_of_drift_is_found(
    database: Database, databases: Databases, change: str
) -> None:
    with databases.fresh_database() as drifted:
        assert describe(database) == describe(drifted)

        with drifted.connect() as connection:
            connection.execute(change.encode())

        assert difference("before", describe(database), "after", describe(drifted)) != ""


def test_cli_pushes_what_we_apply_and_both_share_one_history(
    project: Path, empty: Database, database: Database
) -> None:
    pushed = supabase(project, "db", "push", "--yes", "--remote", empty.dsn())

    assert pushed.returncode == 0, pushed.stderr
    assert difference("sql", describe(database), "pushed", describe(empty)) == ""
    with empty.connect("postgres") as connection:
        assert apply_migrations(connection, project) == []


def test_cli_lints_the_database_without_a_finding(project: Path, database: Database) -> None:
    linted = supabase(project, "db", "lint", "--remote", database.dsn(), "--fail-on", "warning")
    advised = supabase(project, "db", "advisors", "--remote", database.dsn(), "--fail-on", "warn")

    assert linted.returncode == 0, linted.stdout
    assert advised.returncode == 0, advised.stdout


def test_migration_edited_after_it_ran_is_refused_with_the_way_out(
    project: Path, empty: Database
) -> None:
    migration = next((project / "supabase/migrations").iterdir())
    with empty.connect("postgres") as connection:
        apply_migrations(connection, project)
        migration.write_text(migration.read_text() + "-- an afterthought\n")

        with pytest.raises(StackError, match=r"20261121000000_baseline changed .* --erase"):
            apply_migrations(connection, project)


def test_failing_file_is_named_with_its_line(project: Path, empty: Database) -> None:
    later = project / "supabase/migrations/20261122000000_broken.sql"
    later.write_text("select 1;\n\nselect nonsense;\n")

    with (
        empty.connect("postgres") as connection,
        pytest.raises(StackError, match=r"20261122000000_broken.sql:3: .*nonsense"),
    ):
        apply_migrations(connection, project)
