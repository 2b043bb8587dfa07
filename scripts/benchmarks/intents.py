"""POST /payment-intents and confirm: requests per second, latency, CPU and Data API calls."""

from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Final

from functions.payment_intents.models import CreatePaymentIntent
from scripts.benchmarks.bare import KEY_HASH, bare
from scripts.benchmarks.cpu import cpu_s
from scripts.benchmarks.load import KEY, Load, Outcome, percentile, send
from scripts.benchmarks.memory import memory
from scripts.benchmarks.place import INTENTS, Function, Place, alone
from scripts.benchmarks.recorder import record_create
from scripts.benchmarks.rounds import Rounds, Series
from scripts.benchmarks.shop import Merchant
from scripts.benchmarks.table import Figure, Target, figure
from scripts.benchmarks.wire import request
from scripts.stack.process import wait_until

CLIENTS: Final = 16
PATH: Final = "/functions/v1/payment-intents"
ORDER: Final = {"amount": "100.00", "currency": "KES", "payment_method_types": ["mpesa"]}

_UNCONFIRMED: Final = """
select i.payment_intent_id, i.tenant_id
from payments.payment_intents as i
where i.status = 'requires_payment_method' and i.latest_transfer_id is null
    and i.tenant_id = any(%s)
order by i.payment_intent_id
limit %s
"""
_PROCESSING: Final = """
select exists (
    select from payments.payment_intents as i
    where i.status = 'processing' and i.tenant_id = any(%s)
)
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One load on the function. Per request: its CPU in ms, its calls of the Data API."""

    outcome: Outcome
    cpu_ms: float
    calls: float


@dataclass(frozen=True, slots=True)
class Creates:
    """The Data API alone, then the function, then the function at half of that pace."""

    limit: Outcome
    product: Measured
    calm: Outcome


@dataclass(frozen=True, slots=True)
class Confirms:
    """The function, and what the simulator spent on each confirm."""

    product: Measured
    rail_cpu_ms: float


@dataclass(frozen=True, slots=True)
class Handled:
    """CPU of one confirm in ms when nothing else is busy: of the function, of its libraries."""

    product_ms: float
    bare_ms: float


def ours_ms(outcome: Outcome) -> list[float]:
    """Latencies without the wait for the rail."""
    return [total - rail for total, rail in zip(outcome.latencies_ms, outcome.rail_ms, strict=True)]


def measure_creates(place: Place, rounds: Rounds, seconds: float) -> list[Figure]:
    """The Data API is sent the very request that the function would send."""
    recorded = [
        record_create(place.stack, shop, CreatePaymentIntent.model_validate(ORDER))
        for shop in place.shops
    ]
    limit = Load(place.stack.ports.postgrest, CLIENTS, recorded, seconds)
    product = Load(place.intents.port, CLIENTS, create_requests(place), seconds)
    send(Load(limit.port, CLIENTS, recorded, 0.5), expect=200)
    send(Load(product.port, CLIENTS, product.requests, 0.5), expect=201)

    runs = rounds.series("create", lambda: _creates(place, limit, product))

    return [
        figure("create: Data API calls", runs, lambda run: run.product.calls, "", Target("=", 1)),
        figure("create: handler CPU", runs, lambda run: run.product.cpu_ms, "ms", Target("<", 1.5)),
        figure("create: the load generator's CPU", runs, _generator_ms, "ms"),
        figure(
            f"create, {CLIENTS} clients; limit: the Data API alone",
            runs,
            lambda run: run.product.outcome.per_s,
            "/s",
            Target("≥", 0.4),
            limit=lambda run: run.limit.per_s,
        ),
        figure(
            f"create, {CLIENTS} clients: p50",
            runs,
            lambda run: run.product.outcome.percentile(0.5),
            "ms",
            limit=lambda run: run.limit.percentile(0.5),
        ),
        figure(
            f"create, {CLIENTS} clients: p99",
            runs,
            lambda run: run.product.outcome.percentile(0.99),
            "ms",
            limit=lambda run: run.limit.percentile(0.99),
        ),
        # Clients that never pause measure the queue in front of two cores, which they share.
        figure(
            f"create, {CLIENTS} clients at half of that pace: p99",
            runs,
            lambda run: run.calm.percentile(0.99),
            "ms",
            Target("<", 50),
        ),
    ]


def measure_confirms(place: Place, rounds: Rounds, count: int) -> list[Figure]:
    """The simulator accepts at once and calls back after a second; it shares the machine."""
    payers = Payers()
    place.daraja(mode="auto", auto_delay_s=1.0)
    send(confirm_load(place, payers, 2 * CLIENTS), expect=200)

    def prepare() -> Load:
        wait_until_settled(place)
        return confirm_load(place, payers, count)

    handled = _handled(place, rounds, payers, count)
    runs = rounds.prepared("confirm", prepare, lambda load: _confirms(place, load))
    half = runs.median(lambda run: run.product.outcome.per_s) / 2
    calm = rounds.prepared(
        "confirm at half pace",
        prepare,
        lambda load: measure(place, replace(load, per_s=half), expect=200),
    )

    return [
        figure("confirm: Data API calls", runs, lambda run: run.product.calls, "", Target("=", 2)),
        figure("confirm: handler CPU", handled, lambda run: run.product_ms, "ms", Target("<", 1.5)),
        figure(
            "confirm: handler CPU; limit: its libraries, as many exchanges",
            handled,
            lambda run: run.product_ms,
            "ms",
            limit=lambda run: run.bare_ms,
        ),
        # Who shares the processor's caches with Postgres and the simulator computes more slowly.
        figure(
            "confirm: handler CPU beside all others", runs, lambda run: run.product.cpu_ms, "ms"
        ),
        figure(
            "confirm: handler CPU beside all others at half pace",
            calm,
            lambda run: run.cpu_ms,
            "ms",
        ),
        figure("confirm: the simulator's CPU", runs, lambda run: run.rail_cpu_ms, "ms"),
        figure(f"confirm, {CLIENTS} clients", runs, lambda run: run.product.outcome.per_s, "/s"),
        figure(
            f"confirm, {CLIENTS} clients: p50",
            runs,
            lambda run: run.product.outcome.percentile(0.5),
            "ms",
        ),
        figure(
            f"confirm, {CLIENTS} clients: p99",
            runs,
            lambda run: run.product.outcome.percentile(0.99),
            "ms",
        ),
        figure(
            f"confirm, {CLIENTS} clients at half of that pace: p99",
            calm,
            lambda run: run.outcome.percentile(0.99),
            "ms",
            Target("<", 50),
        ),
        figure(
            f"confirm, {CLIENTS} clients at half of that pace: p99 without the simulator's answer",
            calm,
            lambda run: percentile(ours_ms(run.outcome), 0.99),
            "ms",
        ),
    ]


class Payers:
    """Phone numbers, each once, of which the simulator has no scenario."""

    def __init__(self, first: int = 0) -> None:
        self._count = first

    def next(self) -> str:
        self._count += 1
        return f"0712{self._count // 50:04d}{50 + self._count % 50}"


def measure(place: Place, load: Load, *, expect: int) -> Measured:
    """One load on the function."""
    pid = place.intents.pid
    calls, cpu = place.intents.data_api_calls(), cpu_s(pid)
    outcome = send(load, expect=expect)
    cpu = cpu_s(pid) - cpu
    calls = place.intents.data_api_calls() - calls
    return Measured(outcome, cpu * 1000 / outcome.count, calls / outcome.count)


def create_requests(place: Place) -> list[str]:
    """One for each shop."""
    return [_post(PATH, shop, ORDER) for shop in place.shops]


def confirm_load(place: Place, payers: Payers, count: int) -> Load:
    """Of `count` intents that nobody has confirmed; made first when there are too few."""
    shops = {shop.tenant_id: shop for shop in place.shops}
    found = _unconfirmed(place, count)
    if len(found) < count:
        missing = list(islice(cycle(create_requests(place)), count - len(found)))
        send(Load(place.intents.port, CLIENTS, missing), expect=201)
        found = _unconfirmed(place, count)
    requests = [
        _post(f"{PATH}/{intent}/confirm", shops[tenant], _method(payers))
        for intent, tenant in found
    ]
    return Load(place.intents.port, CLIENTS, requests)


def wait_until_settled(place: Place) -> None:
    """Until no payment of the shops is under way."""
    tenants = [shop.tenant_id for shop in place.shops]
    with place.stack.database.connect() as connection:
        wait_until(
            "the callbacks",
            lambda: connection.execute(_PROCESSING, (tenants,)).fetchone() == (False,),
            timeout_s=120,
        )


def _creates(place: Place, limit: Load, product: Load) -> Creates:
    alone = send(limit, expect=200)
    measured = measure(place, product, expect=201)
    half = replace(product, per_s=measured.outcome.per_s / 2)
    return Creates(alone, measured, send(half, expect=201))


def _generator_ms(run: Creates) -> float:
    outcome = run.product.outcome
    return outcome.cpu_s * 1000 / outcome.count


def _handled(place: Place, rounds: Rounds, payers: Payers, count: int) -> Series[Handled]:
    """One confirm goes through, and is asked again and again: its exchanges come from memory."""
    with (
        memory(place.stack) as known,
        alone(
            place.stack, INTENTS, DATA_API_URL=known.data_api_url, DARAJA_SANDBOX_URL=known.rail_url
        ) as function,
        bare(place.stack, known) as libraries,
    ):
        once = confirm_load(place, payers, 1)
        loads = [
            (function, replace(once, port=function.port)),
            (libraries, _bare_load(place, libraries.port)),
        ]
        for _, load in loads:
            send(load, expect=200)

        def measured() -> Handled:
            return Handled(*(_cpu_ms(of, load, count) for of, load in loads))

        return rounds.series("confirm by itself", measured)


def _cpu_ms(function: Function, load: Load, count: int) -> float:
    cpu = cpu_s(function.pid)
    send(replace(load, requests=load.requests * count), expect=200)
    return (cpu_s(function.pid) - cpu) * 1000 / count


def _bare_load(place: Place, port: int) -> Load:
    ((intent, tenant),) = _unconfirmed(place, 1)
    shop = next(shop for shop in place.shops if shop.tenant_id == tenant)
    sent = request("POST", f"/{intent}", {KEY_HASH: shop.key_hash}, _method(Payers()))
    return Load(port, CLIENTS, [sent.decode("latin-1")])


def _confirms(place: Place, load: Load) -> Confirms:
    rail = place.stack.children["daraja"].pid
    assert rail is not None, "the simulator runs"
    before = cpu_s(rail)
    product = measure(place, load, expect=200)
    rail_cpu_ms = (cpu_s(rail) - before) * 1000 / product.outcome.count
    return Confirms(product, rail_cpu_ms)


def _unconfirmed(place: Place, count: int) -> list[tuple[str, str]]:
    tenants = [shop.tenant_id for shop in place.shops]
    with place.stack.database.connect() as connection:
        return connection.execute(_UNCONFIRMED, (tenants, count)).fetchall()


def _post(path: str, shop: Merchant, body: object) -> str:
    headers = {"Authorization": f"Bearer {shop.key}", "Idempotency-Key": KEY}
    return request("POST", path, headers, body).decode("latin-1")


def _method(payers: Payers) -> dict[str, dict[str, str]]:
    return {"payment_method": {"type": "mpesa", "phone": payers.next()}}
