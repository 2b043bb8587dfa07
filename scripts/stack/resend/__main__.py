"""python -m scripts.stack.resend --port N --state DIR --webhook URL; secrets by environment."""

import argparse
import os
from pathlib import Path

import uvicorn

from scripts.stack.resend.app import create
from scripts.stack.resend.world import World


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="resend", description="The Resend (e-mail) simulator.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder of its mail")
    parser.add_argument("--webhook", default="", help="URL that hears what became of each mail")
    arguments = parser.parse_args()
    world = World(
        arguments.state,
        os.environ["RESEND_API_KEY"],
        arguments.webhook,
        os.environ["RESEND_WEBHOOK_SECRET"],
    )
    config = uvicorn.Config(
        create(world),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    world.is_stopping = lambda: server.should_exit
    server.run()


if __name__ == "__main__":
    main()
