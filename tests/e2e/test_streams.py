"""Server-sent events of one intent: who may listen, what they hear, when it ends, what it costs."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest

from scripts.stack.stack import Stack
from tests.support.house import House, Merchant, living_in
from tests.support.simulator import PATIENCE_S, Json, new_phone, until

SSE = {"accept": "text/event-stream"}
TICK_S = 0.25  # an instance asks the database once in that time, however many listen


@pytest.fixture(scope="module")
def house(stack: Stack) -> Iterator[House]:
    with living_in(stack) as house:
        yield house


@pytest.fixture
def merchant(house: House) -> Merchant:
    return house.merchant()


def frames(answer: httpx.Response) -> Iterator[Json]:
    """The events of a stream: id, event and data as JSON; comments and `retry` left out.

    Raises TimeoutError for a stream that should have ended; a heartbeat comes every 15 s.
    """
    frame: dict[str, str] = {}
    deadline = time.monotonic() + PATIENCE_S
    for line in answer.iter_lines():
        if time.monotonic() > deadline:
            raise TimeoutError("the stream goes on")
        name, _, value = line.partition(": ")
        if not line and "data" in frame:
            yield {**frame, "data": json.loads(frame["data"])}
            frame = {}
        elif name in ("id", "event", "data"):
            frame[name] = value


@contextmanager
def listening(
    client: httpx.Client, intent_id: str, token: str | None = None, last: str | None = None
) -> Iterator[httpx.Response]:
    headers = SSE | ({"last-event-id": last} if last else {})
    params = {"token": token} if token else {}
    path = f"/payment-intents/{intent_id}/events"
    with client.stream("GET", path, headers=headers, params=params) as answer:
        yield answer


def told(client: httpx.Client, intent_id: str, last: str | None = None) -> list[Json]:
    """Everything one stream says until it ends."""
    with listening(client, intent_id, last=last) as answer:
        assert answer.status_code == 200
        return list(frames(answer))


def refused(client: httpx.Client, intent_id: str, token: str | None = None) -> tuple[int, str]:
    """(status, code) of a stream that does not open."""
    with listening(client, intent_id, token) as answer:
        assert answer.is_error, "the stream opened"
        answer.read()
        return answer.status_code, str(answer.json()["code"])


def stream_token(client: httpx.Client, intent_id: str) -> str:
    answer = client.post(f"/payment-intents/{intent_id}/stream-token")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def browser_of(house: House, merchant: Merchant, intent: Json) -> httpx.Client:
    """A payer's page: publishable key and the secret of this intent."""
    return house.client(merchant.publishable, **{"x-client-secret": intent["client_secret"]})


# --- what is heard


def test_stream_tells_each_change_and_ends_with_success(house: House, merchant: Merchant) -> None:
    phone, intent_id = new_phone(), merchant.create()["id"]

    with listening(merchant.api, intent_id) as answer:
        heard = frames(answer)
        created = next(heard)
        merchant.confirm(intent_id, phone).raise_for_status()
        processing = next(heard)
        house.daraja.act(phone, "pay")
        rest = list(heard)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [created["event"], processing["event"], *[frame["event"] for frame in rest]] == [
        "payment_intent.created",
        "payment_intent.processing",
        "payment_intent.succeeded",
    ]
    assert processing["data"]["latest_transfer"]["rail"] == "mpesa"
    assert rest[0]["data"]["amount_received"] == "100.00"
    assert {frame["data"]["client_secret"] for frame in (created, processing, *rest)} == {None}


def test_stream_of_a_finished_intent_tells_all_of_it_and_ends(merchant: Merchant) -> None:
    intent_id = merchant.start(new_phone("00"))
    merchant.wait(intent_id, "succeeded")

    heard = told(merchant.api, intent_id)

    assert [frame["event"] for frame in heard] == [
        "payment_intent.created",
        "payment_intent.processing",
        "payment_intent.succeeded",
    ]


@pytest.mark.parametrize("end", ["canceled", "expired"])
def test_stream_ends_when_nothing_more_can_come(house: House, merchant: Merchant, end: str) -> None:
    intent_id = merchant.create()["id"]

    with listening(merchant.api, intent_id) as answer:
        heard = frames(answer)
        next(heard)
        finish(house, merchant, intent_id, end)
        rest = list(heard)

    assert [frame["event"] for frame in rest] == [f"payment_intent.{end}"]


def finish(house: House, merchant: Merchant, intent_id: str, end: str) -> None:
    if end == "canceled":
        merchant.post(f"/payment-intents/{intent_id}/cancel").raise_for_status()
        return
    house.books.run(
        "update payments.payment_intents set expires_at = now() where payment_intent_id = %s",
        intent_id,
    )
    house.books.run("select payments.expire_intents()")


def test_failed_attempt_does_not_end_the_stream(house: House, merchant: Merchant) -> None:
    intent_id, phone = merchant.create()["id"], new_phone()

    with listening(merchant.api, intent_id) as answer:
        heard = frames(answer)
        merchant.confirm(intent_id, phone).raise_for_status()
        house.daraja.act(phone, "cancel")
        merchant.wait(intent_id, "requires_payment_method")
        merchant.confirm(intent_id, phone).raise_for_status()
        house.daraja.act(phone, "pay")
        events = [frame["event"] for frame in heard]

    assert events == [
        "payment_intent.created",
        "payment_intent.processing",
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.succeeded",
    ]


def test_listener_resumes_after_the_last_event_it_saw(merchant: Merchant) -> None:
    intent_id = merchant.start(new_phone("00"))
    merchant.wait(intent_id, "succeeded")
    first, *missed = told(merchant.api, intent_id)

    heard = told(merchant.api, intent_id, last=first["id"])

    assert heard == missed
    assert len(heard) == 2


def test_listener_who_has_seen_the_end_is_told_not_to_come_back(merchant: Merchant) -> None:
    intent_id = merchant.start(new_phone("00"))
    merchant.wait(intent_id, "succeeded")
    last = told(merchant.api, intent_id)[-1]["id"]

    with listening(merchant.api, intent_id, last=last) as answer:
        assert answer.status_code == 204


@pytest.mark.parametrize("nonsense", ["x", "-1", "1e3", "9" * 30])
def test_nonsense_as_last_event_id_starts_over_and_disturbs_nobody(
    merchant: Merchant, nonsense: str
) -> None:
    intent_id, neighbour = merchant.create()["id"], merchant.create()["id"]

    with (
        listening(merchant.api, intent_id, last=nonsense) as odd,
        listening(merchant.api, neighbour) as fine,
    ):
        heard = [next(frames(odd))["event"], next(frames(fine))["event"]]

    assert heard == ["payment_intent.created"] * 2


def test_stream_ends_when_its_time_is_over(house: House, merchant: Merchant) -> None:
    intent_id = merchant.create()["id"]
    house.books.run(
        "alter table payments.streams alter expires_at set default now() + interval '2 seconds'"
    )
    try:
        began = time.monotonic()
        heard = told(merchant.api, intent_id)
    finally:
        house.books.run(
            "alter table payments.streams alter expires_at"
            " set default now() + interval '15 minutes'"
        )

    # It would go on for fifteen minutes; `told` waits for one.
    assert [frame["event"] for frame in heard] == ["payment_intent.created"]
    assert time.monotonic() - began > 1


# --- who may listen


def test_payers_page_listens_with_a_token_from_its_client_secret(
    house: House, merchant: Merchant
) -> None:
    intent, phone = merchant.create(), new_phone()
    token = stream_token(browser_of(house, merchant, intent), intent["id"])
    merchant.confirm(intent["id"], phone).raise_for_status()

    with listening(house.http, intent["id"], token) as answer:
        house.daraja.act(phone, "pay")
        events = [frame["event"] for frame in frames(answer)]

    assert events[-1] == "payment_intent.succeeded"


def test_token_opens_one_stream_only(house: House, merchant: Merchant) -> None:
    intent = merchant.create()
    token = stream_token(merchant.api, intent["id"])

    with listening(house.http, intent["id"], token) as first:
        assert first.status_code == 200
        assert refused(house.http, intent["id"], token) == (401, "40102")

    assert refused(house.http, intent["id"], token) == (401, "40102")


def test_token_dies_after_a_minute(house: House, merchant: Merchant) -> None:
    intent_id = merchant.create()["id"]
    answer = merchant.api.post(f"/payment-intents/{intent_id}/stream-token").json()
    until_then = "select extract(epoch from expires_at - now())::float8 from payments.stream_tokens"
    left = house.books.value(f"{until_then} where payment_intent_id = %s", intent_id)
    house.books.run(
        "update payments.stream_tokens set expires_at = now() where payment_intent_id = %s",
        intent_id,
    )

    assert 50 < left <= 60
    assert refused(house.http, intent_id, answer["token"]) == (401, "40102")


def test_token_of_another_intent_is_refused(house: House, merchant: Merchant) -> None:
    mine, other = merchant.create(), merchant.create()
    token = stream_token(merchant.api, mine["id"])

    assert refused(house.http, other["id"], token) == (401, "40102")

    with listening(house.http, mine["id"], token) as still_good:
        assert still_good.status_code == 200


def test_strangers_hear_nothing(house: House, merchant: Merchant) -> None:
    intent = merchant.create()
    stranger = house.merchant()
    wrong_secret = browser_of(house, merchant, {"client_secret": "pics_" + "0" * 64})

    turned_away = [
        refused(house.http, intent["id"]),
        refused(house.http, intent["id"], "made-up"),
        refused(stranger.api, intent["id"]),
        refused(wrong_secret, intent["id"]),
    ]
    path = f"/payment-intents/{intent['id']}/stream-token"
    tokens = [client.post(path).status_code for client in (stranger.api, wrong_secret, house.http)]

    assert turned_away == [(401, "40101"), (401, "40102"), (404, "40401"), (404, "40401")]
    assert tokens == [404, 404, 401]


# --- what it costs


async def test_hundred_streams_cost_one_data_api_call_per_tick(
    house: House, merchant: Merchant
) -> None:
    phone, intent_id = new_phone(), merchant.create()["id"]
    headers = SSE | {"authorization": f"Bearer {merchant.secret}"}
    limits = httpx.Limits(max_connections=200)
    started = asyncio.Event()
    seconds = 2.0

    async with httpx.AsyncClient(
        base_url=house.stack.functions_url, trust_env=False, timeout=60, limits=limits
    ) as client:
        opened: list[int] = []

        async def listen() -> list[str]:
            path = f"/payment-intents/{intent_id}/events"
            async with client.stream("GET", path, headers=headers) as answer:
                events = []
                async for event in event_names(answer):
                    events.append(event)
                    opened.append(1)
                    if len(opened) == 100:
                        started.set()
                return events

        listeners = [asyncio.create_task(listen()) for _ in range(100)]
        await asyncio.wait_for(started.wait(), PATIENCE_S)
        began, before = time.monotonic(), reads(house)
        await asyncio.sleep(seconds)
        calls, took_s = reads(house) - before, time.monotonic() - began
        confirmed = await asyncio.to_thread(merchant.confirm, intent_id, phone)
        await asyncio.to_thread(house.daraja.act, phone, "pay")
        heard = await asyncio.wait_for(asyncio.gather(*listeners), PATIENCE_S)

    assert confirmed.status_code == 200
    assert seconds / TICK_S / 4 <= calls <= took_s / TICK_S + 1
    assert {events[-1] for events in heard} == {"payment_intent.succeeded"}
    assert {len(events) for events in heard} == {3}


async def event_names(answer: httpx.Response) -> AsyncIterator[str]:
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            yield value


def test_nobody_listening_costs_nothing(house: House, merchant: Merchant) -> None:
    intent_id = merchant.create()["id"]
    with listening(merchant.api, intent_id) as answer:
        next(frames(answer))

    def nobody_asks() -> bool:
        before = reads(house)
        time.sleep(4 * TICK_S)
        return reads(house) == before

    until(nobody_asks, "an end of the questions about streams nobody hears")


def reads(house: House) -> int:
    name = "stalela_data_api_calls_total"
    return int(house.metric("payment-intents", name, rpc="payments.read_streams"))
