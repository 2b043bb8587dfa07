"""python -m scripts.stack.kms --port N; the account's access key by environment."""

import argparse
import os

import uvicorn

from scripts.stack.kms.app import Service, create


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="kms", description="Alibaba Cloud KMS, locally.")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    service = Service({os.environ["KMS_ACCESS_KEY_ID"]: os.environ["KMS_ACCESS_KEY_SECRET"]})
    uvicorn.run(
        create(service),
        host="127.0.0.1",
        port=arguments.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,  # a silent answer never comes
    )


if __name__ == "__main__":
    main()
