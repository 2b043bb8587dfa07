"""Events on their way to a merchant's server, and what the merchant can do about them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import jsonschema_rs
import pytest
from standardwebhooks import WebhookVerificationError

from scripts.stack.stack import Stack
from tests.support.house import House, Merchant, living_in, new_key
from tests.support.receiver import Receiver, listening
from tests.support.simulator import Json, new_phone, until

IN_THE_BOOKS = """
select webhooks.payload(
    e.event_id, e.type, k.api_version, e.environment, e.occurred_at, e.subject, e.seq, e.payload
)
from (
    select event_id, type, environment, occurred_at, payment_intent_id as subject, seq, payload
    from payments.intent_events
    union all
    select event_id, type, environment, occurred_at, transfer_id, seq, payload
    from payments.transfer_events
) as e
left join webhooks.event_types as k on k.type = e.type
"""


@pytest.fixture(scope="module")
def house(stack: Stack) -> Iterator[House]:
    with living_in(stack) as house:
        yield house


@dataclass(frozen=True)
class Shop:
    """A merchant whose server listens."""

    merchant: Merchant
    receiver: Receiver
    endpoint_id: str
    secret: str

    def url(self, path: str = "") -> str:
        return f"/webhook-endpoints/{self.endpoint_id}{path}"

    def post(self, path: str, body: object = None) -> Json:
        """POST below the endpoint. Raises httpx.HTTPStatusError."""
        return dict(self.merchant.post(self.url(path), body).raise_for_status().json())

    def get(self, path: str = "") -> Json:
        """GET below the endpoint."""
        return dict(self.merchant.api.get(self.url(path)).raise_for_status().json())

    def heard(self, kind: str, times: int = 1) -> list[Json]:
        """The events of this type once there are so many; every signature was verified."""

        def look() -> list[Json] | None:
            events = [one.verified(self.secret) for one in self.receiver.received]
            found = [event for event in events if event["type"] == kind]
            return found if len(found) >= times else None

        return until(look, f"{times} {kind}")

    def hurry(self) -> None:
        """Bring every attempt that waits forward to now."""
        books = self.merchant.house.books
        books.run(
            "update webhooks.endpoint_health set open_until = null where endpoint_id = %s",
            self.endpoint_id,
        )
        books.run(
            "update webhooks.queue set due_at = now() where endpoint_id = %s and not is_leased",
            self.endpoint_id,
        )
        books.run("select public.poke('webhook_delivery')")

    def delivery(self, event_id: str, status: str) -> Json:
        """The delivery of an event once it has this status."""

        def look() -> Json | None:
            found = self.get(f"/deliveries/{event_id}")
            return found if found["delivery"]["status"] == status else None

        return until(look, f"{event_id} {status}")


@pytest.fixture
def shop(house: House) -> Iterator[Shop]:
    merchant = house.merchant()
    with listening() as receiver:
        created = create(merchant, receiver.url).raise_for_status().json()
        yield Shop(merchant, receiver, created["id"], created["secret"])
    merchant.api.delete(f"/webhook-endpoints/{created['id']}").raise_for_status()
    house.daraja.disarm()


def create(merchant: Merchant, url: str, *event_types: str) -> httpx.Response:
    """POST /webhook-endpoints."""
    return merchant.post("/webhook-endpoints", {"url": url, "event_types": event_types or ["*"]})


def pay(house: House, merchant: Merchant) -> str:
    """A payment from creation to success; its intent."""
    phone = new_phone()
    intent_id = merchant.start(phone)
    house.daraja.prompted(phone)
    house.daraja.act(phone, "pay")
    merchant.wait(intent_id, "succeeded")
    return intent_id


# --- the way of an event


def test_payment_reaches_the_merchants_server_signed_and_in_order(house: House, shop: Shop) -> None:
    intent_id = pay(house, shop.merchant)

    (succeeded,) = shop.heard("payment_intent.succeeded")
    shop.heard("transfer.settled")

    assert succeeded["data"]["payment_intent_id"] == intent_id
    assert (succeeded["data"]["amount"], succeeded["data"]["currency"]) == ("100.00", "KES")
    assert succeeded["livemode"] is False
    events = [one.verified(shop.secret) for one in shop.receiver.received]
    assert len({event["id"] for event in events}) == len(events) == 7
    for subject in ("payment_intent", "transfer"):
        told = [event for event in events if event["type"].startswith(f"{subject}.")]
        assert [event["data"]["sequence"] for event in told] == sorted(
            event["data"]["sequence"] for event in told
        )
    assert {event["id"] for event in shop.merchant.timeline(intent_id)} == {
        event["id"] for event in events
    }


def test_polling_gives_the_bytes_of_the_webhook(house: House, shop: Shop) -> None:
    pay(house, shop.merchant)
    shop.heard("payment_intent.succeeded")
    shop.heard("transfer.settled")

    listed = shop.merchant.api.get("/events").raise_for_status()

    for received in shop.receiver.received:
        alone = shop.merchant.api.get(f"/events/{received.event_id}").raise_for_status()
        assert alone.content == received.body
        assert received.body in listed.content
    assert len(listed.json()["data"]) == len(shop.receiver.received)


def test_every_event_is_an_instance_of_its_published_schema(house: House, shop: Shop) -> None:
    pay(house, shop.merchant)
    phone = new_phone()
    failed = shop.merchant.start(phone)
    house.daraja.act(phone, "cancel")
    shop.merchant.wait(failed, "requires_payment_method")
    shop.merchant.post(f"/payment-intents/{failed}/cancel").raise_for_status()
    back, out = new_phone("30"), new_phone("30")  # they pay when asked, and can be paid
    refunded = shop.merchant.start(back)
    house.daraja.act(back, "pay")
    shop.merchant.wait(refunded, "succeeded")
    part = {"payment_intent": refunded, "amount": "40.00", "currency": "KES"}
    shop.merchant.post("/refunds", part).raise_for_status()
    destination = {"type": "mpesa", "phone": out}
    payout = {"amount": "1500.00", "currency": "KES", "destination": destination}
    shop.merchant.post("/payouts", payout).raise_for_status()
    shop.post("/test")

    shop.heard("payment_intent.canceled")
    shop.heard("refund.succeeded")
    shop.heard("payment_intent.partially_refunded")
    shop.heard("payout.succeeded")
    shop.heard("webhook_endpoint.test")

    schema = house.http.get("/events.json").raise_for_status().json()
    assert schema == house.http.get("/events/events.json").raise_for_status().json()
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    sent = [received.body.decode() for received in shop.receiver.received]
    # And whatever other tests made happen on this stack.
    wrong = {
        payload: [error.message for error in validator.iter_errors(event)]
        for payload in [*sent, *house.books.column(IN_THE_BOOKS)]
        if not validator.is_valid(event := json.loads(payload))
    }
    assert wrong == {}
    assert len(set(shop.receiver.types(shop.secret))) >= 15


def test_server_that_was_down_gets_everything_once_it_is_up(house: House, shop: Shop) -> None:
    shop.receiver.down()
    intent_id = shop.merchant.create()["id"]
    event_id = shop.merchant.timeline(intent_id)[0]["id"]
    until(lambda: attempts(shop, event_id), "a first attempt")
    assert shop.get(f"/deliveries/{event_id}")["delivery"]["status"] == "pending"

    shop.receiver.up()
    shop.hurry()

    kept = shop.delivery(event_id, "delivered")
    first, last = kept["attempts"][0], kept["attempts"][-1]
    assert (first["status_code"], first["error"]) == (None, "no connection")
    assert (last["status_code"], last["error"]) == (204, None)
    assert [one.event_id for one in shop.receiver.received] == [event_id]


def test_server_that_says_try_later_is_tried_later_with_the_same_id(shop: Shop) -> None:
    shop.receiver.status, shop.receiver.answer = 503, b"we are \x00 tidying up"
    event_id = shop.post("/test")["event_id"]
    until(lambda: attempts(shop, event_id), "a first attempt")

    shop.receiver.status = 200
    shop.hurry()

    kept = shop.delivery(event_id, "delivered")
    assert kept["attempts"][0]["response_excerpt"] == "we are \ufffd tidying up"
    assert {one.event_id for one in shop.receiver.received} == {event_id}
    assert len({one.body for one in shop.receiver.received}) == 1


def test_redirect_is_not_followed(shop: Shop) -> None:
    with listening() as elsewhere:
        shop.receiver.status = 307
        shop.receiver.headers = {"Location": elsewhere.url}
        event_id = shop.post("/test")["event_id"]

        until(lambda: attempts(shop, event_id), "a first attempt")

        (attempt,) = attempts(shop, event_id)
        assert attempt["status_code"] == 307
        assert elsewhere.received == []


def test_server_that_is_gone_is_disabled_and_catches_up_by_replay(house: House, shop: Shop) -> None:
    shop.receiver.status = 410
    shop.post("/test")
    until(lambda: shop.get()["status"] == "disabled", "disabled")
    assert shop.get()["disabled_reason"] == "gone"
    assert ("webhook_endpoint_disabled", shop.endpoint_id) in shop.merchant.alerts()
    shop.receiver.status = 204
    shop.receiver.received.clear()

    intent_id = shop.merchant.create()["id"]
    event_id = shop.merchant.timeline(intent_id)[0]["id"]
    until(lambda: shop.get("/deliveries?status=missed")["data"], "missed")
    assert shop.receiver.received == []

    shop.post("/enable")
    assert shop.post("/replay", {"from": "2026-01-01T00:00:00Z"})["queued"] == 2
    shop.delivery(event_id, "delivered")
    assert event_id in {one.event_id for one in shop.receiver.received}
    assert shop.merchant.alerts() == []


def test_replay_of_one_event_keeps_its_id_and_bytes(shop: Shop) -> None:
    event_id = shop.post("/test")["event_id"]
    shop.delivery(event_id, "delivered")

    shop.post(f"/deliveries/{event_id}/replay")

    first, again = until(
        lambda: shop.receiver.received if len(shop.receiver.received) == 2 else None, "again"
    )
    assert (first.event_id, first.body) == (again.event_id, again.body) == (event_id, first.body)
    assert again.verified(shop.secret)["id"] == event_id
    until(lambda: len(attempts(shop, event_id)) == 2, "both attempts are on record")


def test_both_secrets_sign_for_a_day_after_a_rotation(house: House, shop: Shop) -> None:
    fresh = shop.post("/rotate-secret")["secret"]
    assert fresh != shop.secret
    one = shop.post("/test")["event_id"]
    shop.delivery(one, "delivered")
    house.books.run(
        "update webhooks.endpoints set former_until = now() - interval '1 s'"
        " where endpoint_id = %s",
        shop.endpoint_id,
    )
    two = shop.post("/test")["event_id"]
    shop.delivery(two, "delivered")

    during, after = shop.receiver.received
    assert during.verified(shop.secret) == during.verified(fresh)
    assert after.verified(fresh)["id"] == two
    with pytest.raises(WebhookVerificationError):
        after.verified(shop.secret)


def test_secrets_are_sealed_again_under_a_new_master_key(house: House, shop: Shop) -> None:
    fresh = shop.post("/rotate-secret")["secret"]
    house.books.run(
        "update webhooks.endpoints set key_version = 0, former_key_version = 0"
        " where endpoint_id = %s",
        shop.endpoint_id,
    )
    headers = {"Authorization": f"Bearer {house.stack.keys['internal_token']}"}

    done = house.http.post("/webhook-endpoints/reseal", headers=headers)
    again = house.http.post("/webhook-endpoints/reseal", headers=headers)

    assert done.json() == {"resealed": 1, "failed": 0}
    assert again.json() == {"resealed": 0, "failed": 0}
    shop.delivery(shop.post("/test")["event_id"], "delivered")
    (received,) = shop.receiver.received
    assert received.verified(fresh) == received.verified(shop.secret)


# --- keeping endpoints


def test_secret_is_shown_once(house: House) -> None:
    merchant, key = house.merchant(), new_key()
    body = {"url": "https://shop.example/hooks"}

    first = merchant.post("/webhook-endpoints", body, key)
    again = merchant.post("/webhook-endpoints", body, key)

    assert first.status_code == again.status_code == 201
    assert first.json()["secret"].startswith("whsec_")
    assert again.json()["secret"] is None
    assert again.json()["id"] == first.json()["id"]
    endpoint = merchant.api.get(f"/webhook-endpoints/{first.json()['id']}").json()
    assert endpoint == {k: v for k, v in first.json().items() if k != "secret"}
    stored = house.books.value(
        "select secret_sealed from webhooks.endpoints where endpoint_id = %s", endpoint["id"]
    )
    assert first.json()["secret"] not in stored


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://10.0.0.1/hooks", "private"),
        ("https://169.254.169.254/latest", "link_local"),
        ("https://[::ffff:192.168.0.1]/hooks", "private"),
        ("https://[2002:a00:1::]/hooks", "6to4"),
        ("http://shop.example/hooks", "https_only"),
        ("https://2130706433/hooks", "malformed"),
    ],
)
def test_url_into_a_private_network_is_refused_by_its_rule(
    house: House, url: str, rule: str
) -> None:
    merchant = house.merchant()

    refused = create(merchant, url)

    assert refused.status_code == 422
    problem = refused.json()
    assert (problem["code"], problem["rule"]) == ("42253", rule)
    assert problem["errors"][0]["pointer"] == "/url"
    assert merchant.api.get("/webhook-endpoints").json()["data"] == []


def test_event_type_that_does_not_exist_is_refused_by_name(house: House) -> None:
    refused = create(house.merchant(), "https://shop.example/", "transfer.*", "payment.done")

    assert (refused.status_code, refused.json()["code"]) == (422, "42262")
    assert refused.json()["errors"][0]["pointer"] == "/event_types/1"


def test_sixth_endpoint_is_one_too_many(house: House) -> None:
    merchant = house.merchant()
    for _ in range(5):
        create(merchant, "https://shop.example/").raise_for_status()

    refused = create(merchant, "https://shop.example/")

    assert (refused.status_code, refused.json()["code"]) == (422, "42254")


def test_endpoint_of_another_merchant_does_not_exist(house: House, shop: Shop) -> None:
    stranger = house.merchant()

    answers = [
        stranger.api.get(shop.url()),
        stranger.api.patch(shop.url(), json={"url": "https://thief.example/"}),
        stranger.api.delete(shop.url()),
        stranger.post(shop.url("/rotate-secret")),
        stranger.post(shop.url("/replay"), {"from": "2026-01-01T00:00:00Z"}),
        stranger.api.get(shop.url("/deliveries")),
    ]

    assert [answer.status_code for answer in answers] == [404] * 6


def attempts(shop: Shop, event_id: str) -> list[Json]:
    """The recorded attempts of a delivery; none while there is no delivery."""
    answer = shop.merchant.api.get(shop.url(f"/deliveries/{event_id}"))
    return [] if answer.status_code == 404 else list(answer.json()["attempts"])
