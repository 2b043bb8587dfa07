"""A text that is equal for two databases exactly when their catalogs and reference rows are."""

import json
import re
import subprocess
from difflib import unified_diff

import psycopg

from scripts.stack.database import Database
from scripts.stack.postgres import program

OUTSIDE = ("supabase_migrations", "cron")  # the history, and jobs, which name their database
NOISE = re.compile(r"^(\\(un)?restrict |-- (Dumped|Name: |TOC)|--$|$)")

ROLES = """
select r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin,
    r.rolreplication, r.rolbypassrls, r.rolconfig,
    array(
        select m.roleid::regrole::text from pg_catalog.pg_auth_members as m
        where m.member = r.oid order by 1
    ) as member_of
from pg_catalog.pg_roles as r
where r.rolname !~ '^pg_'
order by r.rolname
"""

# Columns filled with the time of the insert say nothing about the rows.
TABLES = """
select c.oid::regclass::text, array(
    select a.attname::text from pg_catalog.pg_attribute as a
    left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where
        a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        and coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') !~ 'now\\(\\)|clock_timestamp'
    order by a.attname
)
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
where
    c.relkind in ('r', 'p') and not c.relispartition
    and n.nspname !~ '^pg_|^information_schema$' and n.nspname <> all(%s)
order by 1
"""


def describe(database: Database) -> str:
    """Objects, grants, policies and comments as pg_dump writes them; then roles, jobs and rows."""
    with database.connect() as connection:
        jobs = "select jobname, schedule, command, username, active from cron.job order by 1"
        parts = [
            *_schema_lines(database),
            *_query(connection, "role", ROLES),
            *_query(connection, "job", jobs),
            *_rows(connection),
        ]
    return "\n".join(parts) + "\n"


def difference(name_a: str, a: str, name_b: str, b: str) -> str:
    """A unified diff; empty when equal."""
    lines = unified_diff(a.splitlines(), b.splitlines(), name_a, name_b, lineterm="", n=2)
    return "\n".join(lines)


def _schema_lines(database: Database) -> list[str]:
    excluded = [f"--exclude-schema={name}" for name in OUTSIDE]
    command = [str(program("pg_dump")), "--schema-only", *excluded, database.dsn("supabase_admin")]
    dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in dump.splitlines() if not NOISE.match(line)]


def _query(connection: psycopg.Connection, kind: str, query: str) -> list[str]:
    rows = connection.execute(query.encode()).fetchall()
    return [f"{kind} {json.dumps(row, default=str)}" for row in rows]


def _rows(connection: psycopg.Connection) -> list[str]:
    lines = []
    for table, columns in connection.execute(TABLES.encode(), (list(OUTSIDE),)).fetchall():
        listed = ", ".join(f'"{column}"' for column in columns)
        everything = f"select {listed} from {table}"  # noqa: S608  names from the catalog itself
        lines += sorted(_query(connection, table, everything))
    return lines
