"""Where a bench runs: a stack with shops, and payment_intents alone in a process, as deployed."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from scripts.benchmarks.shop import Merchant, open_shops
from scripts.bundling.image import entry_point
from scripts.bundling.manifest import Manifest, read_manifest
from scripts.bundling.tree import read_tree
from scripts.stack.process import Child, wait_until
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block

INTENTS: Final = "payment_intents"  # runs by itself
GATEWAY: Final = ("merchants", "momo_callback", "reconcile")  # so the stack's gateway has these


@dataclass(frozen=True, slots=True)
class Function:
    """A function in a process of its own, listening on `port`."""

    child: Child
    port: int

    @property
    def pid(self) -> int:
        pid = self.child.pid
        assert pid is not None, f"{self.child.name} runs"
        return pid

    def data_api_calls(self) -> int:
        """How many it has made, from /metrics."""
        lines = _get(self.port, "/metrics").text.splitlines()
        counts = [line for line in lines if line.startswith("stalela_data_api_calls_total")]
        return sum(int(float(line.rpartition(" ")[2])) for line in counts)


@dataclass(frozen=True, slots=True)
class Place:
    """The running stack, the merchants in it, and the function under measurement."""

    stack: Stack
    shops: list[Merchant]
    intents: Function

    def daraja(self, **settings: object) -> None:
        """Change settings of the simulator."""
        url = f"{self.stack.daraja_url}/control/settings"
        httpx.post(url, json=settings, trust_env=False).raise_for_status()


@contextmanager
def furnished(stack: Stack) -> Iterator[Place]:
    """A running `stack` with shops and the function, which ends with the block."""
    with stack.database.connect() as connection:
        shops = open_shops(connection, stack.keys)
    with alone(stack, INTENTS) as intents:
        yield Place(stack, shops, intents)


@contextmanager
def alone(stack: Stack, name: str, **more: str) -> Iterator[Function]:
    """Run a function by itself against `stack`, with its bundle's entry point and settings.

    more: settings of its own, by their names in the environment.
    """
    manifest = read_manifest(read_tree(), name)
    port = free_block()
    command = [sys.executable, "-c", entry_point(manifest)]
    child = Child(
        name,
        command,
        log=lambda _name, _line: None,
        env=stack.env
        | settings_of(stack, manifest)
        | more
        | {"HOST": "127.0.0.1", "PORT": str(port)},
    )
    child.start()
    try:
        wait_until_ready(name, port)
        yield Function(child, port)
    finally:
        child.stop()


def settings_of(stack: Stack, manifest: Manifest) -> dict[str, str]:
    """What its environment must hold; the limits per address are off, for all comes from one."""
    return {
        "FUNCTION_NAME": manifest.name,
        "DATA_API_URL": stack.data_api_url,
        "DATA_API_TOKEN": stack.role_token(manifest.db_role),
        "SUPABASE_URL": stack.url,
        "FUNCTIONS_URL": stack.functions_url,
        "DARAJA_SANDBOX_URL": stack.daraja_url,
        "VAULT_KEYS": json.dumps(stack.keys["vault_keys"]),
        "INTERNAL_TOKENS": json.dumps([stack.keys["internal_token"]]),
        "IP_REQUESTS_PER_S": "0",
        "GLOBAL_REQUESTS_PER_S": "0",
    }


def wait_until_ready(name: str, port: int) -> None:
    """Until it would be sent requests: how long that takes is a figure of its own (starts)."""
    wait_until(name, lambda: _is_ready(port))


def _is_ready(port: int) -> bool:
    try:
        return _get(port, "/readyz").is_success
    except httpx.TransportError:
        return False


def _get(port: int, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False, timeout=5)
