"""How a test starts a simulator of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from scripts.stack.daraja.testing import PATIENCE_S, free_port, until
from scripts.stack.places import ROOT


@contextmanager
def process_of(name: str, state: Path, *arguments: str, **environment: str) -> Iterator[int]:
    """The free port of a simulator, maybe not ready yet; stopped when the block ends."""
    port = free_port()
    command = [sys.executable, "-W", "error", "-m", f"scripts.stack.{name}"]
    command += ["--port", str(port), "--state", str(state), *arguments]
    state.mkdir(parents=True, exist_ok=True)
    with (state / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=log, stderr=log
        )
        try:
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@contextmanager
def client_of(url: str, **options: Any) -> Iterator[httpx.Client]:
    """Speaks to a simulator, once it is ready."""
    with httpx.Client(base_url=url, timeout=15, trust_env=False, **options) as client:
        until(lambda: _answers(client))
        yield client


def _answers(client: httpx.Client) -> str | bool:
    try:
        return client.get("/control/health").is_success and "yes"
    except httpx.TransportError:
        return False
