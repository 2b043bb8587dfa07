"""One sqlite file that outlives the process: mail, idempotency keys, webhook deliveries."""

import json
import sqlite3
from pathlib import Path
from typing import Any

SCHEMA = """
create table if not exists emails (
    number integer primary key autoincrement,
    id text not null unique,
    body text not null,
    sent_at real not null,
    last_event text not null default 'sent',
    idempotency_key text
);
create table if not exists keys (
    key text primary key,
    body_hash text not null,
    email_id text not null,
    remembered_at real not null
);
create table if not exists deliveries (
    number integer primary key autoincrement,
    webhook_id text not null,
    type text not null,
    email_id text not null,
    attempt integer not null,
    status integer,
    answer text
);
create table if not exists requests (
    number integer primary key autoincrement,
    idempotency_key text,
    body blob not null,
    status integer not null,
    name text
);
"""
KEY_LIFE_S = 24 * 3600


class Store:
    """Every statement commits by itself."""

    def __init__(self, state: Path) -> None:
        state.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(state / "resend.sqlite", isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        self._db.executescript(SCHEMA)

    def known_key(self, key: str, now: float) -> sqlite3.Row | None:
        """The row of a key that is younger than 24 h."""
        row: sqlite3.Row | None = self._db.execute(
            "select * from keys where key = ? and remembered_at > ?", (key, now - KEY_LIFE_S)
        ).fetchone()
        return row

    def accept(
        self, email_id: str, body: dict[str, Any], key: str | None, body_hash: str, now: float
    ) -> None:
        """Keep the mail, and its key for 24 h."""
        self._db.execute(
            "insert into emails (id, body, sent_at, idempotency_key) values (?, ?, ?, ?)",
            (email_id, json.dumps(body), now, key),
        )
        if key:
            self._db.execute(
                "insert or replace into keys (key, body_hash, email_id, remembered_at)"
                " values (?, ?, ?, ?)",
                (key, body_hash, email_id, now),
            )

    def accepted_since(self, instant: float) -> int:
        """How many mails were accepted since then."""
        query = "select count(*) from emails where sent_at >= ?"
        return int(self._db.execute(query, (instant,)).fetchone()[0])

    def email(self, email_id: str) -> dict[str, Any] | None:
        """One mail, as `GET /emails/{id}` shows it, or None."""
        row = self._db.execute("select * from emails where id = ?", (email_id,)).fetchone()
        return _mail(row) if row else None

    def emails(self, to: str | None = None, limit: int = 200) -> list[dict[str, Any]]:
        """The newest mails first, all or those to one address."""
        rows = self._db.execute("select * from emails order by number desc limit ?", (limit,))
        mails = [_mail(row) for row in rows]
        return [mail for mail in mails if to is None or to in mail["to"]]

    def happened(self, email_id: str, event: str) -> None:
        """The mail's last event."""
        self._db.execute("update emails set last_event = ? where id = ?", (event, email_id))

    def delivered(
        self, webhook_id: str, kind: str, email_id: str, attempt: int, status: int | None, text: str
    ) -> None:
        """One attempt to deliver a webhook."""
        self._db.execute(
            "insert into deliveries (webhook_id, type, email_id, attempt, status, answer)"
            " values (?, ?, ?, ?, ?, ?)",
            (webhook_id, kind, email_id, attempt, status, text),
        )

    def deliveries(self, email_id: str | None = None) -> list[dict[str, Any]]:
        """Webhook attempts in order, all or those about one mail."""
        rows = self._db.execute("select * from deliveries order by number")
        return [dict(row) for row in rows if email_id is None or row["email_id"] == email_id]

    def asked(self, key: str | None, body: bytes, status: int, name: str | None) -> None:
        """One request to send, however it was answered."""
        self._db.execute(
            "insert into requests (idempotency_key, body, status, name) values (?, ?, ?, ?)",
            (key, body, status, name),
        )

    def requests(self) -> list[dict[str, Any]]:
        """Requests to send, in order; body is the text that came."""
        rows = self._db.execute("select * from requests order by number")
        return [dict(row) | {"body": bytes(row["body"]).decode(errors="replace")} for row in rows]

    def clear(self) -> None:
        """Forget everything."""
        for table in ("emails", "keys", "deliveries", "requests"):
            self._db.execute(f"delete from {table}")  # noqa: S608  names of the list above

    def close(self) -> None:
        self._db.close()


def _mail(row: sqlite3.Row) -> dict[str, Any]:
    return {
        **json.loads(row["body"]),
        "id": row["id"],
        "object": "email",
        "created_at": row["sent_at"],
        "last_event": row["last_event"],
        "idempotency_key": row["idempotency_key"],
    }
