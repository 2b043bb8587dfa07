"""python -m scripts.stack.daraja --port N --state DIR [--seed N] [--host ADDRESS]."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

import uvicorn
import uvloop

from scripts.stack.daraja.app import create
from scripts.stack.daraja.edge import EdgeProtocol
from scripts.stack.daraja.journal import say
from scripts.stack.daraja.world import build

LAST_ANSWERS_S = 0.05  # between the decision to restart and the restart


def main() -> None:
    """Reads the command line and serves until it is told to stop."""
    parser = argparse.ArgumentParser(prog="daraja", description="The Daraja (M-Pesa) simulator.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder of its books")
    parser.add_argument("--seed", type=int, default=1, help="of every choice left to chance")
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    uvloop.run(_serve(arguments))


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()

    def restart() -> None:
        loop.call_later(LAST_ANSWERS_S, _become_new)

    world = build(arguments.state, arguments.seed, lambda: server.should_exit, restart)
    config = uvicorn.Config(
        create(world),
        host=arguments.host,
        port=arguments.port,
        http=EdgeProtocol,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)
    say("daraja_simulator_started", url=f"http://{arguments.host}:{arguments.port}/")
    await server.serve()


def _become_new() -> None:
    """The same process id with nothing left in memory, as after a crash: only the books survive."""
    say("daraja_simulator_restarting")
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - ourselves, with our own arguments


if __name__ == "__main__":
    main()
