"""python -m scripts.stack.fdms --port N --state DIR."""

import argparse
from pathlib import Path

from aiohttp import web

from scripts.stack.fdms.app import create
from scripts.stack.fdms.world import World


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="fdms", description="The FDMS (ZIMRA) simulator.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder of its books and keys")
    arguments = parser.parse_args()
    world = World(arguments.state)
    try:
        web.run_app(
            create(world),
            host="127.0.0.1",
            port=arguments.port,
            ssl_context=world.authority.tls(),
            access_log=None,
            print=None,
            shutdown_timeout=2,
        )
    finally:
        world.books.close()


if __name__ == "__main__":
    main()
