"""What the Auth stand-in keeps in `auth.*`: users, their sessions, refresh tokens."""

import base64
import hashlib
import hmac
import secrets
from typing import Any

import psycopg
from anyio import to_thread
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from scripts.stack.auth_errors import AuthRefused

Row = dict[str, Any]
Connection = psycopg.AsyncConnection[Row]

SCRYPT = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 2**20}  # about 40 ms, like bcrypt at 10
PASSWORD_MIN = 6


async def connect(conninfo: str) -> Connection:
    """A session as supabase_auth_admin; rows are dictionaries."""
    return await psycopg.AsyncConnection.connect(conninfo, row_factory=dict_row)


async def create_user(
    store: Connection, email: str, password: str, user_data: Row, app_data: Row, *, confirmed: bool
) -> Row:
    """A new user. Raises AuthRefused for a weak password or a taken address."""
    hashed = await hash_password(password)
    app_data = {"provider": "email", "providers": ["email"]} | app_data
    created = await store.execute(
        "insert into auth.users (email, encrypted_password, email_confirmed_at, "
        "raw_user_meta_data, raw_app_meta_data) "
        "values (lower(%s), %s, case when %s then now() end, %s, %s) "
        "on conflict (email) do nothing returning *",
        (email, hashed, confirmed, Jsonb(user_data), Jsonb(app_data)),
    )
    user = await created.fetchone()
    if user is None:
        raise AuthRefused(422, "user_already_exists", "User already registered")
    return user


async def authenticate(store: Connection, email: str, password: str) -> Row:
    """The user with this password. Raises AuthRefused without saying which of the two is wrong."""
    found = await store.execute("select * from auth.users where email = lower(%s)", (email,))
    user = await found.fetchone()
    hashed = user["encrypted_password"] if user else ""
    if not await _password_fits(password, hashed) or user is None:
        raise AuthRefused(400, "invalid_credentials", "Invalid login credentials")
    return user


async def find_user(store: Connection, user_id: str) -> Row:
    """One user by id. Raises AuthRefused 404."""
    found = await store.execute("select * from auth.users where id::text = %s", (user_id,))
    user = await found.fetchone()
    if user is None:
        raise AuthRefused(404, "user_not_found", "User not found")
    return user


async def change_user(store: Connection, user_id: str, changes: Row) -> Row:
    """Change email, password and the two kinds of metadata (merged). None leaves a value."""
    password = changes.get("password")
    changed = await store.execute(
        "update auth.users set email = coalesce(lower(%s), email), "
        "encrypted_password = coalesce(%s, encrypted_password), "
        "raw_user_meta_data = raw_user_meta_data || %s, "
        "raw_app_meta_data = raw_app_meta_data || %s, updated_at = now() "
        "where id::text = %s returning *",
        (
            changes.get("email"),
            await hash_password(password) if password else None,
            Jsonb(changes.get("user_metadata") or {}),
            Jsonb(changes.get("app_metadata") or {}),
            user_id,
        ),
    )
    user = await changed.fetchone()
    if user is None:
        raise AuthRefused(404, "user_not_found", "User not found")
    return user


async def list_users(store: Connection, page: int, per_page: int) -> list[Row]:
    """One page of users, oldest first; pages count from 1."""
    found = await store.execute(
        "select * from auth.users order by created_at, id limit %s offset %s",
        (per_page, (page - 1) * per_page),
    )
    return await found.fetchall()


async def delete_user(store: Connection, user_id: str) -> None:
    """Remove a user with all sessions. Raises AuthRefused 404."""
    await find_user(store, user_id)
    await store.execute("delete from auth.users where id::text = %s", (user_id,))


async def open_session(store: Connection, user_id: str) -> str:
    """A new session; its id."""
    await store.execute("update auth.users set last_sign_in_at = now() where id = %s", (user_id,))
    opened = await store.execute(
        "insert into auth.sessions (user_id) values (%s) returning id::text", (user_id,)
    )
    row = await opened.fetchone()
    assert row is not None
    return str(row["id"])


async def issue_refresh_token(store: Connection, session_id: str) -> str:
    """A new refresh token of a session."""
    token = secrets.token_urlsafe(24)
    await store.execute(
        "insert into auth.refresh_tokens (token, session_id) values (%s, %s)", (token, session_id)
    )
    return token


async def spend_refresh_token(store: Connection, token: str) -> Row:
    """user_id and session_id of an unspent token, which is spent now.

    Raises AuthRefused. A token spent twice was copied by somebody: the caller must commit, because
    the whole session is closed here.
    """
    found = await store.execute(
        "select t.revoked, s.id::text as session_id, s.user_id::text "
        "from auth.refresh_tokens as t join auth.sessions as s on s.id = t.session_id "
        "where t.token = %s for update",
        (token,),
    )
    row = await found.fetchone()
    if row is None:
        raise AuthRefused(
            400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found"
        )
    if row["revoked"]:
        await store.execute("delete from auth.sessions where id::text = %s", (row["session_id"],))
        await store.commit()
        raise AuthRefused(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
    await store.execute("update auth.refresh_tokens set revoked = true where token = %s", (token,))
    return row


async def require_session(store: Connection, session_id: str) -> None:
    """Raises AuthRefused when the session of a token was closed."""
    found = await store.execute("select from auth.sessions where id::text = %s", (session_id,))
    if await found.fetchone() is None:
        raise AuthRefused(403, "session_not_found", "Session from session_id claim does not exist")


async def close_sessions(store: Connection, user_id: str, session_id: str, scope: str) -> None:
    """scope: `local` this session, `others` all but this, `global` all."""
    await store.execute(
        "delete from auth.sessions where user_id::text = %(user)s and case %(scope)s "
        "when 'local' then id::text = %(session)s when 'others' then id::text <> %(session)s "
        "else true end",
        {"user": user_id, "session": session_id, "scope": scope},
    )


async def run_token_hook(store: Connection, event: Row) -> Row:
    """The claims after `public.custom_access_token_hook`, when the database has one."""
    exists = await store.execute(
        "select to_regprocedure('public.custom_access_token_hook(jsonb)') is not null as yes"
    )
    row = await exists.fetchone()
    if not row or not row["yes"]:
        return dict(event["claims"])
    called = await store.execute(
        "select public.custom_access_token_hook(%s) as event", (Jsonb(event),)
    )
    answer = await called.fetchone()
    changed = (answer or {})["event"]
    if "error" in changed:
        error = changed["error"]
        raise AuthRefused(error.get("http_code", 500), "hook_error", error["message"])
    return dict(changed["claims"])


async def hash_password(password: str) -> str:
    """`scrypt$<salt>$<hash>`. Raises AuthRefused below six characters, as hosted by default."""
    if len(password) < PASSWORD_MIN:
        words = f"Password should be at least {PASSWORD_MIN} characters."
        raise AuthRefused(422, "weak_password", words, {"reasons": ["length"]})
    salt = secrets.token_bytes(16)
    hashed = await to_thread.run_sync(_scrypt, password, salt)
    return f"scrypt${_text(salt)}${_text(hashed)}"


async def _password_fits(password: str, stored: str) -> bool:
    # An unknown address costs the same time as a wrong password.
    compared = stored or f"scrypt${_text(b'nobody')}$"
    salt, _, hashed = compared.removeprefix("scrypt$").partition("$")
    computed = await to_thread.run_sync(_scrypt, password, base64.b64decode(salt))
    return hmac.compare_digest(_text(computed), hashed)


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **SCRYPT)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
