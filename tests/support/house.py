"""A house under test: merchants, the payments they take, and the two books that must agree.

Tests speak to it over HTTP as merchants, payers and rails do. What would take minutes is brought
forward in the database; nothing else is done behind the API.
"""

import json
import math
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import httpx
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from scripts.stack.daraja.credentials import PAY_BILL
from scripts.stack.daraja.credentials import Merchant as DarajaApp
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block, session_state
from shared.rails.instructions import credentials_context
from shared.vault import Vault
from tests.support.clusters import start
from tests.support.simulator import PATIENCE_S, Daraja, Json, T, until
from tests.support.sql import Books
from tests.support.two_books import differences

FUNCTIONS = ("momo_callback", "payment_intents", "reconcile")  # of a payment's way
SPEED = 40.0  # virtual seconds per second: a payer who thinks for 2 s takes 0.05
LIFETIME_S = 1_000_000  # of a prompt, in virtual seconds: none ends by itself while tests run


def new_key() -> str:
    """An Idempotency-Key nobody used."""
    return str(uuid.uuid4())


@dataclass
class Merchant:
    """A tenant with its keys, speaking the public API as its server does."""

    house: "House"
    tenant_id: str
    environment: str
    secret: str
    publishable: str
    api: httpx.Client

    def post(self, path: str, body: object = None, key: str | None = None) -> httpx.Response:
        """POST with an Idempotency-Key, a new one by default."""
        headers = {"Idempotency-Key": key or new_key()}
        if body is None:
            return self.api.post(path, headers=headers)
        return self.api.post(path, json=body, headers=headers)

    def create(self, amount: str = "100.00", **fields: Any) -> Json:
        """A new intent. Raises httpx.HTTPStatusError."""
        body = {"amount": amount, "currency": "KES"} | fields
        return dict(self.post("/payment-intents", body).raise_for_status().json())

    def confirm(self, intent_id: str, phone: str, key: str | None = None) -> httpx.Response:
        """Ask the payer; the answer raw."""
        body = {"payment_method": {"type": "mpesa", "phone": phone}}
        return self.post(f"/payment-intents/{intent_id}/confirm", body, key)

    def start(self, phone: str, amount: str = "100.00", **fields: Any) -> str:
        """Create and confirm; the intent's id."""
        intent_id = str(self.create(amount, **fields)["id"])
        self.confirm(intent_id, phone).raise_for_status()
        return intent_id

    def get(self, intent_id: str) -> Json:
        """The intent as it is now."""
        return dict(self.api.get(f"/payment-intents/{intent_id}").raise_for_status().json())

    def wait(self, intent_id: str, status: str, patience_s: float = PATIENCE_S) -> Json:
        """The intent once it has this status."""

        def reached() -> Json | None:
            intent = self.get(intent_id)
            return intent if intent["status"] == status else None

        return until(reached, f"{intent_id} {status}", patience_s)

    def ask(self, intent_id: str) -> httpx.Response:
        """POST /{id}/reconcile."""
        return self.api.post(f"/payment-intents/{intent_id}/reconcile")

    def timeline(self, intent_id: str) -> list[Json]:
        """Everything that happened to the intent."""
        answer = self.api.get(f"/payment-intents/{intent_id}/events").raise_for_status()
        return list(answer.json()["data"])

    def types(self, intent_id: str) -> list[str]:
        """The types of its timeline."""
        return [str(event["type"]) for event in self.timeline(intent_id)]

    def alerts(self) -> list[tuple[str, str]]:
        """(kind, subject) of this tenant's open alerts."""
        query = "select kind, subject from public.alerts where tenant_id = %s and status = 'open'"
        rows = self.house.books.rows(query, self.tenant_id)
        return sorted((row["kind"], row["subject"]) for row in rows)

    def dispositions(self) -> list[str]:
        """What was concluded from this tenant's callbacks, in order, as "name" or "name:reason"."""
        query = (
            "select concat_ws(':', disposition, reason) from rails.callback_dispositions"
            " where tenant_id = %s order by callback_id, number"
        )
        return list(self.house.books.column(query, self.tenant_id))

    def transfers(self) -> list[Json]:
        """The rows of this tenant's transfers, oldest first."""
        query = "select * from payments.transfers where tenant_id = %s order by transfer_id"
        return self.house.books.rows(query, self.tenant_id)

    def token(self, app_role: str = "owner") -> str:
        """The access token of a new person with this role in the tenant."""
        user_id, now = str(uuid.uuid4()), int(time.time())
        self.house.books.run("insert into public.users (user_id) values (%s)", user_id)
        self.house.books.run(
            "insert into public.memberships (tenant_id, user_id, app_role) values (%s, %s, %s)",
            self.tenant_id,
            user_id,
            app_role,
        )
        return self.house.stack.keys.sign(
            {
                "iss": f"{self.house.stack.url}/auth/v1",
                "aud": "authenticated",
                "role": "authenticated",
                "sub": user_id,
                "tenant_id": self.tenant_id,
                "app_role": app_role,
                "iat": now,
                "exp": now + 600,
            }
        )

    def parked(self, app_role: str = "owner") -> list[Json]:
        """GET /reconcile/parked as a person with this role."""
        headers = {"Authorization": f"Bearer {self.token(app_role)}"}
        if self.environment == "production":
            headers["x-stalela-environment"] = "production"
        answer = self.house.http.get("/reconcile/parked", headers=headers, params={"limit": 100})
        return list(answer.raise_for_status().json()["data"])

    def differences(self) -> list[str]:
        """Where our books and the simulator's disagree about this tenant; none is the goal."""
        return differences(self.house.books, self.house.daraja, self.tenant_id)


@dataclass
class House:
    """A running stack, its books, its simulator, and HTTP without any credential."""

    stack: Stack
    books: Books
    daraja: Daraja
    http: httpx.Client
    clients: list[httpx.Client] = field(default_factory=list)

    def reconnect(self) -> None:
        """A new session after the database was killed."""
        self.books.connection.close()
        self.books = Books(self.stack.database)

    def merchant(
        self,
        plan: str = "unlimited",
        environment: str = "sandbox",
        app: DarajaApp | None = PAY_BILL,
        scopes: tuple[str, ...] = ("*",),
    ) -> Merchant:
        """A new tenant with a secret and a publishable key and the M-Pesa credentials of `app`."""
        tenant_id = self.books.value("select public.new_id('tn')")
        self.books.run(
            "insert into public.tenants (tenant_id, name, country, status, plan)"
            " values (%s, 'Acacia Books', 'KE', 'active', %s)",
            tenant_id,
            plan,
        )
        mode = "live" if environment == "production" else "test"
        secret, publishable = f"sk_{mode}_{_random()}", f"pk_{mode}_{_random()}"
        self.add_key(tenant_id, environment, secret, scopes)
        self.add_key(tenant_id, environment, publishable, ("payments:confirm",))
        if app:
            self.put_credentials(tenant_id, environment, app)
        return Merchant(self, tenant_id, environment, secret, publishable, self.client(secret))

    def add_key(
        self, tenant_id: str, environment: str, key: str, scopes: tuple[str, ...] = ("*",)
    ) -> str:
        """Make `key` a key of the tenant; its id."""
        key_id = self.books.value("select public.new_id('key')")
        self.books.run(
            "insert into public.api_keys (key_id, tenant_id, environment, kind, name, key_hash,"
            " last4, scopes, created_by) values (%s, %s, %s, %s, 'test', %s, %s, %s, 'test')",
            key_id,
            tenant_id,
            environment,
            "secret" if key.startswith("sk_") else "publishable",
            sha256(key.encode()).hexdigest(),
            key[-4:],
            list(scopes),
        )
        return str(key_id)

    def put_credentials(self, tenant_id: str, environment: str, app: DarajaApp) -> None:
        """Seal the Daraja credentials as functions/merchants does."""
        vault = Vault({n: SecretStr(k) for n, k in self.stack.keys["vault_keys"].items()})
        document = self.daraja.credentials(app)
        sealed = vault.seal(
            json.dumps(document).encode(), credentials_context(tenant_id, "mpesa", environment)
        )
        self.books.run(
            "insert into rails.credentials (tenant_id, environment, rail, sealed, key_version,"
            " masked, created_by) values (%s, %s, 'mpesa', %s, 1, %s, 'test')",
            tenant_id,
            environment,
            sealed,
            Jsonb({}),
        )

    def client(self, bearer: str | None = None, **headers: str) -> httpx.Client:
        """HTTP to the functions with a bearer; closed with the house."""
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        made = httpx.Client(
            base_url=self.stack.functions_url,
            headers=headers,
            timeout=60,
            trust_env=False,
            verify=False,  # noqa: S501  plain HTTP: reading all roots would cost 20 ms a merchant
            limits=httpx.Limits(max_connections=100, keepalive_expiry=2),
        )
        self.clients.append(made)
        return made

    def reconcile(self) -> int:
        """POST /reconcile as pg_net does; how many transfers were asked about."""
        token = self.stack.keys["internal_token"]
        answer = self.http.post("/reconcile", headers={"Authorization": f"Bearer {token}"})
        return int(answer.raise_for_status().json()["asked"])

    def make_due(self, merchant: Merchant, code_age_s: int = 0) -> None:
        """Bring the next question about every open transfer of the tenant forward to now.

        code_age_s: and make the code that the last query told that much older.
        """
        self.books.run(
            "update rails.watches set due_at = now(), asked_at = null,"
            " code_since = code_since - make_interval(secs => %s) where tenant_id = %s",
            code_age_s,
            merchant.tenant_id,
        )

    def ask(self, merchant: Merchant, code_age_s: int = 0) -> None:
        """Reconcile, with the waits brought forward, and wait for the answers.

        Cron asks too: what it was first at, our reconcile leaves to it.
        """
        asked = "select coalesce(sum(queries), 0) from rails.watches where tenant_id = %s"
        watched = "select count(*) from rails.watches where tenant_id = %s"
        before = self.books.value(asked, merchant.tenant_id)
        expected = before + self.books.value(watched, merchant.tenant_id)
        self.make_due(merchant, code_age_s)
        self.reconcile()
        until(
            lambda: (
                self.books.value(asked, merchant.tenant_id) >= expected
                or self.books.value(watched, merchant.tenant_id) == 0
            ),
            "an answer about every open transfer",
        )

    def ask_until(self, merchant: Merchant, intent_id: str, status: str) -> Json:
        """Reconcile, with the waits brought forward, until the intent has this status."""
        return self.asked(merchant, intent_id, lambda intent: intent["status"] == status, status)

    def ask_until_review(self, merchant: Merchant, intent_id: str) -> Json:
        """Reconcile, with the waits brought forward, until a person must decide."""
        return self.asked(
            merchant,
            intent_id,
            lambda intent: bool(intent["latest_transfer"]["needs_review"]),
            "needs review",
        )

    def asked(
        self, merchant: Merchant, intent_id: str, is_there: Callable[[Json], bool], what: str
    ) -> Json:
        """The intent once it is there. More than once, because cron asks too and may be at it."""

        def look() -> Json | None:
            self.make_due(merchant, code_age_s=61)
            self.reconcile()
            intent = merchant.get(intent_id)
            return intent if is_there(intent) else None

        return until(look, f"{intent_id} {what}")

    def metric(self, function: str, name: str, **labels: str) -> float:
        """The sum of a counter's samples that have these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        text = self.http.get(f"/{function}/metrics").raise_for_status().text
        lines = [line for line in text.splitlines() if line.startswith(name)]
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if all(w in line for w in wanted)
        )


@contextmanager
def living_in(stack: Stack) -> Iterator[House]:
    """The house around a running stack: simulator fast and calm, put back at the end."""
    daraja = Daraja(stack.daraja_url)
    before = daraja.control("GET", "settings")
    http = httpx.Client(base_url=stack.functions_url, timeout=60, trust_env=False)
    house = House(stack, Books(stack.database), daraja, http)
    daraja.settings(speed=SPEED, query_noise=0, mode="manual", prompt_lifetime_s=LIFETIME_S)
    try:
        yield house
    finally:
        daraja.disarm()
        daraja.settings(**before)
        for client in (*house.clients, http, daraja.http):
            client.close()
        house.books.connection.close()


@contextmanager
def own_house(
    name: str,
    *,
    fsync: bool = False,
    functions: tuple[str, ...] | None = FUNCTIONS,
    **overrides: Any,
) -> Iterator[House]:
    """A house whose stack a module may kill and configure: see own_stack."""
    with (
        own_stack(name, fsync=fsync, functions=functions, **overrides) as stack,
        living_in(stack) as house,
    ):
        yield house


@contextmanager
def own_stack(
    name: str,
    *,
    fsync: bool = False,
    functions: tuple[str, ...] | None = FUNCTIONS,
    **overrides: Any,
) -> Iterator[Stack]:
    """A stack with real pg_cron and settings of its own; its words are in `log` of its state.

    functions: which it serves, None for all.
    """
    with session_state(name) as state, (state / "log").open("w", buffering=1) as log:
        stack = Stack(
            state=state,
            port=free_block(),
            fsync=fsync,
            overrides=overrides,
            functions=functions,
            log=lambda child, line: print(f"{child} | {line}", file=log),
        )
        try:
            yield start(stack)
        finally:
            stack.stop()
            stack.erase()


def at_once(calls: int, call: Callable[[int], T]) -> list[T]:
    """The results of `call(0)` … made by as many threads at the same time."""
    with ThreadPoolExecutor(calls) as pool:
        return list(pool.map(call, range(calls)))


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)]


def spread(values_ms: list[float]) -> str:
    """How long things took, for people."""
    parts = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    words = ", ".join(f"{n} {percentile(values_ms, share):.1f}" for n, share in parts.items())
    return f"{len(values_ms)} in ms: {words}"


def _random() -> str:
    return uuid.uuid4().hex + uuid.uuid4().hex[:11]
