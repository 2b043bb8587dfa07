"""python -m scripts.stack.emcf --port N --state DIR."""

import argparse
from pathlib import Path

import uvicorn

from scripts.stack.emcf.app import World, create


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="emcf", description="The simulator of the DGI's e-MCF.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder of its books")
    arguments = parser.parse_args()
    uvicorn.run(
        create(World(arguments.state)),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
