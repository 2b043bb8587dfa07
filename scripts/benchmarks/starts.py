"""Each bundle alone: how soon it answers, how much memory a thousand requests leave it with."""

import tempfile
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Final

from scripts.benchmarks.intents import create_requests
from scripts.benchmarks.load import Load, send
from scripts.benchmarks.place import Place, settings_of
from scripts.benchmarks.rounds import Rounds
from scripts.benchmarks.table import Figure, Target, figure
from scripts.benchmarks.wire import request
from scripts.bundling.alone import Installed, install, started
from scripts.bundling.build import make_bundle
from scripts.bundling.manifest import Manifest
from scripts.bundling.tree import functions_of, read_tree

REQUESTS: Final = 1000


def measure_starts(place: Place, rounds: Rounds, starts: int) -> list[Figure]:
    """Bundles as they are shipped: locked packages only, compiled beforehand."""
    figures: list[Figure] = []
    for name in functions_of(read_tree()):
        with tempfile.TemporaryDirectory() as folder:
            bundle = make_bundle(read_tree(), name)
            bundle.write(Path(folder) / "bundle")
            installed = install(Path(folder) / "bundle", Path(folder) / "alone")
            figures += _figures(place, rounds, starts, bundle.manifest, installed)
    return figures


def _figures(
    place: Place, rounds: Rounds, starts: int, manifest: Manifest, installed: Installed
) -> list[Figure]:
    environment = settings_of(place.stack, manifest)
    begins = rounds.series(
        f"{manifest.name}, starts",
        lambda: median(_start_ms(installed, environment) for _ in range(starts)),
    )
    # Memory does not depend on how busy the machine is: once is enough.
    sizes = Rounds(1, rounds.say).series(
        f"{manifest.name}, memory", lambda: _resident_mb(place, manifest, installed, environment)
    )
    return [
        figure(
            f"{manifest.name}: start to first 200",
            begins,
            lambda run: run,
            "ms",
            Target("<", 300),
        ),
        figure(
            f"{manifest.name}: memory after {REQUESTS:,} requests",
            sizes,
            lambda run: run,
            "MB",
            Target("<", 100),
        ),
    ]


def _start_ms(installed: Installed, environment: dict[str, str]) -> float:
    with started(installed, environment) as running:
        return running.cold_start_ms


def _resident_mb(
    place: Place, manifest: Manifest, installed: Installed, environment: dict[str, str]
) -> float:
    requests, status = _requests(place, manifest)
    with started(installed, environment) as running:
        load = Load(running.port, 4, list(islice(cycle(requests), REQUESTS)))
        send(load, expect=status)
        return running.resident_mb()


def _requests(place: Place, manifest: Manifest) -> tuple[list[str], int]:
    """What the function is for, where that can be repeated; and the status of its answer."""
    base = f"/functions/v1/{manifest.slug}"
    internal = {"Authorization": f"Bearer {place.stack.keys['internal_token']}"}
    bearer = {"Authorization": f"Bearer {place.shops[0].key}"}
    kinds = {
        "merchants": (request("GET", f"{base}/me", bearer), 200),
        "momo_callback": (request("POST", f"{base}/{'0' * 43}", {}, {"Body": {}}), 200),
        "reconcile": (request("POST", base, internal), 200),
    }
    if manifest.name == "payment_intents":
        return create_requests(place), 201
    sent, status = kinds.get(manifest.name, (request("GET", "/readyz", {}), 200))
    return [sent.decode()], status
