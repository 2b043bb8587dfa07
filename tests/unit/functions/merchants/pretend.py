"""A pretend Data API, and what the tests of merchants hand to the app."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from shared.config import Settings
from shared.http.user_token import User
from shared.vault import Vault

DATA_API = "http://data.test"
USER_ID = "5f0c6a52-6a4e-4c0e-9c57-0d1f7a2b9e11"
TENANT_ID = "tn_01kaj3v7wvf4fr8mnp5sye2s6k"
INTERNAL_TOKEN = "internal-token"
VAULT_KEYS = {
    "1": base64.b64encode(b"1" * 32).decode(),
    "2": base64.b64encode(b"2" * 32).decode(),
}


def key_row(**changes: Any) -> dict[str, Any]:
    """What public.api_key_resource shows."""
    return {
        "id": "key_01kaj3v7wvf4fr8mnp5sye2s6k",
        "object": "api_key",
        "kind": "secret",
        "name": "Shop",
        "environment": "sandbox",
        "scopes": ["payments:read"],
        "last4": "abcd",
        "status": "active",
    } | changes


def answer(body: object, status: int = 200, **headers: str) -> dict[str, Any]:
    """A public.answer as the Data API sends it."""
    return {"status": status, "body": json.dumps(body), "headers": headers}


@dataclass
class Call:
    """One call that reached the Data API."""

    function: str
    args: dict[str, Any]
    headers: httpx.Headers


@dataclass
class DataApi:
    """Answers each SQL function with what `will` laid down: in order, the last one again."""

    calls: list[Call] = field(default_factory=list)
    _laid_down: dict[str, list[httpx.Response]] = field(default_factory=dict)

    def will(self, function: str, *bodies: object) -> None:
        self._laid_down[function] = [httpx.Response(200, json=body) for body in bodies]

    def will_refuse(self, function: str, code: str, message: str) -> None:
        problem = {"code": f"PT{code[:3]}", "message": message, "details": code, "hint": "{}"}
        self._laid_down[function] = [httpx.Response(int(code[:3]), json=problem)]

    def called(self) -> list[str]:
        return [call.function for call in self.calls]

    def the(self, function: str) -> Call:
        (found,) = [call for call in self.calls if call.function == function]
        return found

    def __call__(self, request: httpx.Request) -> httpx.Response:
        schema, name = request.headers["content-profile"], request.url.path.rpartition("/")[2]
        function = f"{schema}.{name}"
        self.calls.append(Call(function, json.loads(request.content), request.headers))
        replies = self._laid_down[function]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        return httpx.Response(reply.status_code, content=reply.content, headers=reply.headers)


@dataclass
class SignedIn:
    """Takes any token as that of one person."""

    user: User

    async def verify(self, token: str) -> User:  # noqa: ARG002
        return self.user


def sign_in(app: FastAPI, *, tenant_id: str = TENANT_ID, email: str = "ann@acacia.test") -> None:
    """Whose token everybody now brings."""
    app.state.token_verifier = SignedIn(User(USER_ID, email, tenant_id))


def vault_of(*versions: str) -> Vault:
    """A vault that holds these master keys alone."""
    return Vault({version: SecretStr(VAULT_KEYS[version]) for version in versions})


def settings() -> Settings:
    return Settings(
        function_name="merchants",
        data_api_url=DATA_API,
        data_api_token="role-token",
        supabase_url="http://auth.test",
        functions_url="http://api.test/functions/v1",
        vault_keys=VAULT_KEYS,
        internal_tokens=[INTERNAL_TOKEN],
        daraja_sandbox_url="http://sandbox.daraja.test",
        daraja_production_url="http://production.daraja.test",
        log_level="error",
    )
