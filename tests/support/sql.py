"""SQL functions called as PostgREST calls them: a role, the request's headers, one transaction."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from typing import Any, Self

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from scripts.stack.database import Database

TIMEOUTS = [("lock_timeout", "60s"), ("statement_timeout", "120s")]
Headers = Mapping[str, str]
Row = dict[str, Any]

_ROLE_SETTINGS = """
select coalesce(r.rolconfig, '{}') from pg_catalog.pg_roles as r where r.rolname = %s
"""


class Refused(Exception):
    """`public.refuse` in SQL. extras: what its hint holds."""

    def __init__(self, code: str, message: str, extras: Row) -> None:
        super().__init__(f"{code} {message}")
        self.code, self.message, self.extras = code, message, extras


class Api:
    """One connection of the Data API's pool. Close it, or use it as a context manager."""

    def __init__(self, database: Database) -> None:
        self.connection = database.connect("authenticator")
        self._settings: dict[str, list[tuple[str, str]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def call(self, role: str, headers: Headers, function: str, /, **arguments: Any) -> Any:
        """The function's result as JSON, as `role`. Raises Refused, or psycopg.Error for a defect.

        The role's own settings hold, because PostgREST applies them too; but not its timeouts:
        how long a busy machine takes says nothing about us, and who waits for himself still fails.
        """
        (result,) = self.call_set(role, headers, function, **arguments)
        return result

    def call_set(
        self, role: str, headers: Headers, function: str, /, **arguments: Any
    ) -> list[Any]:
        """The same for a function that returns a set."""
        settings = [
            ("role", role),
            ("request.headers", json.dumps(dict(headers))),
            *self._role_settings(role),
            *TIMEOUTS,
        ]
        query = sql.SQL("select to_jsonb(result) from {}({}) as result").format(
            sql.Identifier(*function.split(".")),
            sql.SQL(", ").join(
                sql.SQL("{} => {}").format(sql.Identifier(name), sql.Placeholder(name))
                for name in arguments
            ),
        )
        try:
            with self.connection.transaction():
                self.connection.execute(
                    "select set_config(s.name, s.value, true)"
                    " from unnest(%s::text[], %s::text[]) as s (name, value)",
                    [[name for name, _ in settings], [value for _, value in settings]],
                )
                rows = self.connection.execute(
                    query, {name: _adapted(value) for name, value in arguments.items()}
                ).fetchall()
        except psycopg.Error as error:
            raise translated(error) from error
        return [row[0] for row in rows]

    def _role_settings(self, role: str) -> list[tuple[str, str]]:
        if role not in self._settings:
            found = self.connection.execute(_ROLE_SETTINGS, [role]).fetchone()
            assert found is not None, f"there is no role {role}"
            pairs = (setting.partition("=") for setting in found[0])
            self._settings[role] = [(name, value) for name, _, value in pairs]
        return self._settings[role]


@contextmanager
def connections(database: Database, number: int) -> Iterator[list[Api]]:
    """So many connections of the Data API, closed at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(Api(database)) for _ in range(number)]


class Books:
    """The database as its superuser reads and bends it; no function is involved."""

    def __init__(self, database: Database) -> None:
        self.connection = database.connect()
        self.connection.execute("set timezone to 'UTC'")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def rows(self, query: str, *values: Any) -> list[Row]:
        """All rows."""
        with self.connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, values).fetchall()

    def row(self, query: str, *values: Any) -> Row:
        """The one row there is."""
        found = self.rows(query, *values)
        assert len(found) == 1, f"{len(found)} rows instead of one: {query}"
        return found[0]

    def column(self, query: str, *values: Any) -> list[Any]:
        """The first column."""
        return [row[0] for row in self.connection.execute(query, values)]

    def value(self, query: str, *values: Any) -> Any:
        """The one value of the one row."""
        (value,) = self.column(query, *values)
        return value

    def run(self, query: str, *values: Any) -> int:
        """Execute; the number of rows it touched."""
        return self.connection.execute(query, values).rowcount

    def transfer(self, transfer_id: str) -> Row:
        """The row of a transfer."""
        return self.row("select * from payments.transfers where transfer_id = %s", transfer_id)

    def intent(self, intent_id: str) -> Row:
        """The row of an intent."""
        return self.row(
            "select * from payments.payment_intents where payment_intent_id = %s", intent_id
        )

    def watches(self, transfer_id: str) -> list[Row]:
        """The watch of a transfer, if it is still being asked about."""
        return self.rows("select * from rails.watches where transfer_id = %s", transfer_id)

    def timeline(self, intent_id: str) -> list[str]:
        """The types of everything that happened to an intent and its transfers, in order."""
        return self.column(
            "select e.type from ("
            " select position, type, payment_intent_id from payments.intent_events"
            " union all select position, type, payment_intent_id from payments.transfer_events"
            ") as e where e.payment_intent_id = %s order by e.position",
            intent_id,
        )

    def alerts(self, subject: str) -> list[str]:
        """The kinds of the open alerts about a subject, oldest first."""
        return self.column(
            "select kind from public.alerts"
            " where subject = %s and status = 'open' order by alert_id",
            subject,
        )


def at_once(actions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run the actions in threads that start together; their results in order.

    A refusal counts as a result: the Refused. Anything else that is raised is raised here.
    """
    start = threading.Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return action()
        except Refused as refused:
            return refused

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


def digest(secret: str) -> str:
    """SHA-256 in hexadecimal, as keys, tokens and client secrets are looked up."""
    return sha256(secret.encode()).hexdigest()


def _adapted(value: Any) -> Any:
    is_json = isinstance(value, dict) or (
        isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
    )
    return Jsonb(value) if is_json else value


def translated(error: psycopg.Error) -> Exception:
    """The Refused behind an error of `public.refuse`, otherwise the error itself."""
    if not (error.sqlstate or "").startswith("PT"):
        return error
    hint = error.diag.message_hint
    return Refused(
        error.diag.message_detail or "",
        error.diag.message_primary or "",
        json.loads(hint) if hint else {},
    )
