"""python -m scripts.stack.oss --port N --state DIR [--days N]; keys by environment."""

import argparse
import os
from pathlib import Path

import uvicorn

from scripts.stack.oss.app import Endpoint
from scripts.stack.oss.bucket import Bucket


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="oss", description="A local endpoint of Alibaba OSS.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True, help="folder of its objects")
    parser.add_argument("--days", type=int, help="lock a retention policy of so many days")
    arguments = parser.parse_args()
    bucket = Bucket(arguments.state, arguments.days)
    endpoint = Endpoint(
        bucket, os.environ["OSS_ACCESS_KEY_ID"], os.environ["OSS_ACCESS_KEY_SECRET"]
    )
    uvicorn.run(
        endpoint.app(),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
