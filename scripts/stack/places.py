"""Where a local stack keeps its things, and which system user owns the database files."""

import hashlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_PORT = 54321
SOCKET_PATH_MAX = 107  # bytes of sockaddr_un.sun_path on Linux, less the final NUL


class StackError(Exception):
    """The local stack cannot go on; the message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The block of consecutive ports of one stack."""

    base: int

    @property
    def gateway(self) -> int:
        return self.base

    @property
    def postgres(self) -> int:
        return self.base + 1

    @property
    def postgrest(self) -> int:
        return self.base + 2

    @property
    def postgrest_admin(self) -> int:
        return self.base + 3

    @property
    def daraja(self) -> int:
        return self.base + 4

    @property
    def resend(self) -> int:
        return self.base + 5

    @property
    def emcf(self) -> int:
        return self.base + 6

    @property
    def oss(self) -> int:
        return self.base + 7

    @property
    def etims(self) -> int:
        return self.base + 8

    @property
    def fdms(self) -> int:
        return self.base + 9

    @property
    def last(self) -> int:
        return self.fdms

    @property
    def all(self) -> range:
        return range(self.base, self.last + 1)

    @property
    def fit(self) -> bool:
        return self.base >= 1024 and self.last <= 65_535

    @property
    def others(self) -> "Ports":
        """A block that may be free when this one is not."""
        above = Ports(self.base + 100)
        return above if above.fit else Ports(self.base - 100)


def base_port() -> int:
    """STALELA_PORT, or the default."""
    text = os.environ.get("STALELA_PORT", str(DEFAULT_PORT))
    if not text.isdecimal() or not Ports(int(text)).fit:
        count = len(Ports(0).all)
        raise StackError(
            f"STALELA_PORT must be a port number from 1024 to {65_536 - count}, not {text!r}:"
            f" the stack takes {count} ports from there on."
        )
    return int(text)


def postgres_user() -> str | None:
    """Postgres refuses to run as root: then it is Debian's `postgres` user. None: ourselves."""
    return "postgres" if os.geteuid() == 0 else None


def postgres_home(state: Path) -> Path:
    """The directory for one cluster: in `state`, or in /var/lib when its owner cannot go there."""
    user = postgres_user()
    if user is None or _can_traverse(user, state):
        return state / "postgres"
    return Path("/var/lib/stalela") / _name(state)


def socket_directory(home: Path) -> Path:
    """Where Postgres puts its socket: beside the data, or in /tmp when that path is too long."""
    nearby = home / "socket"
    longest = len(bytes(nearby)) + len("/.s.PGSQL.65535.lock")
    return nearby if longest <= SOCKET_PATH_MAX else Path("/tmp") / f"stalela-{_name(home)}"  # noqa: S108


def _name(path: Path) -> str:
    return hashlib.sha256(bytes(path.resolve())).hexdigest()[:12]


def _can_traverse(user: str, path: Path) -> bool:
    account = pwd.getpwnam(user)
    groups = os.getgrouplist(user, account.pw_gid)
    for step in (path, *path.parents):
        if not step.exists():
            continue
        about = step.stat()
        if about.st_uid == account.pw_uid:
            allowed = about.st_mode & 0o100
        elif about.st_gid in groups:
            allowed = about.st_mode & 0o010
        else:
            allowed = about.st_mode & 0o001
        if not allowed:
            return False
    return True
