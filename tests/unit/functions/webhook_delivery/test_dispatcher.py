"""What the dispatcher does between claim and record, with a pretended database and network."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from pydantic import SecretStr
from standardwebhooks import Webhook

from functions.webhook_delivery import dispatcher
from functions.webhook_delivery.dispatcher import Dispatcher
from shared.db import Database
from shared.errors import DependencyUnavailable
from shared.http.caller import Caller
from shared.outbound import Outbound, Reply
from shared.vault import Vault
from shared.webhooks.signing import new_secret, seal_secret

ENDPOINT = "whe_01kaj3v7wvf4fr8mnp5sye2s6k"
PAYLOAD = '{"id":"evt_1","type":"payment_intent.succeeded","note":"für M\u016bkami"}'
VAULT = Vault({"1": SecretStr("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")})
SECRET = new_secret()
SEALED = seal_secret(VAULT, SECRET, ENDPOINT)
CALLER = Caller("req_1", "00-1-1-00")


def delivery(
    number: int, url: str = "https://shop.example/", sealed: str = SEALED
) -> dict[str, Any]:
    """A row of webhooks.claim."""
    return {
        "delivery_id": number,
        "event_id": f"evt_{number}",
        "attempt": 1,
        "endpoint_id": ENDPOINT,
        "url": url,
        "secrets_sealed": [sealed],
        "payload": PAYLOAD,
    }


class FakeDatabase:
    """Gives out what is due and keeps what was recorded; away as often as it is told."""

    def __init__(self, *due: dict[str, Any]) -> None:
        self.due = list(due)
        self.recorded: list[dict[str, Any]] = []
        self.away = 0

    async def call(
        self, function: str, args: Mapping[str, Any], _caller: Caller, **_options: bool
    ) -> Any:
        await asyncio.sleep(0)
        if function == "webhooks.record_attempts":
            if self.away:
                self.away -= 1
                raise DependencyUnavailable("away")
            self.recorded += args["outcomes"]
            return len(args["outcomes"])
        if function == "webhooks.claim":
            given, self.due = self.due[: args["max_rows"]], self.due[args["max_rows"] :]
            return given
        return 0

    @property
    def ids(self) -> list[int]:
        return [outcome["delivery_id"] for outcome in self.recorded]


class FakeOutbound:
    """Answers 200 and keeps what it was given; a URL with `hang` waits for `release`."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, dict[str, str]]] = []
        self.release = asyncio.Event()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        self.sent.append((url, body, dict(headers)))
        if "hang" in url:
            await self.release.wait()
        return Reply(datetime(2026, 11, 21, 8, tzinfo=UTC), 5, status=200, excerpt="ok")


def made(database: FakeDatabase, outbound: FakeOutbound) -> Dispatcher:
    return Dispatcher(cast(Database, database), VAULT, cast(Outbound, outbound))


async def finish(sender: Dispatcher) -> int:
    """Step until nothing is left; how much was recorded."""
    done = 0
    while step := await sender.step():
        done += step
    return done


async def test_what_is_due_is_signed_sent_and_recorded() -> None:
    database, outbound = FakeDatabase(delivery(1), delivery(2)), FakeOutbound()

    assert await finish(made(database, outbound)) == 2

    assert database.ids == [1, 2]
    assert database.recorded[0] == {
        "delivery_id": 1,
        "attempt": 1,
        "started_at": "2026-11-21T08:00:00.000Z",
        "duration_ms": 5,
        "url": "https://shop.example/",
        "status_code": 200,
        "error": None,
        "response_excerpt": "ok",
        "retry_after_s": None,
    }
    _, body, headers = outbound.sent[0]
    assert body == PAYLOAD.encode()
    assert headers["webhook-id"] == "evt_1"
    assert Webhook(SECRET).verify(body, headers)["id"] == "evt_1"


async def test_receiver_that_hangs_holds_up_nobody() -> None:
    others = [delivery(number) for number in range(2, 12)]
    database = FakeDatabase(delivery(1, "https://hang.example/"), *others)
    outbound = FakeOutbound()
    sender = made(database, outbound)

    assert await sender.step() == 10

    assert sorted(database.ids) == list(range(2, 12))
    assert sender.in_flight == 1
    outbound.release.set()
    assert await finish(sender) == 1
    assert sender.in_flight == 0


async def test_poke_is_heard_while_everything_in_the_air_hangs(monkeypatch: Any) -> None:
    monkeypatch.setattr(dispatcher, "LOOK_S", 60.0)
    database, outbound = FakeDatabase(delivery(1, "https://hang.example/")), FakeOutbound()
    sender = made(database, outbound)
    stepping = asyncio.create_task(sender.step())
    while not outbound.sent:
        await asyncio.sleep(0.001)

    database.due.append(delivery(2))
    sender.wake(CALLER)

    assert await asyncio.wait_for(stepping, 5) == 1
    assert database.ids == [2]
    await sender.aclose()


async def test_outcomes_are_kept_while_the_database_is_away(monkeypatch: Any) -> None:
    monkeypatch.setattr(dispatcher, "RETRY_S", 0.001)
    database, outbound = FakeDatabase(delivery(1), delivery(2)), FakeOutbound()
    database.away = 3

    assert await finish(made(database, outbound)) == 2

    assert database.ids == [1, 2]
    assert len(outbound.sent) == 2


async def test_secret_that_does_not_open_is_an_attempt_that_failed_and_sent_nothing() -> None:
    stolen = seal_secret(VAULT, SECRET, "whe_of_somebody_else")
    database, outbound = FakeDatabase(delivery(1, sealed=stolen), delivery(2)), FakeOutbound()

    await finish(made(database, outbound))

    errors = {outcome["delivery_id"]: outcome["error"] for outcome in database.recorded}
    assert errors == {1: "could not be signed", 2: None}
    assert [headers["webhook-id"] for _, _, headers in outbound.sent] == ["evt_2"]


async def test_no_more_is_claimed_than_fits_in_the_air(monkeypatch: Any) -> None:
    monkeypatch.setattr(dispatcher, "IN_FLIGHT", 3)
    hanging = [delivery(number, "https://hang.example/") for number in range(5)]
    database, outbound = FakeDatabase(*hanging), FakeOutbound()
    sender = made(database, outbound)
    stepping = asyncio.create_task(sender.step())
    while len(outbound.sent) < 3:
        await asyncio.sleep(0.001)

    assert (sender.in_flight, len(database.due)) == (3, 2)

    outbound.release.set()
    await stepping
    await finish(sender)
    assert sorted(database.ids) == [0, 1, 2, 3, 4]


async def test_at_the_end_what_was_answered_is_recorded_and_the_rest_given_up() -> None:
    database = FakeDatabase(delivery(1), delivery(2, "https://hang.example/"))
    sender = made(database, FakeOutbound())
    await sender.step()

    await sender.aclose()

    assert database.ids == [1]
