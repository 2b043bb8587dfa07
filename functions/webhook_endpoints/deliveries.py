"""What an endpoint was sent, and sending it again."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query, Request
from fastapi.responses import Response

from functions.webhook_endpoints import models
from functions.webhook_endpoints.endpoints import EndpointId
from shared.db import Answer
from shared.http.caller import ApiCaller, Caller
from shared.http.problem import answers
from shared.http.routes import Router
from shared.ids import pattern

router = Router("webhook deliveries")

EventId = Annotated[
    str,
    Path(
        pattern=pattern("evt"),
        description="The event's id, as in the header `webhook-id`.",
        examples=[models.EVENT_ID],
    ),
]


@router.get(
    "/{endpoint_id}/deliveries",
    responses=answers(models.Deliveries, 400, 401, 403, 404, 429, 503),
)
async def list_webhook_deliveries(
    endpoint_id: EndpointId,
    page: Annotated[models.Page, Query()],
    caller: ApiCaller,
    request: Request,
) -> Response:
    """The deliveries of an endpoint, newest first, page by page."""
    arguments = {
        "endpoint_id": endpoint_id,
        "status": page.status,
        "page_size": page.limit,
        "page_after": page.cursor,
    }
    answer: Answer = await request.app.state.database.answer(
        "webhooks.list_deliveries", arguments, caller, idempotent=True
    )
    return answer.response()


@router.get(
    "/{endpoint_id}/deliveries/{event_id}",
    responses=answers(models.DeliveryDetail, 400, 401, 403, 404, 429, 503),
)
async def get_webhook_delivery(
    endpoint_id: EndpointId, event_id: EventId, caller: ApiCaller, request: Request
) -> Response:
    """One delivery: what was sent, and what every attempt met."""
    return await _about_one("webhooks.get_delivery", endpoint_id, event_id, caller, request)


@router.post(
    "/{endpoint_id}/deliveries/{event_id}/replay",
    status_code=202,
    responses=answers(models.Delivery, 400, 401, 403, 404, 409, 422, 429, 503, status=202),
)
async def replay_webhook_delivery(
    endpoint_id: EndpointId, event_id: EventId, caller: ApiCaller, request: Request
) -> Response:
    """Send one event again: the same id, the same bytes, a signature of now."""
    return await _about_one("webhooks.replay_delivery", endpoint_id, event_id, caller, request)


@router.post(
    "/{endpoint_id}/replay",
    status_code=202,
    responses=answers(models.Replayed, 400, 401, 403, 404, 409, 422, 429, 503, status=202),
)
async def replay_webhook_deliveries(
    endpoint_id: EndpointId, body: models.Replay, caller: ApiCaller, request: Request
) -> Response:
    """Send a span of time again, oldest first: by default what failed or was missed."""
    arguments = {
        "endpoint_id": endpoint_id,
        "from_at": body.from_at.isoformat(),
        "to_at": (body.to_at or datetime.now(UTC)).isoformat(),
        "statuses": body.statuses,
    }
    answer: Answer = await request.app.state.database.answer(
        "webhooks.replay_range", arguments, caller
    )
    return answer.response()


async def _about_one(
    function: str, endpoint_id: str, event_id: str, caller: Caller, request: Request
) -> Response:
    arguments = {"endpoint_id": endpoint_id, "event_id": event_id}
    answer: Answer = await request.app.state.database.answer(function, arguments, caller)
    return answer.response()
