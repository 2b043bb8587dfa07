"""shared/http/metrics.py: what a scrape reads."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.http.metrics import Metrics, count_data_api_call, count_rail_call
from tests.unit.shared.http.kit import KEY, client_of, make_app


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_requests_are_counted_by_template_and_status() -> None:
    async with client_of(make_app()) as client:
        await client.get("/fail/state")
        await client.get("/fail/rail")
        await client.get("/nowhere/at/all")
        text = (await client.get("/metrics")).text

    found = samples(text)
    assert (
        found[
            "stalela_requests_total", "function=payment_intents", "route=/fail/{how}", "status=409"
        ]
        == 1
    )
    assert (
        found[
            "stalela_requests_total", "function=payment_intents", "route=/fail/{how}", "status=503"
        ]
        == 1
    )
    assert (
        found["stalela_requests_total", "function=payment_intents", "route=unmatched", "status=404"]
        == 1
    )
    assert "/fail/state" not in text


def test_durations_fall_into_cumulative_buckets() -> None:
    metrics = Metrics("reconcile")
    metrics.request_answered("/", 200, 0.05)
    metrics.request_answered("/", 200, 0.051)
    metrics.request_answered("/", 200, 60.0)

    found = samples(metrics.render()[0].decode())
    name, labels = "stalela_request_duration_seconds", ("function=reconcile",)
    buckets = [found[f"{name}_bucket", *labels, f"le={le}", "route=/"] for le in LE]
    assert buckets == [0, 1, 2, 2, 3]
    assert found[f"{name}_count", *labels, "route=/"] == 3
    assert found[f"{name}_sum", *labels, "route=/"] == pytest.approx(60.101)


LE = ("0.025", "0.05", "0.1", "10.0", "+Inf")


def test_outside_calls_are_counted_by_outcome() -> None:
    metrics = Metrics("reconcile")
    metrics.activate()
    count_data_api_call("payments.record_query", "ok")
    count_rail_call("mpesa", "query", "pending")
    count_rail_call("mpesa", "query", "pending")

    found = samples(metrics.render()[0].decode())
    assert (
        found[
            "stalela_data_api_calls_total",
            "function=reconcile",
            "outcome=ok",
            "rpc=payments.record_query",
        ]
        == 1
    )
    assert (
        found[
            "stalela_rail_calls_total",
            "function=reconcile",
            "operation=query",
            "outcome=pending",
            "rail=mpesa",
        ]
        == 2
    )


async def test_apps_of_one_process_count_apart() -> None:
    one, two = make_app(), make_app(function_name="merchants")

    async with client_of(one) as first, client_of(two) as second:
        await first.get("/", headers=KEY)
        text = (await second.get("/metrics")).text

    assert "payment_intents" not in text


async def test_metrics_take_the_platforms_token_anywhere_but_locally() -> None:
    async with client_of(make_app(environment_name="production")) as client:
        refused = await client.get("/metrics")
        allowed = await client.get("/metrics", headers={"authorization": "Bearer inside-two"})

    assert (refused.status_code, allowed.status_code) == (401, 200)
