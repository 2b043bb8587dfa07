"""Events reach a real NATS JetStream: in order, acknowledged, once; an outage loses nothing."""

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.house import FUNCTIONS, House, Merchant, own_house
from tests.support.nats import Nats, nats_server
from tests.support.simulator import Json, new_phone, until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nats]:
    with nats_server(tmp_path_factory.mktemp("nats")) as running:
        yield running


@pytest.fixture(scope="module")
def house(server: Nats) -> Iterator[House]:
    with own_house("relay", functions=(*FUNCTIONS, "relay"), relay_url=server.url) as running:
        yield running


@pytest.fixture
def merchant(house: House) -> Merchant:
    return house.merchant()


@pytest.fixture
def relay_is_on(house: House) -> None:
    """What functions/relay/README.md tells operators to run."""
    house.books.run("update public.destinations set enabled = true where destination = 'relay'")
    house.books.run(
        "update public.event_subscriptions set enabled = true where destination = 'relay'"
    )


def pay(house: House, merchant: Merchant) -> str:
    phone = new_phone()
    intent_id = merchant.start(phone)
    house.daraja.act(phone, "pay")
    merchant.wait(intent_id, "succeeded")
    return intent_id


def poke(house: House) -> httpx.Response:
    token = house.stack.keys["internal_token"]
    return house.http.post("/relay", headers={"Authorization": f"Bearer {token}"})


def relayed(server: Nats, merchant: Merchant) -> list[Json]:
    """What the log holds of this merchant, in its order."""
    return [
        json.loads(message.data) | {"subject": message.subject, "headers": message.headers}
        for message in server.messages()
        if message.headers["Stalela-Tenant-Id"] == merchant.tenant_id
    ]


def all_relayed(server: Nats, merchant: Merchant, wanted: int) -> list[Json]:
    def look() -> list[Json] | None:
        found = relayed(server, merchant)
        return found if len(found) >= wanted else None

    return until(look, f"{wanted} events in the log")


def test_relay_is_off_until_somebody_turns_it_on(
    house: House, merchant: Merchant, server: Nats
) -> None:
    pay(house, merchant)

    answer = poke(house)

    assert (answer.status_code, answer.json()) == (200, {"done": 0})
    assert relayed(server, merchant) == []
    assert (
        house.books.value("select count(*) from payments.outbox where destination = 'relay'") == 0
    )


@pytest.mark.usefixtures("relay_is_on")
class TestRelay:
    """Once it is on."""

    def test_every_event_of_a_payment_is_published_in_order(
        self, house: House, merchant: Merchant, server: Nats
    ) -> None:
        intent_id = pay(house, merchant)

        events = all_relayed(server, merchant, 7)

        timeline = merchant.timeline(intent_id)
        assert {event["id"] for event in events} == {event["id"] for event in timeline}
        for aggregate in ("payment_intent", "transfer"):
            subject = f"stalela.sandbox.{aggregate}"
            published = [event["id"] for event in events if event["subject"] == subject]
            assert published == [e["id"] for e in timeline if e["type"].startswith(aggregate)]
        settled = next(event for event in events if event["type"] == "transfer.settled")
        assert settled["headers"]["Nats-Msg-Id"] == settled["id"]
        assert settled["headers"]["Stalela-Event-Type"] == "transfer.settled"
        assert settled["data"]["transfer_id"] == merchant.transfers()[0]["transfer_id"]
        assert settled["livemode"] is False

    def test_event_that_is_published_again_is_dropped_by_the_server(
        self, house: House, merchant: Merchant, server: Nats
    ) -> None:
        pay(house, merchant)
        before = len(all_relayed(server, merchant, 7))

        # As after a crash between the publication and its acknowledgement here.
        house.books.run(
            "insert into payments.outbox (destination, event_id, event_type, tenant_id,"
            " environment, ordering_key, seq) select destination, event_id, event_type, tenant_id,"
            " environment, ordering_key, seq from payments.outbox"
            " where destination = 'relay' and tenant_id = %s",
            merchant.tenant_id,
        )
        until(lambda: nothing_waits(house), "an empty outbox")

        assert len(relayed(server, merchant)) == before

    def test_outage_of_the_log_loses_nothing_and_costs_no_attempt(
        self, house: House, merchant: Merchant, server: Nats
    ) -> None:
        server.stop()
        intent_id = pay(house, merchant)
        other = pay(house, merchant)
        away = poke(house)

        server.start()
        until(lambda: poke(house).is_success or None, "the relay")
        events = all_relayed(server, merchant, 14)

        assert (away.status_code, away.json()["code"]) == (503, "50301")
        assert len(events) == 14
        for intent in (intent_id, other):
            ours = [e["id"] for e in events if e["data"].get("payment_intent_id") == intent]
            kinds = [e["id"] for e in merchant.timeline(intent) if e["id"] in ours]
            assert sorted(ours) == sorted(kinds)
        tried = house.books.rows(
            "select * from payments.outbox_exceptions where destination = 'relay'"
        )
        assert tried == []

    @pytest.mark.parametrize(
        ("refusal", "consent", "flowing"),
        [
            (
                {"subjects": ["stalela.*.transfer"]},
                {"subjects": ["stalela.*.*"]},
                {"stalela.sandbox.transfer"},
            ),
            ({"max_msg_size": 10}, {"max_msg_size": -1}, set()),
        ],
    )
    def test_event_that_the_log_refuses_holds_its_own_stream_alone(
        self,
        house: House,
        merchant: Merchant,
        server: Nats,
        refusal: Json,
        consent: Json,
        flowing: set[str],
    ) -> None:
        server.configure(**refusal)
        intent_id = pay(house, merchant)
        refused = until(lambda: exceptions(house, merchant) or None, "a refused event")
        until(
            lambda: {e["subject"] for e in relayed(server, merchant)} == flowing or None,
            "what the log takes",
        )
        server.configure(**consent)

        # Its time comes on the ladder; here it is brought forward.
        def look() -> list[Json] | None:
            house.books.run(
                "update payments.outbox_exceptions set next_attempt_at = now()"
                " where destination = 'relay' and state = 'retry'"
            )
            poke(house)
            found = relayed(server, merchant)
            return found if len(found) == 7 else None

        events = until(look, "all events")

        assert all(row["last_error"] or row["state"] == "waiting" for row in refused)
        for aggregate in ("payment_intent", "transfer"):
            ours = [e["data"]["sequence"] for e in events if e["subject"].endswith(aggregate)]
            assert ours == sorted(ours)
        assert {e["id"] for e in events} == {e["id"] for e in merchant.timeline(intent_id)}


def exceptions(house: House, merchant: Merchant) -> list[Json]:
    return house.books.rows(
        "select * from payments.outbox_exceptions where destination = 'relay' and tenant_id = %s",
        merchant.tenant_id,
    )


def nothing_waits(house: House) -> bool | None:
    poke(house).raise_for_status()
    return not house.books.value("select payments.has_due_events('relay')") or None
