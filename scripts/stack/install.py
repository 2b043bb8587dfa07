"""Installs the prerequisites of the local stack, each only when it is missing.

Runs on the machine's own Python, before there is a virtual environment: standard library only.
"""

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".stalela"
STAMP = STATE / "setup.json"
VENV = ROOT / ".venv"
TOOLS = STATE / "tools"
CLI = ROOT / "node_modules/@supabase/cli-linux-x64/bin/supabase"
CLI_LINK = ROOT / "node_modules/.bin/supabase"
UV = "uv==0.13.8"  # the version that wrote uv.lock
POSTGRES_MIN, NODE_MIN = 15, 20
NATS_SERVER = Path("/usr/sbin/nats-server")
EXTENSIONS = {"cron": "pg_cron", "plpgsql-check": "plpgsql_check", "pgtap": "pgtap"}


class Missing(Exception):
    """A prerequisite this program cannot install; the message is for a person."""


def main() -> int:
    """Bring the machine up to date. Exit code 1 with one sentence when that is impossible."""
    try:
        if "--tests" in sys.argv[1:]:
            install_browser()
            install_nats_server()
        wanted = fingerprint()
        if is_current(wanted):
            return 0
        STATE.mkdir(mode=0o755, exist_ok=True)
        install_postgres()
        install_node_packages()
        install_python_packages()
        STAMP.write_text(json.dumps(wanted))
        say("ready")
    except Missing as missing:
        print(f"setup: {missing}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failure:
        command = " ".join(str(word) for word in failure.cmd)
        print(f"setup: `{command}` failed; its own words are above.", file=sys.stderr)
        return 1
    return 0


def fingerprint() -> dict[str, str]:
    """What an installation depends on: the lock files, the interpreter and this program."""
    files = ("uv.lock", "pyproject.toml", "package-lock.json", "scripts/stack/install.py")
    prints = {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in files}
    return prints | {"python": platform.python_version(), "root": str(ROOT)}


def is_current(wanted: dict[str, str]) -> bool:
    """Whether the last installation was for the same files and nothing was removed since."""
    if not STAMP.exists() or json.loads(STAMP.read_text()) != wanted:
        return False
    present = (VENV / "bin/python").exists() and CLI_LINK.exists()
    return present and not missing_postgres_packages()


def install_postgres() -> None:
    """Debian's Postgres with its extensions, without the cluster Debian would start by itself."""
    if missing_postgres_packages() is None:
        keep_debian_from_starting_a_cluster()
        apt("update")
        apt("install", "postgresql")
    packages = missing_postgres_packages()
    if packages is None:
        raise Missing(f"Postgres {POSTGRES_MIN} or newer is needed; apt offers an older one.")
    if packages:
        apt("update")
        apt("install", *packages)


def install_browser() -> None:
    """Debian's Chromium, which the tests of pages drive, and what their driver is linked with."""
    present = {
        "chromium": shutil.which("chromium") is not None,
        "libatomic1": any(Path("/usr/lib").glob("*/libatomic.so.1")),
    }
    missing = [package for package, is_there in present.items() if not is_there]
    if missing:
        apt("update")
        apt("install", *missing)


def install_nats_server() -> None:
    """Debian's NATS server, which the tests of the relay start, without Debian's own service."""
    if NATS_SERVER.exists():
        return
    service = Path("/etc/systemd/system/nats-server.service")
    if not service.is_symlink() and not service.exists():
        # systemd's word for masked: the package would start it on port 4222; nobody asked for it.
        run(*as_root(), "mkdir", "-p", str(service.parent))
        run(*as_root(), "ln", "-s", "/dev/null", str(service))
    apt("update")
    apt("install", "nats-server")


def missing_postgres_packages() -> list[str] | None:
    """Debian packages to add to the newest installed Postgres; None when there is no Postgres."""
    found = [int(path.parts[4]) for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found or max(found) < POSTGRES_MIN:
        return None
    version = max(found)
    controls = Path(f"/usr/share/postgresql/{version}/extension")
    return [
        f"postgresql-{version}-{package}"
        for package, extension in EXTENSIONS.items()
        if not (controls / f"{extension}.control").exists()
    ]


def keep_debian_from_starting_a_cluster() -> None:
    """The package creates and starts a `main` cluster on port 5432; nobody here asked for it."""
    setting = Path("/etc/postgresql-common/createcluster.d/stalela.conf")
    if setting.exists():
        return
    text = "# Written by Stalela's setup.\ncreate_main_cluster = false\n"
    run(*as_root(), "mkdir", "-p", str(setting.parent))
    subprocess.run(
        [*as_root(), "tee", str(setting)],
        input=text.encode(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def install_node_packages() -> None:
    """The Supabase CLI, PostgREST and the API page, exactly as package-lock.json hashes them."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Missing("package-lock.json holds the programs for Linux on x86_64 only.")
    node = shutil.which("node")
    if not node or not shutil.which("npm"):
        raise Missing(f"Node {NODE_MIN} or newer with npm is needed and was not found.")
    version = output(node, "--version").lstrip("v")
    if int(version.split(".")[0]) < NODE_MIN:
        raise Missing(f"Node {NODE_MIN} or newer is needed; found {version}.")
    say("Node packages from package-lock.json")
    run(
        "npm",
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-update-notifier",
        "--loglevel=error",
    )
    # npm makes this link only for the wrapper package, whose lock needs every platform's build.
    CLI_LINK.unlink(missing_ok=True)
    CLI_LINK.symlink_to(os.path.relpath(CLI, CLI_LINK.parent))


def install_python_packages() -> None:
    """`.venv` exactly as uv.lock says, made by a uv of our own."""
    uv = TOOLS / "bin/uv"
    if not uv.exists():
        say(f"{UV} into {TOOLS.relative_to(ROOT)}")
        if importlib.util.find_spec("ensurepip") is None:
            apt("update")
            apt("install", "python3-venv")
        run(sys.executable, "-m", "venv", "--clear", str(TOOLS))
        run(str(TOOLS / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", UV)
    say("Python packages from uv.lock")
    run(str(uv), "sync", "--frozen", "--no-managed-python", "--python", sys.executable)


def apt(command: str, *packages: str) -> None:
    """One apt-get run as root; shows what it does, asks nothing, adds no mail server beside it."""
    if not shutil.which("apt-get"):
        raise Missing(f"Postgres {POSTGRES_MIN}+ is missing and this machine has no apt-get.")
    say(f"apt-get {command} {' '.join(packages)}".rstrip())
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    options = ["-q", "--yes", "--no-install-recommends"] if command == "install" else ["-qq"]
    run(*as_root(), *environment, "apt-get", command, *options, *packages)


def as_root() -> list[str]:
    """The words before a command that needs root."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        raise Missing("packages are missing: run ./scripts/setup once as root, or install sudo.")
    may_ask = [] if sys.stdin.isatty() else ["-n"]
    if subprocess.run(["sudo", *may_ask, "true"]).returncode:
        raise Missing("packages are missing and sudo refused: run ./scripts/setup as root.")
    return ["sudo", *may_ask]


def run(*command: str) -> None:
    """Run to the end in the checkout, with its output shown."""
    own = {"UV_PROJECT_ENVIRONMENT": str(VENV), "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | own)


def output(*command: str) -> str:
    """What a command printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def say(line: str) -> None:
    """One progress line."""
    print(f"setup: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
