"""Events on their way through the whole stack: pokes that arrive, are lost, are healed; people."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.support.house import House, Merchant, own_house
from tests.support.simulator import until
from tests.support.sql import Row

HEALED_S = 5.0  # a lost poke is made up for within this


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with own_house("deliveries", functions=("deliveries", "payment_intents", "reconcile")) as made:
        yield made


@pytest.fixture(scope="module")
def merchant(house: House) -> Merchant:
    return house.merchant()


@pytest.fixture
def destination(house: House) -> Iterator[str]:
    """A destination that subscribes to intents; its function is the reconciler, which counts."""
    house.books.run(
        "insert into public.destinations (destination, function_name, kind, batch, lease_s,"
        " max_attempts, stalled_after, enabled, description)"
        " values ('test_e2e', 'reconcile', 'database', 100, 60, 10, 5, true, 'Of a test')"
        " on conflict (destination) do update set enabled = true"
    )
    house.books.run(
        "insert into public.event_subscriptions (pattern, destination, enabled, description)"
        " values ('payment_intent.%%', 'test_e2e', true, 'Of a test') on conflict do nothing"
    )
    yield "test_e2e"
    take(house)
    house.books.run("update public.destinations set enabled = false where destination = 'test_e2e'")


def take(house: House) -> list[Row]:
    return house.books.rows("select * from payments.take_events('test_e2e', 100)")


def pokes(house: House) -> float:
    return house.metric("reconcile", "stalela_requests_total", route="/", status="200")


def beats(house: House) -> int:
    runs: int = house.books.value("select runs from public.cron_tasks where task = 'outbox.poke'")
    return runs


def person(house: House, merchant: Merchant, app_role: str) -> httpx.Client:
    return house.client(merchant.token(app_role))


def test_an_event_wakes_its_function_at_once(
    house: House, merchant: Merchant, destination: str
) -> None:
    before = pokes(house)

    merchant.create()

    until(lambda: pokes(house) > before, "a poke")
    assert [row["event_type"] for row in take(house)] == ["payment_intent.created"]


@pytest.mark.alone
def test_a_poke_that_was_lost_is_healed_by_cron(
    house: House, merchant: Merchant, destination: str
) -> None:
    until(lambda: beats(house) > 0, "the first beat of cron", 150)
    # Disabled while the event is written: what pg_net loses in a crash leaves the same behind.
    house.books.run("alter table payments.outbox disable trigger outbox_pokes")
    merchant.create()
    house.books.run("alter table payments.outbox enable trigger outbox_pokes")
    before, lost_at = pokes(house), time.monotonic()

    until(lambda: pokes(house) > before, "a poke by cron")

    assert time.monotonic() - lost_at <= HEALED_S
    assert len(take(house)) == 1


def test_people_look_at_what_failed_and_decide(
    house: House, merchant: Merchant, destination: str
) -> None:
    take(house)
    intent_id = merchant.create()["id"]
    merchant.post(f"/payment-intents/{intent_id}/cancel").raise_for_status()
    with house.books.connection.transaction():
        first, _ = take(house)
        house.books.run(
            "select payments.fail_event('test_e2e', %s, 'no rule for it', true)",
            first["outbox_id"],
        )
    finance, operator = (person(house, merchant, role) for role in ("finance", "operator"))

    listed = finance.get("/deliveries", params={"destination": destination}).json()
    shown = operator.get("/deliveries/destinations").raise_for_status().json()
    skipped = finance.post(
        f"/deliveries/{first['outbox_id']}/skip", json={"reason": "Booked by hand"}
    )

    assert [(d["state"], d["last_error"]) for d in listed["data"]] == [
        ("dead", "no rule for it"),
        ("waiting", None),
    ]
    assert ("delivery_dead", f"{destination}/{first['event_id']}") not in merchant.alerts()
    assert {d["destination"]: d["dead"] for d in shown["data"]}[destination] == 1
    assert (skipped.status_code, skipped.json()["state"]) == (200, "skipped")
    assert [row["event_type"] for row in take(house)] == ["payment_intent.canceled"]


def test_a_dead_delivery_is_redriven(house: House, merchant: Merchant, destination: str) -> None:
    take(house)
    merchant.create()
    with house.books.connection.transaction():
        (row,) = take(house)
        house.books.run(
            "select payments.fail_event('test_e2e', %s, 'no rule for it', true)", row["outbox_id"]
        )
    finance = person(house, merchant, "finance")

    again = finance.post(
        f"/deliveries/{row['outbox_id']}/redrive", json={"reason": "The rule exists now"}
    )
    twice = person(house, merchant, "auditor").get(f"/deliveries/{row['outbox_id']}")

    assert (again.status_code, again.json()["state"]) == (200, "retry")
    assert twice.json()["state"] == "retry"
    assert [taken["event_id"] for taken in take(house)] == [row["event_id"]]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/deliveries/1/skip", {"reason": "no"}, 400),
        ("/deliveries/1/skip", {}, 400),
        ("/deliveries/999999999/skip", {"reason": "Booked by hand"}, 404),
        ("/deliveries/abc/redrive", {"reason": "Booked by hand"}, 404),
    ],
)
def test_what_cannot_be_decided_is_refused(
    house: House, merchant: Merchant, path: str, body: dict[str, str], status: int
) -> None:
    answer = person(house, merchant, "owner").post(path, json=body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_key_is_not_a_person(house: House, merchant: Merchant) -> None:
    assert merchant.api.get("/deliveries").status_code == 403
