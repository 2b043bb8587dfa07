"""A stand-in for Supabase Auth: the calls the official client makes, ES256, the access token hook.

Mounted by the gateway at /auth/v1. Not for production: no e-mail is ever sent, so every address
counts as confirmed.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from scripts.stack import auth_store
from scripts.stack.auth_errors import AuthRefused
from scripts.stack.auth_store import Connection, Row
from scripts.stack.keys import LIFE_OF_USER_TOKEN_S, Keys


class Auth:
    """One Auth server. url: the public Supabase URL, the issuer's first part."""

    def __init__(self, keys: Keys, url: str, conninfo: str) -> None:
        self.keys, self.issuer, self.conninfo = keys, f"{url}/auth/v1", conninfo

    def app(self) -> Starlette:
        """The routes, to be mounted."""
        return Starlette(
            routes=[
                Route("/health", self.health),
                Route("/.well-known/jwks.json", self.jwks),
                Route("/signup", self.sign_up, methods=["POST"]),
                Route("/token", self.token, methods=["POST"]),
                Route("/user", self.get_user, methods=["GET"]),
                Route("/user", self.update_user, methods=["PUT"]),
                Route("/logout", self.sign_out, methods=["POST"]),
                Route("/admin/users", self.admin_list, methods=["GET"]),
                Route("/admin/users", self.admin_create, methods=["POST"]),
                Route("/admin/users/{id}", self.admin_one, methods=["GET", "PUT", "DELETE"]),
            ],
            exception_handlers={AuthRefused: _refusal},
        )

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"name": "GoTrue", "description": "local stand-in", "version": "v2"})

    async def jwks(self, _request: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=600"}
        return JSONResponse(self.keys.jwks(), headers=headers)

    async def sign_up(self, request: Request) -> Response:
        self._require_key(request)
        body = await _body(request)
        async with self._store() as store:
            user = await auth_store.create_user(
                store,
                _text(body, "email"),
                _text(body, "password"),
                body.get("data") or {},
                {},
                confirmed=True,
            )
            return JSONResponse(await self._new_session(store, user))

    async def token(self, request: Request) -> Response:
        self._require_key(request)
        body = await _body(request)
        grants: dict[str, Callable[[Row], Awaitable[Row]]] = {
            "password": self._by_password,
            "refresh_token": self._by_refresh_token,
        }
        grant = grants.get(request.query_params.get("grant_type", ""))
        if grant is None:
            raise AuthRefused(400, "validation_failed", "unsupported_grant_type")
        return JSONResponse(await grant(body))

    async def get_user(self, request: Request) -> Response:
        self._require_key(request)
        async with self._store() as store:
            claims = await self._claims(store, request)
            return JSONResponse(_public(await auth_store.find_user(store, claims["sub"])))

    async def update_user(self, request: Request) -> Response:
        self._require_key(request)
        body = await _body(request)
        # A user may never write app_metadata: authorisation reads it.
        changes = {"email": body.get("email"), "password": body.get("password")}
        async with self._store() as store:
            claims = await self._claims(store, request)
            changes["user_metadata"] = body.get("data")
            user = await auth_store.change_user(store, claims["sub"], changes)
            return JSONResponse(_public(user))

    async def sign_out(self, request: Request) -> Response:
        self._require_key(request)
        scope = request.query_params.get("scope", "global")
        async with self._store() as store:
            claims = await self._claims(store, request)
            await auth_store.close_sessions(store, claims["sub"], claims["session_id"], scope)
        return Response(status_code=204)

    async def admin_list(self, request: Request) -> Response:
        self._require_admin(request)
        query = request.query_params
        page, per_page = int(query.get("page") or 1), int(query.get("per_page") or 50)
        async with self._store() as store:
            users = await auth_store.list_users(store, page, per_page)
        return JSONResponse({"users": [_public(user) for user in users], "aud": "authenticated"})

    async def admin_create(self, request: Request) -> Response:
        self._require_admin(request)
        body = await _body(request)
        async with self._store() as store:
            user = await auth_store.create_user(
                store,
                _text(body, "email"),
                _text(body, "password"),
                body.get("user_metadata") or {},
                body.get("app_metadata") or {},
                confirmed=bool(body.get("email_confirm")),
            )
        return JSONResponse(_public(user))

    async def admin_one(self, request: Request) -> Response:
        self._require_admin(request)
        user_id = request.path_params["id"]
        async with self._store() as store:
            if request.method == "DELETE":
                await auth_store.delete_user(store, user_id)
                return JSONResponse({})
            if request.method == "PUT":
                changes = await _body(request)
                return JSONResponse(_public(await auth_store.change_user(store, user_id, changes)))
            return JSONResponse(_public(await auth_store.find_user(store, user_id)))

    async def _by_password(self, body: Row) -> Row:
        async with self._store() as store:
            user = await auth_store.authenticate(
                store, _text(body, "email"), _text(body, "password")
            )
            return await self._new_session(store, user)

    async def _by_refresh_token(self, body: Row) -> Row:
        async with self._store() as store:
            spent = await auth_store.spend_refresh_token(store, _text(body, "refresh_token"))
            user = await auth_store.find_user(store, spent["user_id"])
            return await self._session(store, user, spent["session_id"], "token_refresh")

    async def _new_session(self, store: Connection, user: Row) -> Row:
        session_id = await auth_store.open_session(store, user["id"])
        return await self._session(store, user, session_id, "password")

    async def _session(self, store: Connection, user: Row, session_id: str, method: str) -> Row:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": str(user["id"]),
            "aud": "authenticated",
            "iat": now,
            "exp": now + LIFE_OF_USER_TOKEN_S,
            "role": user["role"],
            "email": user["email"] or "",
            "phone": user["phone"] or "",
            "app_metadata": user["raw_app_meta_data"],
            "user_metadata": user["raw_user_meta_data"],
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "session_id": session_id,
            "is_anonymous": user["is_anonymous"],
        }
        event = {"user_id": claims["sub"], "claims": claims, "authentication_method": method}
        claims = await auth_store.run_token_hook(store, event)
        return {
            "access_token": self.keys.sign(claims),
            "token_type": "bearer",
            "expires_in": LIFE_OF_USER_TOKEN_S,
            "expires_at": now + LIFE_OF_USER_TOKEN_S,
            "refresh_token": await auth_store.issue_refresh_token(store, session_id),
            "user": _public(user),
        }

    async def _claims(self, store: Connection, request: Request) -> Row:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise AuthRefused(401, "no_authorization", "This endpoint requires a Bearer token")
        try:
            claims = self.keys.verify(token)
        except jwt.InvalidTokenError as invalid:
            raise AuthRefused(403, "bad_jwt", f"invalid JWT: {invalid}") from invalid
        await auth_store.require_session(store, claims["session_id"])
        return claims

    def _require_key(self, request: Request) -> None:
        if request.headers.get("apikey") not in (
            self.keys["publishable_key"],
            self.keys["secret_key"],
        ):
            raise AuthRefused(401, "no_authorization", "Invalid API key")

    def _require_admin(self, request: Request) -> None:
        if request.headers.get("apikey") != self.keys["secret_key"]:
            raise AuthRefused(403, "not_admin", "User not allowed")

    @asynccontextmanager
    async def _store(self) -> AsyncIterator[Connection]:
        async with await auth_store.connect(self.conninfo) as store:
            yield store


def _public(user: Row) -> Row:
    """A user as the API shows it: no password."""
    moments = ("created_at", "updated_at", "last_sign_in_at", "email_confirmed_at")
    shown: dict[str, Any] = {
        "id": str(user["id"]),
        "aud": user["aud"],
        "role": user["role"],
        "email": user["email"] or "",
        "phone": user["phone"] or "",
        "app_metadata": user["raw_app_meta_data"],
        "user_metadata": user["raw_user_meta_data"],
        "identities": [],
        "is_anonymous": user["is_anonymous"],
    }
    stamps = {name: user[name].isoformat() for name in moments if user[name]}
    return shown | stamps | {"confirmed_at": stamps.get("email_confirmed_at")}


async def _body(request: Request) -> Row:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise AuthRefused(400, "bad_json", "Could not parse request body as JSON")
    return body


def _text(body: Row, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise AuthRefused(400, "validation_failed", f"{name} is required")
    return value


async def _refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, AuthRefused)
    body: Row = {"code": refused.status, "error_code": refused.code, "msg": refused.message}
    if refused.weak_password:
        body["weak_password"] = refused.weak_password
    return JSONResponse(body, status_code=refused.status)
