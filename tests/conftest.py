"""What tests share: a cluster, fresh databases, a whole stack. Each stops what it started."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings

from scripts.stack.database import Database, Databases
from scripts.stack.postgres import Cluster
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block, session_state
from tests.support.clusters import start
from tests.support.sql import Api, Books

# A line per request would bury the progress that a long test logs.
for _client in ("httpx", "httpcore"):
    logging.getLogger(_client).setLevel(logging.WARNING)

# How long an example takes on a busy machine says nothing about what it shows.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Postgres cluster for database tests: no fsync, no cron, gone after the session."""
    with session_state("sql") as state:
        running = Cluster(state, free_block(), fsync=False, cron=False)
        try:
            running.start()
            yield running
        finally:
            running.stop()
            running.erase()


@pytest.fixture(scope="session")
def databases(cluster: Cluster) -> Databases:
    """Makes databases from `sql/`: the template is built once per session."""
    return Databases(cluster)


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A fresh database of this test alone."""
    with databases.fresh_database() as fresh:
        yield fresh


@pytest.fixture(scope="module")
def module_database(databases: Databases) -> Iterator[Database]:
    """A fresh database that the tests of one module share."""
    with databases.fresh_database() as fresh:
        yield fresh


@pytest.fixture(scope="module")
def api(module_database: Database) -> Iterator[Api]:
    """A connection of the Data API."""
    with Api(module_database) as opened:
        yield opened


@pytest.fixture(scope="module")
def books(module_database: Database) -> Iterator[Books]:
    """The database as its superuser sees it."""
    with Books(module_database) as opened:
        yield opened


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole local stack with real pg_cron, on ports of its own, gone after the session."""
    with running_stack("stack") as whole:
        yield whole


@pytest.fixture(scope="session")
def platform() -> Iterator[Stack]:
    """The same without any function of ours: for tests of the stand-ins, which also kill them."""
    with running_stack("platform", functions=()) as bare:
        yield bare


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Say what was measured: one line, shown at the end of the session."""
    return lambda line: request.node.user_properties.append(("figure", line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    figures = [
        line
        for one in reports
        if one.when == "call"
        for name, line in one.user_properties
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
    for line in figures:
        terminalreporter.line(str(line))


@contextmanager
def running_stack(name: str, functions: tuple[str, ...] | None = None) -> Iterator[Stack]:
    """A stack of this session; what its processes said is in `log` of its state directory."""
    with session_state(name) as state, (state / "log").open("w", buffering=1) as log:
        made = Stack(
            state=state,
            port=free_block(),
            fsync=False,
            functions=functions,
            log=lambda child, line: print(f"{child} | {line}", file=log),
        )
        try:
            yield start(made)
        finally:
            made.stop()
            made.erase()
