"""One sandbox tenant, made as a merchant makes theirs: through the public HTTP API."""

import secrets
from typing import Any

import httpx

from scripts.stack.daraja.credentials import PAY_BILL
from scripts.stack.places import StackError
from scripts.stack.stack import Stack

OWNER = "owner@acacia.example"
SECRET_KEY, PUBLISHABLE_KEY = "merchant_secret_key", "merchant_publishable_key"


def seed(stack: Stack) -> None:
    """Sign up a person and a tenant with keys and M-Pesa credentials, if not done before.

    The two keys are then in `stack.keys` under SECRET_KEY and PUBLISHABLE_KEY. Raises StackError
    with the API's own words when it refuses.
    """
    with httpx.Client(base_url=stack.url, timeout=15, trust_env=False) as http:
        if not _works(http, stack.keys.get(SECRET_KEY)):
            Seeding(stack, http).run()


class Seeding:
    """The steps in order; each can be repeated when the one after it failed."""

    def __init__(self, stack: Stack, http: httpx.Client) -> None:
        self.stack, self.http = stack, http
        self.apikey = {"apikey": stack.keys["publishable_key"]}

    def run(self) -> None:
        password = self.stack.keys.get("owner_password") or secrets.token_urlsafe(12)
        self.stack.keys.remember(owner_email=OWNER, owner_password=password)
        session = self._person(password)
        self._call("POST", "/", session, {"name": PAY_BILL.name, "country": "KE"}, "seed-tenant")
        # The next token names the tenant.
        refresh = {"refresh_token": session["refresh_token"]}
        session = self._auth("token?grant_type=refresh_token", refresh)
        self._call("PUT", "/credentials/mpesa", session, self._mpesa_credentials())
        secret = self._key(session, "Demonstration server", "secret", ["*"])
        publishable = self._key(session, "Demonstration page", "publishable", [])
        self.stack.keys.remember(**{SECRET_KEY: secret, PUBLISHABLE_KEY: publishable})

    def _person(self, password: str) -> dict[str, Any]:
        body = {"email": OWNER, "password": password}
        answer = self.http.post("/auth/v1/signup", json=body, headers=self.apikey)
        if answer.is_success:
            return dict(answer.json())
        return self._auth("token?grant_type=password", body)

    def _auth(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        return _json(self.http.post(f"/auth/v1/{path}", json=body, headers=self.apikey))

    def _mpesa_credentials(self) -> dict[str, str]:
        """Of a merchant who collects and pays out; the certificate is the simulator's own."""
        pem = self.http.get(f"{self.stack.daraja_url}/control/certificate").raise_for_status()
        return {
            "consumer_key": PAY_BILL.consumer_key,
            "consumer_secret": PAY_BILL.consumer_secret,
            "passkey": PAY_BILL.passkey,
            "shortcode": PAY_BILL.short_code,
            "type": "paybill",
            "initiator_name": PAY_BILL.initiator_name,
            "initiator_password": PAY_BILL.initiator_password,
            "certificate": pem.text,
        }

    def _key(self, session: dict[str, Any], name: str, kind: str, scopes: list[str]) -> str:
        body = {"name": name, "kind": kind, "scopes": scopes, "environment": "sandbox"}
        return str(self._call("POST", "/api-keys", session, body)["secret"])

    def _call(
        self, method: str, path: str, session: dict[str, Any], body: object, key: str = ""
    ) -> dict[str, Any]:
        headers = {
            "Authorization": f"Bearer {session['access_token']}",
            "x-stalela-environment": "sandbox",
            "Idempotency-Key": key or f"seed-{secrets.token_hex(8)}",
        }
        url = f"/functions/v1/merchants{path}"
        return _json(self.http.request(method, url, json=body, headers=headers))


def _works(http: httpx.Client, key: str | None) -> bool:
    bearer = {"Authorization": f"Bearer {key}"}
    return key is not None and http.get("/functions/v1/merchants/me", headers=bearer).is_success


def _json(answer: httpx.Response) -> dict[str, Any]:
    if not answer.is_success:
        request = answer.request
        raise StackError(f"seeding: {request.method} {request.url} said {answer.text}")
    return dict(answer.json())
