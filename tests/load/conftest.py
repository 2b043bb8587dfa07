"""A stack of their own for the load tests: they change what its simulator does."""

from collections.abc import Iterator

import pytest

from scripts.benchmarks.place import GATEWAY, Place, furnished
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block, session_state
from tests.support.clusters import start


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """A running stack without fsync, with fifty merchants, and payment_intents by itself."""
    with session_state("load") as state, (state / "log").open("w", buffering=1) as log:
        stack = Stack(
            state=state,
            port=free_block(),
            fsync=False,
            functions=GATEWAY,
            log=lambda child, line: print(f"{child} | {line}", file=log),
        )
        try:
            with furnished(start(stack)) as made:
                yield made
        finally:
            stack.stop()
            stack.erase()
