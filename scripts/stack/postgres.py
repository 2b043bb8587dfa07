"""One Postgres cluster: made, run as the right user, reached as any role."""

import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import psycopg

from scripts.stack.places import StackError, postgres_home, postgres_user, socket_directory
from scripts.stack.process import Child, Log, wait_until

ADMIN = "supabase_admin"  # the superuser of hosted projects; `postgres` is none
BOOTSTRAP = Path(__file__).with_name("sql")
VERSION_MIN = 15
TOO_EARLY = (
    "the database system is starting up",
    "the database system is not yet accepting connections",
    "Consistent recovery state has not been yet reached",
)


class Cluster:
    """A cluster of its own under `state`, on the loopback `port` and a socket.

    fsync: off only for tests, where a crash of the machine may lose everything.
    cron: run pg_cron in the database `postgres`; elsewhere `cron.*` only remembers jobs.
    """

    def __init__(self, state: Path, port: int, *, fsync: bool, cron: bool) -> None:
        self.home, self.port = postgres_home(state), port
        self.data, self.socket = self.home / "data", socket_directory(self.home)
        self.fsync, self.cron = fsync, cron
        self._child: Child | None = None

    def start(self, log: Log = lambda _name, _line: None) -> None:
        """Make the cluster if there is none, run it, wait for its first answer."""
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        self._prepare_socket()
        self._child = Child(
            "postgres",
            [str(program("postgres")), "-D", str(self.data), *self._settings()],
            log=_without_our_knocking(log),
            user=postgres_user(),
            stop_signal=signal.SIGINT,  # "fast": end sessions, write a checkpoint
        )
        self._child.start()
        self.wait_ready()
        with self.connect("template1") as connection, connection.transaction():
            found = connection.execute("select to_regrole('authenticator') is not null").fetchone()
            if found != (True,):
                connection.execute((BOOTSTRAP / "roles.sql").read_text())

    def stop(self) -> None:
        """Stop the server; the data stays."""
        if self._child:
            self._child.stop()
            self._child = None

    def erase(self) -> None:
        """Throw the stopped cluster's files away."""
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.socket, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL for the server and all its backends; it is started again at once."""
        if self._child:
            self._child.kill()

    @property
    def child(self) -> Child:
        """The supervised server process."""
        if self._child is None:
            raise StackError("the database is not running")
        return self._child

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Wait for the first answered query: a crashed server first replays its log."""
        wait_until("Postgres", self._answers, timeout_s=timeout_s)

    def dsn(self, role: str = "postgres", database: str = "postgres") -> str:
        """A URL over TCP, for any program."""
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def conninfo(self, role: str = "postgres", database: str = "postgres") -> str:
        """The same place over the socket, which is faster."""
        return f"host={self.socket} port={self.port} user={role} dbname={database}"

    def connect(
        self, database: str = "postgres", role: str = ADMIN, *, autocommit: bool = True
    ) -> psycopg.Connection:
        """A session, by default the superuser's."""
        return psycopg.connect(
            self.conninfo(role, database),
            autocommit=autocommit,
            application_name="stalela stack",
        )

    def create_database(self, name: str, template: str = "template1") -> None:
        """An empty database (or a copy of `template`) that belongs to `postgres`, as hosted."""
        with self.connect("template1" if template != "template1" else "postgres") as connection:
            connection.execute(f'create database "{name}" template "{template}" owner postgres')

    def drop_database(self, name: str) -> None:
        """Remove a database and whoever is in it."""
        with self.connect("postgres") as connection:
            connection.execute(f'drop database if exists "{name}" with (force)')

    def bootstrap(self, database: str) -> None:
        """What a hosted project holds before the first migration. Does nothing the second time."""
        with self.connect(database) as connection, connection.transaction():
            done = connection.execute("select to_regnamespace('net') is not null").fetchone()
            if done == (True,):
                return
            has_cron = self.cron and database == "postgres"
            for name in ("platform.sql", "cron.sql" if has_cron else "cron_absent.sql", "net.sql"):
                connection.execute((BOOTSTRAP / name).read_text())

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), self.connect("template1"):
            return True
        return False

    def _initdb(self) -> None:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        user = postgres_user()
        if user:
            # Only the cluster's owner may read it; its parents merely have to be passable.
            self.home.parent.chmod(self.home.parent.stat().st_mode | 0o011)
            shutil.chown(self.home, user, user)
        command = [str(program("initdb")), "-D", str(self.data), "-U", ADMIN, "--auth=trust"]
        options = ["--data-checksums", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
        done = subprocess.run(
            [*command, *options], user=user, cwd="/", capture_output=True, text=True
        )
        if done.returncode:
            raise StackError(f"initdb failed: {done.stderr.strip()}")

    def _prepare_socket(self) -> None:
        self.socket.mkdir(mode=0o700, parents=True, exist_ok=True)
        if user := postgres_user():
            shutil.chown(self.socket, user, user)

    def _settings(self) -> list[str]:
        durable = "on" if self.fsync else "off"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.socket,
            "shared_preload_libraries": ("pg_cron," if self.cron else "") + "pg_stat_statements",
            "fsync": durable,
            "full_page_writes": durable,
            # Without fsync too: a commit survives kill -9 of the server, as tests expect.
            "synchronous_commit": "on",
            "max_wal_size": "2GB",  # bounds recovery to about ten seconds
            "shared_buffers": "256MB" if self.fsync else "64MB",
            "max_connections": 100,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%q%u@%d ",
            "log_checkpoints": "off",
            "log_min_error_statement": "panic",  # statements hold whole files
        }
        if self.cron:
            settings |= {"cron.database_name": "postgres", "cron.host": self.socket}
            settings |= {"cron.log_run": "on", "cron.log_statement": "off"}
        return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def _without_our_knocking(log: Log) -> Log:
    """Drop the server's complaints about being asked too early: wait_ready asks every 10 ms."""

    def write(name: str, line: str) -> None:
        if not any(words in line for words in TOO_EARLY):
            log(name, line)

    return write


def program(name: str) -> Path:
    """A server program of the newest installed Postgres, 15 or later."""
    roots = Path("/usr/lib/postgresql").glob("*/bin")
    versions = sorted((int(path.parent.name), path) for path in roots if (path / name).exists())
    if not versions or versions[-1][0] < VERSION_MIN:
        raise StackError(f"Postgres {VERSION_MIN} or newer is not installed: run ./scripts/setup.")
    return versions[-1][1] / name
