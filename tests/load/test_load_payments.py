"""A short load on creating, confirming and calling back.

Budgets leave room for a busy machine; ./scripts/bench prints the figures of a quiet one.
"""

import pytest

from functions.payment_intents.models import CreatePaymentIntent
from scripts.benchmarks.callbacks import news
from scripts.benchmarks.intents import (
    CLIENTS,
    ORDER,
    Measured,
    Payers,
    confirm_load,
    create_requests,
    measure,
)
from scripts.benchmarks.load import Load, Outcome, Seen, deliver, percentile, send
from scripts.benchmarks.place import Place
from scripts.benchmarks.recorder import record_create

pytestmark = pytest.mark.alone

SECONDS, CONFIRMS, CALLBACKS = 1.5, 120, 80

CREATE_CPU_MS, CONFIRM_CPU_MS = 3.5, 9.0
CREATE_P99_MS, CONFIRM_P99_MS = 500.0, 2000.0
SHARE_OF_DATA_API = 0.2
ANSWERED_P99_MS, VISIBLE_P99_MS = 400.0, 500.0


@pytest.fixture(scope="module")
def data_api_alone(place: Place) -> Outcome:
    body = CreatePaymentIntent.model_validate(ORDER)
    recorded = [record_create(place.stack, shop, body) for shop in place.shops]
    return send(Load(place.stack.ports.postgrest, CLIENTS, recorded, SECONDS), expect=200)


@pytest.fixture(scope="module")
def creates(place: Place) -> Measured:
    requests = create_requests(place)
    send(Load(place.intents.port, CLIENTS, requests, 0.3), expect=201)
    return measure(place, Load(place.intents.port, CLIENTS, requests, SECONDS), expect=201)


@pytest.fixture(scope="module")
def confirms(place: Place) -> Measured:
    place.daraja(mode="auto", auto_delay_s=0.5)
    payers = Payers()
    send(confirm_load(place, payers, CLIENTS), expect=200)
    return measure(place, confirm_load(place, payers, CONFIRMS), expect=200)


@pytest.fixture(scope="module")
def callbacks(place: Place) -> Seen:
    return deliver(news(place, Payers(first=200_000), CALLBACKS))


def test_create_calls_the_data_api_once(creates: Measured) -> None:
    assert creates.calls == 1


def test_confirm_calls_the_data_api_twice(confirms: Measured) -> None:
    assert confirms.calls == 2


def test_create_spends_little_cpu_in_the_handler(creates: Measured) -> None:
    assert creates.cpu_ms < CREATE_CPU_MS


def test_confirm_spends_little_cpu_in_the_handler(confirms: Measured) -> None:
    assert confirms.cpu_ms < CONFIRM_CPU_MS


def test_create_reaches_a_good_share_of_what_the_data_api_alone_does(
    data_api_alone: Outcome, creates: Measured
) -> None:
    assert creates.outcome.per_s >= SHARE_OF_DATA_API * data_api_alone.per_s


def test_create_answers_in_time_at_sixteen_clients(creates: Measured) -> None:
    assert creates.outcome.percentile(0.99) < CREATE_P99_MS


def test_confirm_answers_in_time_at_sixteen_clients(confirms: Measured) -> None:
    assert confirms.outcome.percentile(0.99) < CONFIRM_P99_MS


def test_callback_is_answered_in_time(callbacks: Seen) -> None:
    assert percentile(callbacks.answered_ms, 0.99) < ANSWERED_P99_MS


def test_payment_is_visible_soon_after_its_callback(callbacks: Seen) -> None:
    assert percentile(callbacks.visible_ms, 0.99) < VISIBLE_P99_MS
