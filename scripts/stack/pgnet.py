"""The worker of the pg_net stand-in: sends what `net.http_*` queued, as pg_net 0.20 does.

One transaction per batch: delete what expired, take up to 200 requests, run them all at once, store
the answers, commit. So answers appear, and the next batch starts, when the slowest one ended.

Waking: NOTIFY in every business transaction costs most of the throughput, because it takes a global
lock through each commit. So `net.http_*` notifies only while this worker holds the lock that says
it sleeps; awake, it looks again within a second by itself, which is what pg_net does too. Measured
with pgbench, 8 clients queueing one request each on two shared cores, fsync on, worker running:
NOTIFY each time 0.5-0.7 k/s, this 3.4-3.9 k/s, a bare insert without any wake 3.9-8.7 k/s.
"""

import asyncio
import json
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
from psycopg.types.json import Jsonb

BATCH = 200  # pg_net.batch_size
TTL = "6 hours"  # pg_net.ttl
RECHECK_S = 1.0  # how long it stays awake after work
BUSY_S = 0.05  # before trying again to sleep while somebody is about to commit a request
ASLEEP = "7310, 1"  # the advisory lock named in sql/net.sql
AGENT = "pg_net/0.20.4"

Session = psycopg.AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Queued:
    """One row of net.http_request_queue."""

    request_id: int
    method: str
    url: str
    headers: dict[str, str] | None
    body: bytes | None
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class Answered:
    """One row of net._http_response."""

    status: int | None = None
    content_type: str | None = None
    headers: dict[str, str] | None = None
    content: str | None = None
    timed_out: bool | None = None
    error: str | None = None


async def work(conninfo: str) -> None:
    """Serve one database for ever. Any database error ends it; the supervisor starts it again."""
    session: Session = await psycopg.AsyncConnection.connect(
        conninfo, autocommit=True, application_name="pg_net worker"
    )
    limits = httpx.Limits(max_connections=BATCH)
    async with (
        session,
        # Each request has its own total time, measured by asyncio.
        httpx.AsyncClient(
            follow_redirects=True,
            timeout=httpx.Timeout(None),
            limits=limits,
            trust_env=False,
        ) as client,
    ):
        await session.execute("listen pg_net_wake")
        print(f"serving {session.info.dbname}", flush=True)
        while True:
            if await send_batch(session, client):
                await _woken(session, RECHECK_S)
            else:
                await _sleep(session, client)


async def send_batch(session: Session, client: httpx.AsyncClient) -> bool:
    """One batch; whether there was anything to do."""
    async with session.transaction():
        expired = await session.execute(
            "delete from net._http_response where ctid = any(array(select ctid from "
            "net._http_response where created < now() - %s::interval limit %s))",
            (TTL, BATCH),
        )
        taken = await session.execute(
            "delete from net.http_request_queue where id = any(array(select id from "
            "net.http_request_queue order by id limit %s)) "
            "returning id, method::text, url, headers, body, timeout_milliseconds",
            (BATCH,),
        )
        requests = [Queued(*row) for row in await taken.fetchall()]
        answers = await asyncio.gather(*(send(client, request) for request in requests))
        async with session.cursor() as cursor:
            await cursor.executemany(
                "insert into net._http_response (id, status_code, content_type, headers, "
                "content, timed_out, error_msg) values (%s, %s, %s, %s, %s, %s, %s)",
                [_row(*pair) for pair in zip(requests, answers, strict=True)],
            )
    return bool(requests) or expired.rowcount > 0


async def send(client: httpx.AsyncClient, request: Queued) -> Answered:
    """One request. Every failure becomes the text pg_net stores for it."""
    started = time.perf_counter()
    headers = {"User-Agent": AGENT} | (request.headers or {})
    try:
        async with asyncio.timeout(request.timeout_ms / 1000):
            answer = await client.request(
                request.method.upper(), request.url, headers=headers, content=request.body
            )
    except TimeoutError:
        took_ms = (time.perf_counter() - started) * 1000
        words = f"Timeout of {request.timeout_ms} ms reached. Total time: {took_ms:.6f} ms"
        return Answered(timed_out=True, error=words)
    except (httpx.HTTPError, httpx.InvalidURL) as failure:
        return Answered(error=_failure_text(failure))
    # libpq would refuse a NUL; pg_net cuts the text there.
    content = answer.content.split(b"\0", 1)[0].decode(errors="replace")
    kind = answer.headers.get("content-type")
    return Answered(answer.status_code, kind, dict(answer.headers), content, timed_out=False)


def _failure_text(failure: Exception) -> str:
    if isinstance(failure, httpx.ConnectError):
        unresolved = any(isinstance(cause, socket.gaierror) for cause in _causes(failure))
        return "Couldn't resolve host name" if unresolved else "Couldn't connect to server"
    if isinstance(failure, httpx.UnsupportedProtocol):
        return "Unsupported protocol"
    if isinstance(failure, httpx.TooManyRedirects):
        return "Number of redirects hit maximum amount"
    if isinstance(failure, httpx.RemoteProtocolError | httpx.ReadError):
        return "Server returned nothing (no headers, no data)"
    return str(failure) or type(failure).__name__


def _causes(error: BaseException) -> list[BaseException]:
    below = error.__cause__ or error.__context__
    return [error, *(_causes(below) if below else [])]


def _row(request: Queued, answer: Answered) -> tuple[object, ...]:
    return (
        request.request_id,
        answer.status,
        answer.content_type,
        Jsonb(answer.headers, dumps=json.dumps) if answer.headers is not None else None,
        answer.content,
        answer.timed_out,
        answer.error,
    )


async def _sleep(session: Session, client: httpx.AsyncClient) -> None:
    """Wait for a wake-up. Whoever saw us awake has committed before we hold the lock."""
    held = await session.execute(f"select pg_try_advisory_lock({ASLEEP})")
    if await held.fetchone() != (True,):
        await _woken(session, BUSY_S)
        return
    if not await send_batch(session, client):
        await _woken(session, None)
    await session.execute(f"select pg_advisory_unlock({ASLEEP})")


async def _woken(session: Session, timeout_s: float | None) -> None:
    async for _wake in session.notifies(timeout=timeout_s, stop_after=1):
        return


def main() -> int:
    """Serve the database named on the command line; exit code 1 when it goes away."""
    try:
        asyncio.run(work(sys.argv[1]))
    except psycopg.OperationalError as lost:
        print(str(lost).splitlines()[0], flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
