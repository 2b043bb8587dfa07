"""Row level security, for every table and every role there is: generated from the catalog.

Nobody has a grant on a table, so the first line of defence is that every statement is refused. The
second is tried in a transaction that is rolled back: with select granted, each role still sees the
rows of its own tenant and environment at most.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import psycopg
import pytest
from psycopg import sql

from scripts.stack.database import Database, exposed_schemas
from tests.support.sql import Books

TENANTS = ("tn_mine", "tn_other")
ENVIRONMENTS = ("sandbox", "production")
MINE = ("tn_mine", "sandbox")

TABLES = """
select
    c.oid::regclass::text as name, c.relispartition as is_partition,
    array_agg(a.attname::text order by a.attnum) as columns
from pg_catalog.pg_class as c
inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
inner join pg_catalog.pg_attribute as a
    on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspowner = 'stalela_owner'::regrole or (n.nspname = 'public' and c.relkind in ('r', 'p'))
group by c.oid, c.relkind having c.relkind in ('r', 'p')
order by 1
"""
# What a row cannot be inserted without.
REQUIRED = """
select a.attname as name, t.typname as type, t.typcategory as category
from pg_catalog.pg_attribute as a
inner join pg_catalog.pg_type as t on t.oid = a.atttypid
where
    a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped
    and a.attnotnull and not a.atthasdef and a.attidentity = '' and a.attgenerated = ''
"""
CHECKS = """
select conname from pg_catalog.pg_constraint where conrelid = %s::regclass and contype = 'c'
"""
ROLES = """
select rolname from pg_catalog.pg_roles
where rolname ~ '^(anon|authenticated|service_role|authenticator|fn_.*)$'
order by 1
"""


@dataclass(frozen=True)
class Table:
    """A table of ours."""

    name: str
    columns: tuple[str, ...]
    is_partition: bool

    @property
    def identifier(self) -> sql.Identifier:
        return (
            sql.Identifier(*self.name.split(".")) if "." in self.name else sql.Identifier(self.name)
        )

    @property
    def is_tenants(self) -> bool:
        # Rows go into a partition through its table, which is in the list itself.
        return "tenant_id" in self.columns and not self.is_partition

    @property
    def places(self) -> list[tuple[str, str | None]]:
        """The (tenant, environment) pairs that this table tells apart."""
        if "environment" in self.columns:
            return list(product(TENANTS, ENVIRONMENTS))
        return [(tenant, None) for tenant in TENANTS]


@pytest.fixture(scope="module")
def books(module_database: Database) -> Iterator[Books]:
    with Books(module_database) as opened:
        opened.run("set search_path = ''")
        yield opened


@pytest.fixture(scope="module")
def tables(books: Books) -> list[Table]:
    return [
        Table(row["name"], tuple(row["columns"]), row["is_partition"]) for row in books.rows(TABLES)
    ]


@pytest.fixture(scope="module")
def roles(books: Books) -> list[str]:
    return books.column(ROLES)


@pytest.fixture
def filled(books: Books, tables: list[Table]) -> Iterator[list[Table]]:
    """The tables of tenants, each with a row per tenant and environment; gone after the test.

    Foreign keys, triggers and checks are off: what matters here is whose row it is.
    """
    with books.connection.transaction(force_rollback=True):
        books.run("set local session_replication_role = replica")
        ours = [table for table in tables if table.is_tenants]
        for table in ours:
            fill(books, table)
        yield ours


def fill(books: Books, table: Table) -> None:
    for name in books.column(CHECKS, table.name):
        books.connection.execute(
            sql.SQL("alter table {} drop constraint {}").format(
                table.identifier, sql.Identifier(name)
            )
        )
    required = books.rows(REQUIRED, table.name)
    for number, (tenant, environment) in enumerate(table.places, 1):
        values = {row["name"]: invented(row["type"], row["category"], number) for row in required}
        values["tenant_id"] = tenant
        if environment is not None:
            values["environment"] = environment
        books.connection.execute(
            sql.SQL("insert into {} ({}) values ({})").format(
                table.identifier,
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(sql.Placeholder() * len(values)),
            ),
            list(values.values()),
        )


def invented(type_name: str, category: str, number: int) -> Any:
    """A value of a type, different for each number where the type allows."""
    by_type = {
        "jsonb": "{}",
        "json": "{}",
        "bytea": f"{number}",
        "uuid": f"00000000-0000-0000-0000-{number:012}",
    }
    by_category = {
        "S": f"made {number}",
        "N": number,
        "B": False,
        "D": "2026-01-01",
        "A": "{}",
        "T": "0",
    }
    return by_type[type_name] if type_name in by_type else by_category[category]


@contextmanager
def acting_as(books: Books, role: str, tenant: str, environment: str) -> Iterator[None]:
    """A request of this role whose token names the tenant; whatever it does is undone."""
    with books.connection.transaction(force_rollback=True):
        books.rows(
            "select pg_catalog.set_config('request.jwt.claims', %s, true),"
            " pg_catalog.set_config('request.headers', %s, true),"
            " pg_catalog.set_config('role', %s, true)",
            json.dumps({"role": role, "tenant_id": tenant}),
            json.dumps({"x-stalela-environment": environment}),
            role,
        )
        yield


def visible(books: Books, table: Table) -> set[tuple[str, str | None]]:
    """Whose rows the current role sees."""
    environment = "environment" if "environment" in table.columns else "null::text"
    query = sql.SQL("select distinct tenant_id, {} from {}").format(
        sql.SQL(environment), table.identifier
    )
    return set(books.connection.execute(query).fetchall())


def outcome(books: Books, statement: sql.Composed) -> str:
    """`refused`, or what the statement met instead."""
    try:
        with books.connection.transaction(force_rollback=True):
            books.connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return "refused"
    except psycopg.Error as error:
        return str(error)
    return "allowed"


def test_the_catalog_lists_what_we_think_it_lists(tables: list[Table], roles: list[str]) -> None:
    names = {table.name for table in tables}

    assert {"payments.payment_intents", "rails.callbacks", "public.api_keys"} <= names
    assert sum(table.is_tenants for table in tables) >= 19
    assert {"anon", "authenticated", "service_role", "authenticator"} < set(roles)
    assert {"fn_payment_intents", "fn_momo_callback", "fn_reconcile", "fn_merchants"} < set(roles)


def test_every_table_of_tenants_was_filled_for_both_tenants_and_environments(
    books: Books, filled: list[Table]
) -> None:
    missing = {table.name: set(table.places) - visible(books, table) for table in filled}

    assert {name: places for name, places in missing.items() if places} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "select from {}",
        "insert into {} default values",
        "update {} set {} = {}",
        "delete from {}",
        "truncate {} cascade",
    ],
)
def test_every_statement_on_every_table_is_refused_to_every_role(
    books: Books, tables: list[Table], roles: list[str], statement: str
) -> None:
    found = {}
    for role, table in product(roles, tables):
        column = sql.Identifier(table.columns[-1])
        composed = sql.SQL(statement).format(table.identifier, column, column)
        with acting_as(books, role, *MINE):
            found[role, table.name] = outcome(books, composed)

    assert {where: met for where, met in found.items() if met != "refused"} == {}


def test_with_a_grant_authenticated_sees_the_own_rows_and_no_others(
    books: Books, filled: list[Table]
) -> None:
    grant_select(books, "authenticated")

    seen = {}
    for tenant, environment, table in product(TENANTS, ENVIRONMENTS, filled):
        with acting_as(books, "authenticated", tenant, environment):
            seen[table.name, tenant, environment] = visible(books, table)

    expected = {
        (table.name, tenant, environment): {
            (tenant, environment if "environment" in table.columns else None)
        }
        for tenant, environment, table in product(TENANTS, ENVIRONMENTS, filled)
    }
    assert seen == expected


def test_with_a_grant_every_other_role_still_sees_nobodys_rows(
    books: Books, filled: list[Table], roles: list[str]
) -> None:
    # The platform lets service_role skip policies: what holds it off is that nothing is granted.
    subject = [role for role in roles if role not in {"authenticated", "service_role"}]

    seen = {}
    for role in subject:
        grant_select(books, role)
        for table in filled:
            with acting_as(books, role, *MINE):
                seen[role, table.name] = visible(books, table)

    assert {where: places for where, places in seen.items() if places} == {}


def test_without_a_tenant_in_the_token_nothing_is_visible(
    books: Books, filled: list[Table]
) -> None:
    grant_select(books, "authenticated")

    with acting_as(books, "authenticated", *MINE):
        books.rows("select pg_catalog.set_config('request.jwt.claims', '{}', true)")
        seen = {table.name: visible(books, table) for table in filled}

    assert {name: places for name, places in seen.items() if places} == {}


def test_only_the_platforms_own_roles_may_skip_policies(books: Books) -> None:
    skipping = books.column(
        "select rolname from pg_catalog.pg_roles where (rolbypassrls or rolsuper)"
        " and rolname not like 'pg\\_%%' order by 1"
    )

    assert skipping == ["postgres", "service_role", "supabase_admin"]


def grant_select(books: Books, role: str) -> None:
    """Let the role read every table, in this transaction."""
    for schema in exposed_schemas():
        books.connection.execute(
            sql.SQL("grant usage on schema {0} to {1}").format(
                sql.Identifier(schema), sql.Identifier(role)
            )
        )
        books.connection.execute(
            sql.SQL("grant select on all tables in schema {0} to {1}").format(
                sql.Identifier(schema), sql.Identifier(role)
            )
        )
    books.connection.execute(
        sql.SQL("grant execute on function public.tenant_id, public.environment to {}").format(
            sql.Identifier(role)
        )
    )
