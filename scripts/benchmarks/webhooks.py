"""How fast one process delivers webhooks, against sending the same bytes without any database."""

import asyncio
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import psycopg
import uvloop
from pydantic import SecretStr

from scripts.benchmarks.cpu import cpu_s
from scripts.benchmarks.load import percentile
from scripts.benchmarks.place import Function, Place, alone
from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.table import Figure, Target, figure
from scripts.stack.process import Child, descendants, wait_until
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block
from shared.config import Settings
from shared.ids import new_id
from shared.outbound import Outbound
from shared.vault import Vault
from shared.webhooks.signing import new_secret, seal_secret, signed_headers

ENDPOINTS: Final = 50
IN_FLIGHT: Final = 500  # ten endpoints of the slow receiver, fifty at once to each
PACE: Final = 200  # events a second while one endpoint hangs
PATIENCE_S: Final = 60.0
PROCESSES: Final = ("the function", "PostgREST", "Postgres", "the receiver")

_ENDPOINT: Final = """
insert into webhooks.endpoints
    (endpoint_id, tenant_id, environment, url, event_types, secret_sealed, key_version, created_by)
values (
    %(endpoint)s, %(tenant)s, 'sandbox', %(url)s, '{none.at_all}', %(sealed)s, %(version)s, 'bench'
)
"""
_HEALTH: Final = """
insert into webhooks.endpoint_health (endpoint_id, tenant_id, environment)
values (%(endpoint)s, %(tenant)s, 'sandbox')
"""
# Each endpoint gets events of its own, each its own stream.
_EVENTS: Final = """
select webhooks.enqueue(array(
    select row(
        e.event_id, %(tenant)s, 'sandbox', 'payment_intent.succeeded', e.event_id,
        replace(%(payload)s, '{id}', e.event_id), now()
    )::webhooks.messages
    from unnest(%(events)s::text[]) as e (event_id)
), %(endpoint)s)
"""
_LEFT: Final = "select count(*) from webhooks.queue"
_CLEAN: Final = "delete from webhooks.queue"
_PAYLOAD: Final = (
    '{"id":"{id}","type":"payment_intent.succeeded","api_version":"2026-11-21","livemode":false,'
    '"timestamp":"2026-11-21T08:00:22.735179Z","data":{"amount":"100.00","status":"succeeded",'
    '"currency":"KES","sequence":2,"transfer_id":"tr_01kaj3vq1nfr5r3e2n9v4d8yzx",'
    '"amount_received":"100.00","payment_intent_id":"pi_01kaj3v7wvf4fr8mnp5sye2s6k"}}'
)


@dataclass(frozen=True, slots=True)
class Rates:
    """Deliveries per second of one process: ours, and bare. cpu_ms: of each process, for one."""

    ours: float
    bare: float
    cpu_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Waits:
    """p99 from event to arrival, ms: all endpoints well; at the others while one hangs."""

    well: float
    beside: float


class Receiver:
    """The merchants' servers, in a process of their own."""

    def __init__(self) -> None:
        self.port = free_block()
        command = [sys.executable, "-m", "scripts.benchmarks.listener", str(self.port)]
        self.child = Child("listener", command, log=lambda _name, _line: None)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)

    def seen(self) -> list[tuple[str, str, float]]:
        """What came since the last time."""
        return [tuple(one) for one in self.http.get("/seen", timeout=30).json()]

    def wait(self, count: int, path: str = "/") -> list[tuple[str, str, float]]:
        """The next `count` arrivals below `path`. Raises TimeoutError."""
        came: list[tuple[str, str, float]] = []
        deadline = time.monotonic() + PATIENCE_S
        while len(came) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(came)} of {count} webhooks came")
            time.sleep(0.05)
            came += [one for one in self.seen() if one[0].startswith(path)]
        return came


class Yard:
    """Where webhooks are measured: the function alone, a receiver, a merchant with endpoints."""

    def __init__(self, stack: Stack, function: Function, receiver: Receiver) -> None:
        self.receiver = receiver
        self.stack, self.function = stack, function
        self.vault = Vault({n: SecretStr(k) for n, k in stack.keys["vault_keys"].items()})
        self.connection: psycopg.Connection[Any] = stack.database.connect()
        self.tenant = f"tn_bench_{secrets.token_hex(4)}"
        self.fast: set[str] = set()
        self._poke = httpx.Client(
            base_url=f"http://127.0.0.1:{function.port}",
            headers={"Authorization": f"Bearer {stack.keys['internal_token']}"},
            trust_env=False,
            timeout=30,
        )

    def endpoints(self, kind: str, count: int) -> list[str]:
        """The ids of new endpoints at the receiver. kind: fast, slow or hang."""
        made = [new_id("whe") for _ in range(count)]
        for endpoint in made:
            row = {
                "endpoint": endpoint,
                "tenant": self.tenant,
                "url": f"http://127.0.0.1:{self.receiver.port}/{kind}/{endpoint}",
                "sealed": seal_secret(self.vault, new_secret(), endpoint),
                "version": self.vault.current_version,
            }
            self.connection.execute(_ENDPOINT, row)
            self.connection.execute(_HEALTH, row)
        if kind == "fast":
            self.fast.update(made)
        return made

    def enqueue(self, endpoint: str, count: int) -> list[str]:
        """So many new events for one endpoint; their ids."""
        events = [new_id("evt") for _ in range(count)]
        row = {"tenant": self.tenant, "endpoint": endpoint, "events": events, "payload": _PAYLOAD}
        self.connection.execute(_EVENTS, row)
        return events

    def poke(self) -> None:
        """As pg_net does."""
        self._poke.post("/").raise_for_status()

    def keep_poking(self, over: threading.Event) -> None:
        """As the trigger does: at the first event, then five times a second."""
        self.poke()
        while not over.wait(0.2):
            self.poke()

    def wait_until_recorded(self) -> None:
        """Until what came at the receiver is known here, too."""
        wait_until("the records", lambda: self.connection.execute(_LEFT).fetchone() == (0,))

    def cpu_s(self) -> dict[str, float]:
        """Seconds so far of each of PROCESSES, its children included."""
        children = self.stack.children
        roots = {
            "the function": self.function.child.pid,
            "PostgREST": children["postgrest"].pid,
            "Postgres": children["postgres"].pid,
            "the receiver": self.receiver.child.pid,
        }
        return {
            name: sum(cpu_s(one) for one in (pid, *descendants(pid)))
            for name, pid in roots.items()
            if pid is not None
        }

    def clean(self) -> None:
        """Nothing waits, nothing came."""
        self.connection.execute(_CLEAN)
        self.receiver.seen()


def measure_webhooks(place: Place, rounds: Rounds, seconds: float) -> list[Figure]:
    """limit: the same process sending the same bytes, signed, to the same receiver, no database."""
    count = round(1_000 * seconds)
    with yard(place) as here:
        fast = rounds.series("webhooks", lambda: rates(here, "fast", ENDPOINTS, count))
        slow = rounds.series("webhooks, slow receiver", lambda: rates(here, "slow", 10, count))
        beside = rounds.series("webhooks, one hangs", lambda: waits(here, seconds))
    return [
        figure(
            f"webhooks delivered, {ENDPOINTS} endpoints",
            fast,
            lambda run: run.ours,
            "/s",
            Target("≥", 1500),
        ),
        figure(
            f"webhooks delivered, {ENDPOINTS} endpoints; limit: bare",
            fast,
            lambda run: run.ours,
            "/s",
            limit=lambda run: run.bare,
        ),
        figure(
            f"webhooks delivered, receiver takes 100 ms, {IN_FLIGHT} in flight",
            slow,
            lambda run: run.ours,
            "/s",
            Target("≥", 1500),
        ),
        figure(
            f"webhooks delivered, receiver takes 100 ms, {IN_FLIGHT} in flight; limit: bare",
            slow,
            lambda run: run.ours,
            "/s",
            limit=lambda run: run.bare,
        ),
        *(
            figure(
                f"webhooks, receiver takes 100 ms: CPU of {name} per delivery",
                slow,
                lambda run, name=name: run.cpu_ms[name],  # type: ignore[misc]
                "ms",
            )
            for name in PROCESSES
        ),
        figure(
            f"event to arrival, 1 of {ENDPOINTS} hangs, the others: p99; limit: none hangs",
            beside,
            lambda run: run.beside,
            "ms",
            Target("≤", 1.2),
            limit=lambda run: run.well,
        ),
    ]


def rates(here: Yard, kind: str, endpoints: int, count: int) -> Rates:
    """`count` deliveries that are all due, and as many bare requests."""
    here.clean()
    made = here.endpoints(kind, endpoints)
    each = count // endpoints
    for endpoint in made:
        here.enqueue(endpoint, each)
    began, cpu = time.time(), here.cpu_s()
    here.poke()
    ended = max(at for _, _, at in here.receiver.wait(each * endpoints))
    here.wait_until_recorded()
    cpu_ms = {
        name: (after - cpu[name]) * 1000 / (each * endpoints)
        for name, after in here.cpu_s().items()
    }
    here.receiver.seen()
    url = f"http://127.0.0.1:{here.receiver.port}/{kind}/bare"
    bare = uvloop.run(send_bare(here.vault, url, each * endpoints))
    return Rates(each * endpoints / (ended - began), bare, cpu_ms)


async def send_bare(vault: Vault, url: str, count: int) -> float:
    """Requests per second: signed and sent, nothing claimed, nothing recorded."""
    outbound = Outbound(_settings())
    sealed = [seal_secret(vault, new_secret(), "whe_bare")]
    left = iter(range(count))

    async def work() -> None:
        for number in left:
            event_id = f"evt_{number:026d}"
            headers = signed_headers(vault, sealed, "whe_bare", event_id, _PAYLOAD)
            reply = await outbound.post(url, _PAYLOAD.encode(), headers)
            assert reply.status == 200, reply

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    took = time.perf_counter() - began
    await outbound.aclose()
    return count / took


def waits(here: Yard, seconds: float) -> Waits:
    """The same pace twice: all endpoints well, then one of them never answering."""
    here.clean()
    well = here.endpoints("fast", ENDPOINTS)
    before = paced(here, well, seconds)
    (hanging,) = here.endpoints("hang", 1)
    here.enqueue(hanging, 500)
    beside = paced(here, [*well[1:], hanging], seconds)
    return Waits(percentile(before, 0.99), percentile(beside, 0.99))


def paced(here: Yard, endpoints: list[str], seconds: float) -> list[float]:
    """Milliseconds from an event's commit to its arrival at an endpoint that answers."""
    sent: dict[str, float] = {}
    came: list[tuple[str, str, float]] = []
    over = threading.Event()
    poking = threading.Thread(target=here.keep_poking, args=(over,))
    began = time.monotonic()
    for number in range(round(seconds * PACE)):
        time.sleep(max(0.0, began + number / PACE - time.monotonic()))
        (event_id,) = here.enqueue(endpoints[number % len(endpoints)], 1)
        sent[event_id] = time.time()
        if number == 0:
            poking.start()
    answering = round(len(sent) * sum(one in here.fast for one in endpoints) / len(endpoints))
    came = here.receiver.wait(answering, "/fast")
    over.set()
    poking.join()
    return [(at - sent[event_id]) * 1000 for _, event_id, at in came if event_id in sent]


@contextmanager
def yard(place: Place) -> Iterator[Yard]:
    """The function and the receiver, which end with the block."""
    receiver = Receiver()
    receiver.child.start()
    try:
        wait_until("listener", lambda: _listens(receiver))
        with alone(place.stack, "webhook_delivery") as function:
            yield Yard(place.stack, function, receiver)
    finally:
        receiver.child.stop()


def _listens(receiver: Receiver) -> bool:
    try:
        return receiver.http.get("/seen").is_success
    except httpx.TransportError:
        return False


def _settings() -> Settings:
    return Settings(
        function_name="bench",
        data_api_url="http://127.0.0.1",
        data_api_token=SecretStr("none"),
        supabase_url="http://127.0.0.1",
        functions_url="http://127.0.0.1",
    )
