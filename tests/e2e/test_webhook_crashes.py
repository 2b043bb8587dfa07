"""kill -9 while webhooks are on their way: each arrives at least once, always under one id."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from tests.support.house import FUNCTIONS, House, Merchant, own_house
from tests.support.receiver import Receiver, listening
from tests.support.simulator import until

HOOKS = ("events", "webhook_delivery", "webhook_endpoints")
EVENTS_OF = """
select event_id from payments.intent_events where tenant_id = %s
union all select event_id from payments.transfer_events where tenant_id = %s
"""


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with own_house("webhook-crashes", fsync=True, functions=(*FUNCTIONS, *HOOKS)) as house:
        # Whoever died holds its deliveries no longer than this.
        house.books.run("update public.settings set value = '3' where key = 'webhooks.lease_s'")
        house.books.run("update public.settings set value = '[1]' where key = 'webhooks.delays_s'")
        yield house


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as receiver:
        yield receiver


def listening_merchant(house: House, receiver: Receiver) -> tuple[Merchant, str]:
    """A merchant whose events go to the receiver, and the secret that signs them."""
    merchant = house.merchant()
    created = merchant.post("/webhook-endpoints", {"url": receiver.url}).raise_for_status()
    return merchant, str(created.json()["secret"])


def alive(house: House) -> None:
    """Wait until the stack answers again."""

    def answers() -> bool:
        with suppress(httpx.TransportError):
            return house.http.get("/payment-intents/readyz").is_success
        return False

    until(answers, "the stack answers")


def test_dispatcher_that_dies_after_sending_sends_again_under_the_same_id(
    house: House, receiver: Receiver
) -> None:
    merchant, secret = listening_merchant(house, receiver)
    receiver.on_first = lambda: house.stack.kill("gateway")

    merchant.create()

    first, again = until(
        lambda: receiver.received if len(receiver.received) == 2 else None, "sent again"
    )
    assert first.event_id == again.event_id == first.verified(secret)["id"]
    assert first.body == again.body
    alive(house)


def test_every_event_arrives_under_one_id_whatever_is_killed(
    house: House, receiver: Receiver
) -> None:
    merchant, secret = listening_merchant(house, receiver)

    def create(number: int) -> None:
        # A request that was cut off may or may not have made its intent; what counts is the books.
        try:
            merchant.create(metadata={"number": str(number)})
        except httpx.HTTPError:
            alive(house)  # what is not up yet must not cut off all the others

    with ThreadPoolExecutor(4) as pool:
        creating = [pool.submit(create, number) for number in range(60)]
        for process in ("gateway", "postgres", "pg_net", "postgrest", "gateway"):
            time.sleep(0.7)
            house.stack.kill(process)
        for one in creating:
            one.result()
    alive(house)
    house.reconnect()

    expected = set(house.books.column(EVENTS_OF, merchant.tenant_id, merchant.tenant_id))
    until(lambda: {one.event_id for one in receiver.received} >= expected, "all arrived", 300)

    assert {one.event_id for one in receiver.received} == expected
    assert len(expected) >= 10
    assert len({(one.event_id, one.body) for one in receiver.received}) == len(expected)
    assert {one.verified(secret)["id"] for one in receiver.received} == expected
    until(
        lambda: house.books.value(
            "select count(*) = 0 from webhooks.queue where tenant_id = %s", merchant.tenant_id
        ),
        "all on record",
        300,
    )
