"""A real nats-server of a test, and a reader of what it was given."""

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats

from scripts.stack.daraja.testing import free_port
from scripts.stack.install import NATS_SERVER
from tests.support.simulator import PATIENCE_S, until


@dataclass
class Nats:
    """A server whose store outlives its process."""

    port: int
    store: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [str(NATS_SERVER), "-js", "-a", "127.0.0.1", "-p", str(self.port)]
        with (self.store / "log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603  arguments of our own
                [*command, "-sd", str(self.store)], stdout=log, stderr=log
            )
        until(self._answers, "nats-server")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
            self.process = None

    def _answers(self) -> bool | None:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0 or None

    def messages(self, subject: str = "stalela.>") -> list[Any]:
        """All messages of the stream, in its order; [] before there is a stream."""
        return asyncio.run(self._messages(subject))

    async def _messages(self, subject: str) -> list[Any]:
        client = await nats.connect(self.url)
        try:
            stream = client.jetstream()
            try:
                state = (await stream.stream_info("STALELA_EVENTS")).state
            except nats.js.errors.NotFoundError:
                return []
            found = []
            reader = await stream.subscribe(subject, ordered_consumer=True)
            while not found or found[-1].metadata.num_pending:
                if not state.messages:
                    break
                found.append(await reader.next_msg(timeout=PATIENCE_S))
            return found
        finally:
            await client.close()

    def configure(self, **changes: Any) -> None:
        """Change the stream's configuration, as its operator may."""
        asyncio.run(self._configure(changes))

    async def _configure(self, changes: dict[str, Any]) -> None:
        client = await nats.connect(self.url)
        try:
            stream = client.jetstream()
            config = (await stream.stream_info("STALELA_EVENTS")).config
            await stream.update_stream(config.evolve(**changes))
        finally:
            await client.close()


@contextmanager
def nats_server(store: Path) -> Iterator[Nats]:
    """A server with JetStream on a free port, gone after the block."""
    store.mkdir(parents=True, exist_ok=True)
    server = Nats(free_port(), store)
    server.start()
    try:
        yield server
    finally:
        server.stop()
