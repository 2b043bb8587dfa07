"""The entry of a bundle: one function, one process, one event loop.

from shared.http.server import serve

if __name__ == "__main__":
    serve("functions.payment_intents.handler:create", secrets=("VAULT_KEYS",))
"""

import gc
import logging
import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fastapi import FastAPI

    from shared.config import Settings

_GRACE_S: Final = 10  # what is being answered at a stop signal may finish
_KEEPALIVE_S: Final = 65  # longer than the 60 s of the proxies in front, so they close first


def serve(create: "str | Callable[[Settings], FastAPI]", *, secrets: Iterable[str] = ()) -> None:
    """Read the settings, make the app and answer until a stop signal.

    create: the handler's `create`, or "module:name", which starts faster because it is imported
    here. secrets: names from function.toml that must be set. Exits with one sentence per problem
    when a setting is missing.
    """
    # Imports make objects that stay; collecting while they pile up is a seventh of the start.
    gc.disable()
    _load_less()
    from shared.config import ConfigError, Settings

    try:
        settings = Settings.from_environment(secrets)
        app = _resolve(create)(settings)
    except ConfigError as wrong:
        sys.exit("\n".join(wrong.problems))
    gc.freeze()  # what was imported is never garbage, so no collection walks it again
    gc.enable()
    _run(app, settings)


def _load_less() -> None:
    """Leave out what the first answer does not need: a third of the start without it."""
    # Looked for in the metadata of every package; we have none.
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"
    # FastAPI asks of each type whether it is a model of pydantic 1. Without that, none is.
    sys.modules["pydantic.v1"] = None  # type: ignore[assignment]  # as Python documents it
    from pydantic import BaseModel

    # A model is built by whoever uses it first. Those of the OpenAPI document mostly never are.
    BaseModel.model_config["defer_build"] = True


def _resolve(create: "str | Callable[[Settings], FastAPI]") -> "Callable[[Settings], FastAPI]":
    if not isinstance(create, str):
        return create
    module, _, name = create.partition(":")
    resolved: Callable[[Settings], FastAPI] = getattr(import_module(module), name)
    return resolved


def _run(app: "FastAPI", settings: "Settings") -> None:
    import uvicorn

    _report_to_stderr("uvicorn.error")
    uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            access_log=False,  # the frame writes one, by allow-list
            log_config=None,
            server_header=False,
            proxy_headers=False,  # the frame reads X-Forwarded-For, from the right
            timeout_keep_alive=_KEEPALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
    ).run()


def _report_to_stderr(name: str) -> None:
    """The server's own complaints (an address in use), without the text of exceptions."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_without_trace)
    logging.getLogger(name).addHandler(handler)


def _without_trace(record: logging.LogRecord) -> bool:
    # The frame has logged the type and the frames; the text may hold what a caller sent.
    record.exc_info = None
    record.exc_text = None
    return record.levelno >= logging.WARNING
