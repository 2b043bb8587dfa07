"""CORS for the stand-ins of the platform: any page may call, with the headers its clients send."""

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": (
        "authorization, x-client-info, apikey, content-type, prefer, range, accept-profile, "
        "content-profile, x-retry-count, x-supabase-api-version, traceparent, tracestate, baggage"
    ),
    "Access-Control-Expose-Headers": "content-range, content-location, location, x-request-id",
    "Access-Control-Max-Age": "3600",
}


class Cors:
    """Answers OPTIONS, adds the headers to every other answer, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            await Response(status_code=204, headers=HEADERS)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)
