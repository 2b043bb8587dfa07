"""Runs the simulator: python3 -m scripts.stack.etims --port 54330."""

import argparse
from pathlib import Path

import uvicorn

from scripts.stack.etims.app import create
from scripts.stack.etims.kra import Kra


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="etims", description="The KRA eTIMS (OSCU) simulator.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder of its books")
    arguments = parser.parse_args()
    uvicorn.run(
        create(Kra(arguments.state)),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
