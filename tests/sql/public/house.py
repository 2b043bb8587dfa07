"""The `public` schema as a function sees it: one call, one transaction, one role, its headers."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from scripts.stack.database import Database

Row = dict[str, Any]


class Refused(Exception):
    """SQL refused: the code of the catalogue, the HTTP status it implies, what it said."""

    def __init__(self, error: psycopg.Error) -> None:
        super().__init__(error.diag.message_primary)
        self.code = error.diag.message_detail
        self.status = int((error.sqlstate or "PT000")[2:])
        self.extras: Row = json.loads(error.diag.message_hint or "{}")


@dataclass(frozen=True)
class Answer:
    """public.answer as a handler reads it."""

    status: int
    body: Row
    headers: dict[str, str]


@dataclass(frozen=True)
class Key:
    """An API key in the database, and the header that presents it."""

    key_id: str
    tenant_id: str

    @property
    def hash(self) -> str:
        return digest(self.key_id)

    @property
    def headers(self) -> dict[str, str]:
        return {"x-stalela-key-hash": self.hash}


@dataclass(frozen=True)
class Person:
    """A signed-in person, as a function that verified their token passes them on."""

    user_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    tenant_id: str | None = None
    environment: str | None = None

    @property
    def email(self) -> str:
        return f"{self.user_id}@example.org"

    @property
    def headers(self) -> dict[str, str]:
        headers = {"x-stalela-user-id": self.user_id, "x-stalela-user-email": self.email.upper()}
        if self.tenant_id:
            headers["x-stalela-tenant-id"] = self.tenant_id
        if self.environment:
            headers["x-stalela-environment"] = self.environment
        return headers


class House:
    """One database and the ways into it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def run(
        self,
        query: str,
        *values: Any,
        role: str = "stalela_owner",
        headers: dict[str, str] | None = None,
    ) -> list[Row]:
        """Run `query` as the Data API would: one transaction, this role, these headers."""
        with self.database.connect(autocommit=False) as connection:
            return run_in(connection, query, *values, role=role, headers=headers)

    def one(self, query: str, *values: Any, **how: Any) -> Any:
        """The single value of a single row."""
        (row,) = self.run(query, *values, **how)
        (value,) = row.values()
        return value

    def call(
        self,
        function: str,
        *,
        by: Key | Person | None,
        role: str = "fn_merchants",
        **arguments: Any,
    ) -> Answer:
        """Call an API function by named arguments and read its answer."""
        named = sql.SQL(", ").join(
            sql.SQL("{} := %s").format(sql.Identifier(name)) for name in arguments
        )
        query = sql.SQL("select * from public.{}({})").format(sql.Identifier(function), named)
        (row,) = self.run(
            query.as_string(), *arguments.values(), role=role, headers=by.headers if by else {}
        )
        return Answer(row["status"], json.loads(row["body"]), row["headers"])

    def arrange(self, statement: str) -> None:
        """Run what no function may: a grant, a lock, another person's settings."""
        with self.database.connect() as connection:
            connection.execute(statement.encode())

    def refused(self, work: Callable[[], Any]) -> Refused:
        """What `work` was refused with; fails when it was not."""
        with pytest.raises(Refused) as caught:
            work()
        return caught.value

    def tenant(self, *, status: str = "active", plan: str = "unlimited") -> str:
        """A new tenant."""
        return str(
            self.one(
                "insert into public.tenants (tenant_id, name, country, status, plan)"
                " values (public.new_id('tn'), 'Duka', 'KE', %s, %s) returning tenant_id",
                status,
                plan,
            )
        )

    def key(
        self,
        tenant_id: str | None = None,
        *,
        scopes: list[str] | None = None,
        environment: str = "sandbox",
        kind: str = "secret",
    ) -> Key:
        """A new key, by default of a new tenant and with every scope."""
        tenant_id = tenant_id or self.tenant()
        key_id = f"key_{uuid.uuid4().hex}"
        self.run(
            "insert into public.api_keys (key_id, tenant_id, environment, kind, name, key_hash,"
            " last4, scopes, created_by) values (%s, %s, %s, %s, 'test', %s, 'abcd', %s, 'test')"
            " returning key_id",
            key_id,
            tenant_id,
            environment,
            kind,
            digest(key_id),
            scopes or ["*"],
        )
        return Key(key_id, tenant_id)

    def member(self, tenant_id: str | None = None, app_role: str = "owner") -> Person:
        """A new person with this role, by default in a new tenant."""
        person = Person(tenant_id=tenant_id or self.tenant())
        self.run(
            "select public.join_tenant(%s, %s, %s, %s)",
            person.tenant_id,
            person.user_id,
            person.email,
            app_role,
        )
        return person


def run_in(
    connection: psycopg.Connection,
    query: str,
    *values: Any,
    role: str = "stalela_owner",
    headers: dict[str, str] | None = None,
) -> list[Row]:
    """Run `query` in the open transaction of `connection`; an error ends it."""
    try:
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute("select set_config('role', %s, true)", (role,))
            # Roles of functions have two seconds; a test that waits for itself fails, not hangs.
            cursor.execute("set local lock_timeout = '60s'")
            cursor.execute(
                "select set_config('request.headers', %s, true)", (json.dumps(headers or {}),)
            )
            cursor.execute(query.encode(), values)
            return cursor.fetchall()
    except psycopg.Error as error:
        connection.rollback()
        if (error.sqlstate or "").startswith("PT"):
            raise Refused(error) from error
        raise


def digest(secret: str) -> str:
    """What the database knows of a secret."""
    return sha256(secret.encode()).hexdigest()


def at_once(work: Callable[[int], Any], times: int) -> list[Any]:
    """Results of `times` simultaneous calls; a refusal is a result."""

    def attempt(number: int) -> Any:
        try:
            return work(number)
        except Refused as refusal:
            return refusal

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(attempt, range(times)))
