"""A KMS of its own for a test, and how a test changes its mood."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scripts.stack.daraja.testing import PATIENCE_S, free_port
from scripts.stack.simulators import client_of

ROOT = Path(__file__).parents[3]
ACCESS_KEY_ID = "LTAI5tStalelaTests"
ACCESS_KEY_SECRET = "invented-for-the-tests-only"  # noqa: S105


@dataclass
class Kms:
    """A running service: its address, its control API, the process it runs in."""

    url: str
    http: httpx.Client
    process: subprocess.Popen[bytes]

    @property
    def settings(self) -> dict[str, str]:
        """What a function must be told to sign here, but for the key."""
        return {
            "fiscal_signing_provider": "alibaba_kms",
            "kms_endpoint": self.url,
            "kms_access_key_id": ACCESS_KEY_ID,
            "kms_access_key_secret": ACCESS_KEY_SECRET,
        }

    def new_key(self, spec: str = "EC_P256") -> str:
        """The id of a key that was not there before."""
        made = self.http.post("/control/keys", json={"spec": spec}).raise_for_status()
        return str(made.json()["key_id"])

    def mood(self, trouble: str = "none", **more: Any) -> None:
        """How it behaves from now on."""
        self.http.post("/control/mood", json={"trouble": trouble, **more}).raise_for_status()

    def calls(self, action: str) -> int:
        """How often an action was asked for."""
        return int(self.http.get("/control/calls").raise_for_status().json().get(action, 0))

    def down(self) -> None:
        """Stop the process without a word: nothing is answered, connections hang."""
        self.process.send_signal(signal.SIGSTOP)

    def up(self) -> None:
        """Let it go on where it stopped."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def keeping_keys() -> Iterator[Kms]:
    """A service process on a free port, ready to serve; stopped when the block ends."""
    port = free_port()
    command = [sys.executable, "-W", "error", "-m", "scripts.stack.kms", "--port", str(port)]
    environment = os.environ | {
        "KMS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "KMS_ACCESS_KEY_SECRET": ACCESS_KEY_SECRET,
    }
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command, cwd=ROOT, env=environment)
    try:
        with client_of(url) as client:
            yield Kms(url, client, process)
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(PATIENCE_S)
