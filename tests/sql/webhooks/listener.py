"""A merchant who hears of events, and the dispatcher, reduced to their SQL calls."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

from tests.sql.payments.shop import Answer, Shop, new_key
from tests.support.sql import Api, Row

ENDPOINTS = "fn_webhook_endpoints"
DISPATCHER = "fn_webhook_delivery"
EVENTS = "fn_events"
ALL = 1000


@dataclass(frozen=True)
class Listener:
    """A shop with webhook endpoints."""

    shop: Shop

    def call(self, function: str, /, **arguments: Any) -> Answer:
        """One call by the webhook_endpoints function for this shop."""
        headers = self.shop.headers
        return Answer.of(self.shop.api.call(ENDPOINTS, headers, function, **arguments))

    def endpoint(self, *event_types: str, url: str = "https://shop.example/hooks") -> str:
        """The id of a new endpoint; without event types it wants all."""
        endpoint_id = new_endpoint_id()
        self.call(
            "webhooks.create_endpoint",
            idempotency_key=new_key(),
            body_hash="body",
            endpoint_id=endpoint_id,
            url=url,
            event_types=list(event_types or "*"),
            description=None,
            secret_sealed="sealed",
            key_version=1,
        )
        return endpoint_id

    def get(self, endpoint_id: str) -> Row:
        """GET /webhook-endpoints/{id}."""
        return self.call("webhooks.get_endpoint", endpoint_id=endpoint_id).body

    def deliveries(self, endpoint_id: str, status: str | None = None) -> list[Row]:
        """GET …/deliveries, oldest first."""
        page = self.call(
            "webhooks.list_deliveries",
            endpoint_id=endpoint_id,
            status=status,
            page_size=100,
            page_after=None,
        )
        return list(reversed(page.body["data"]))

    def delivery(self, endpoint_id: str, event_id: str) -> Row:
        """GET …/deliveries/{event_id}."""
        return self.call("webhooks.get_delivery", endpoint_id=endpoint_id, event_id=event_id).body

    def events(
        self, after: str | None = None, limit: int = 100, types: list[str] | None = None
    ) -> Row:
        """GET /events."""
        found = self.shop.api.call(
            EVENTS,
            self.shop.headers,
            "webhooks.list_events",
            after_event=after,
            types=types,
            page_size=limit,
        )
        return dict(json.loads(found["body"]))


def fan_out(api: Api, max_rows: int = ALL) -> int:
    """Take what the outbox holds."""
    return int(api.call(DISPATCHER, {}, "webhooks.fan_out", max_rows=max_rows))


def claim(api: Api, max_rows: int = ALL) -> list[Row]:
    """What may be sent now."""
    return api.call_set(DISPATCHER, {}, "webhooks.claim", max_rows=max_rows)


def record(api: Api, *outcomes: Row) -> int:
    """What became of it."""
    return int(api.call(DISPATCHER, {}, "webhooks.record_attempts", outcomes=list(outcomes)))


def met(delivery: Row, status_code: int | None = 200, **more: Any) -> Row:
    """The outcome of sending `delivery`."""
    return {
        "delivery_id": delivery["delivery_id"],
        "attempt": delivery["attempt"],
        "started_at": "2026-11-21T08:00:00Z",
        "duration_ms": 12,
        "url": delivery["url"],
        "status_code": status_code,
        "error": None if status_code else "timeout",
        "response_excerpt": "ok",
        "retry_after_s": None,
    } | more


def new_endpoint_id() -> str:
    """As shared.ids makes them."""
    return f"whe_0{uuid.uuid4().hex[:25]}"
