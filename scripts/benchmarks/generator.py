"""The load generator's process: python -m scripts.benchmarks.generator load|callbacks < order."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import count, cycle
from time import monotonic, perf_counter, process_time
from uuid import uuid4

import uvloop

from scripts.benchmarks.load import KEY, Load, News, Outcome, Seen
from scripts.benchmarks.wire import Answer, Connection

PAUSE_S = 0.01  # between two looks at an intent


class Pace:
    """When the next is due: `per_s` a second, however late the answers are; None: at once."""

    def __init__(self, per_s: float | None) -> None:
        self.per_s, self.began, self.turns = per_s, perf_counter(), count()

    async def turn(self) -> float:
        """Wait until the next is due; when it was, so that a late start counts."""
        if self.per_s is None:
            return perf_counter()
        due = self.began + next(self.turns) / self.per_s
        await asyncio.sleep(max(0.0, due - perf_counter()))
        return due


class Senders:
    """The clients of one load."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.capture = re.compile(load.capture.encode()) if load.capture else None
        self.outcome = Outcome(0.0, 0.0, {}, [])
        self.requests = self._requests()

    async def run(self) -> Outcome:
        clients = [await Connection.open(self.load.port) for _ in range(self.load.clients)]
        began, cpu = perf_counter(), process_time()
        pace = Pace(self.load.per_s)
        await asyncio.gather(*(self._client(client, pace) for client in clients))
        return replace(self.outcome, seconds=perf_counter() - began, cpu_s=process_time() - cpu)

    def _requests(self) -> Iterator[bytes]:
        raw = [text.encode("latin-1") for text in self.load.requests]
        deadline = monotonic() + (self.load.seconds or 0)
        # One random start, then counting: cheaper than a random key for each request.
        start, placeholder = uuid4().hex[:20], KEY.encode()
        for number, sent in enumerate(raw if self.load.seconds is None else cycle(raw)):
            if self.load.seconds is not None and monotonic() > deadline:
                return
            yield sent.replace(placeholder, f"{start}{number:0{len(KEY) - 20}d}".encode())

    async def _client(self, connection: Connection, pace: Pace) -> None:
        outcome = self.outcome
        for sent in self.requests:
            began = await pace.turn()
            answer = await connection.ask(sent)
            outcome.latencies_ms.append((perf_counter() - began) * 1000)
            outcome.rail_ms.append(answer.rail_ms)
            outcome.server_ms.append(answer.server_ms)
            outcome.statuses[str(answer.status)] = outcome.statuses.get(str(answer.status), 0) + 1
            self._keep(answer)
        connection.close()

    def _keep(self, answer: Answer) -> None:
        if self.capture and (found := self.capture.search(answer.body)):
            self.outcome.captured.append(found.group(1).decode())


class Watchers:
    """Deliver callbacks; look at each intent until it shows the money."""

    def __init__(self, news: News) -> None:
        self.news = news
        self.left = iter(news.payments)
        self.seen = Seen()

    async def run(self) -> Seen:
        await asyncio.gather(*(self._payer() for _ in range(self.news.clients)))
        return self.seen

    async def _payer(self) -> None:
        deliver = await Connection.open(self.news.callback_port)
        look = await Connection.open(self.news.intent_port)
        for callback, intent in self.left:
            began = perf_counter()
            seen = asyncio.create_task(self._see(look, intent.encode(), began))
            answer = await deliver.ask(callback.encode())
            self.seen.answered_ms.append((perf_counter() - began) * 1000)
            self.seen.refused += answer.status != 200
            await seen
        deliver.close()
        look.close()

    async def _see(self, look: Connection, intent: bytes, began: float) -> None:
        async with asyncio.timeout(30):
            while b'"status":"succeeded"' not in (await look.ask(intent)).body:
                await asyncio.sleep(PAUSE_S)
        self.seen.visible_ms.append((perf_counter() - began) * 1000)


def main() -> None:
    """Read the order, do it, print what happened as JSON."""
    order = json.load(sys.stdin)
    outcome: Outcome | Seen
    if sys.argv[1] == "load":
        outcome = uvloop.run(Senders(Load(**order)).run())
    else:
        outcome = uvloop.run(Watchers(News(**order)).run())
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
