"""NATS JetStream behind the port of the relay: subject per aggregate, acknowledged publication."""

import asyncio
from typing import TYPE_CHECKING, Final

from functions.relay.port import LogUnavailable, Record, RecordRefused
from shared import log

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js import JetStreamContext

STREAM: Final = "STALELA_EVENTS"
SUBJECTS: Final = "stalela.*.*"
DUPLICATE_WINDOW_S: Final = 2 * 3600.0  # longer than the lease and the first rungs of the ladder
_CONNECT_S: Final = 2.0
_ACK_S: Final = 5.0


class JetStream:
    """One connection, made anew after it broke.

    A client that reconnects by itself keeps a backlog, and sends it late and in nobody's order.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None

    async def open(self) -> None:
        if self._client is not None and self._client.is_connected:
            return
        await self.aclose()
        import nats
        from nats.errors import Error

        try:
            async with asyncio.timeout(_CONNECT_S):
                self._client = await nats.connect(
                    self._url,
                    name="stalela relay",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,  # of the first connection; none would be no end
                    reconnect_time_wait=0,
                    error_cb=_report,
                )
                self._stream = self._client.jetstream(timeout=_ACK_S)
                await self._have_stream()
        except (Error, OSError, TimeoutError) as away:
            await self.aclose()
            raise LogUnavailable(type(away).__name__) from away

    async def append(self, record: Record) -> None:
        from nats.errors import Error, MaxPayloadError
        from nats.js.errors import APIError

        assert self._stream is not None, "open comes first"
        try:
            await self._stream.publish(
                f"stalela.{record.environment}.{record.aggregate}",
                record.body,
                stream=STREAM,
                headers={**record.headers, "Nats-Msg-Id": record.event_id},
            )
        except (MaxPayloadError, APIError) as refused:
            raise RecordRefused(f"{type(refused).__name__}: {refused}") from refused
        except (Error, OSError, TimeoutError) as away:
            raise LogUnavailable(type(away).__name__) from away

    async def aclose(self) -> None:
        client, self._client, self._stream = self._client, None, None
        if client is not None:
            await client.close()

    async def _have_stream(self) -> None:
        from nats.js.api import StreamConfig
        from nats.js.errors import NotFoundError

        assert self._stream is not None, "made with the connection"
        try:
            await self._stream.stream_info(STREAM)
        except NotFoundError:
            await self._stream.add_stream(
                StreamConfig(name=STREAM, subjects=[SUBJECTS], duplicate_window=DUPLICATE_WINDOW_S)
            )
            log.event("relay_stream_made")


async def _report(error: Exception) -> None:
    log.warning("relay_connection_failed", reason=type(error).__name__)
