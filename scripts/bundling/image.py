"""The files of a bundle that are written for it: its entry point, its image, its Fly.io app."""

from collections.abc import Sequence
from typing import Final

from scripts.bundling.manifest import Manifest

PYTHON: Final = "3.11"
PORT: Final = 8080
# Bytecode that is trusted without a look at the source: the image never changes.
COMPILE: Final = ("-m", "compileall", "-q", "-j0", "--invalidation-mode", "unchecked-hash")
# Data of phonenumbers on places and carriers, 20 MB that nothing reads; odd ends of Python itself.
NOT_COMPILED: Final = r"(geodata|carrierdata|lib2to3|idlelib|ensurepip)"

_EXACTLY: Final = "--no-cache-dir --no-compile --no-deps --require-hashes"


def app_of(manifest: Manifest) -> str:
    """The Fly.io app of a function, unless a deployer chooses another name."""
    return f"stalela-{manifest.slug}"


def entry_point(manifest: Manifest) -> str:
    """main.py: the settings are read and the handler is imported by `serve`."""
    secrets = ", ".join(f'"{name}"' for name in manifest.secrets)
    return f'''"""Starts {manifest.name}."""

from shared.http.server import serve

if __name__ == "__main__":
    serve("functions.{manifest.name}.handler:create", secrets=[{secrets}])
'''


def dockerfile(folders: Sequence[str], *, has_sources: bool = False) -> str:
    """An image that starts fast: nothing is compiled when it runs, and it runs as nobody.

    has_sources: sources.txt names packages that must be built, with the setuptools beside them.
    """
    lists = "requirements.txt sources.txt" if has_sources else "requirements.txt"
    build = ""
    if has_sources:
        build = f"""    && pip install {_EXACTLY} --no-build-isolation --no-binary :all: \\
        -r sources.txt \\
    && pip uninstall --yes --quiet setuptools \\
"""
    copies = "\n".join(f"COPY {folder} {folder}" for folder in folders)
    compile_all = f"python {' '.join(COMPILE)} -x '{NOT_COMPILED}'"
    return f"""FROM python:{PYTHON}-slim
WORKDIR /app
COPY {lists} .
# The base image has no bytecode, not even of Python's own modules: compiled here, once.
RUN pip install {_EXACTLY} --only-binary :all: \\
        -r requirements.txt \\
{build}    && {compile_all} /usr/local/lib/python{PYTHON}
{copies}
COPY main.py .
RUN {compile_all} .
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65534:65534
EXPOSE {PORT}
CMD ["python", "main.py"]
"""


def fly_toml(manifest: Manifest) -> str:
    """The app's configuration. What is secret or differs per project is set by scripts/deploy."""
    secrets = ", ".join(manifest.secrets) or "none"
    running = 1 if manifest.is_called_back else 0
    reason = "a rail waits for its answer" if running else "the first request starts one"
    return f"""# Secrets: {secrets}.
# Database role of DATA_API_TOKEN: {manifest.db_role}.
app = "{app_of(manifest)}"
primary_region = "jnb"
kill_signal = "SIGTERM"
kill_timeout = "15s" # the server finishes what it is answering within 10 s

[build]
dockerfile = "Dockerfile"

[env]
FUNCTION_NAME = "{manifest.name}"
ENVIRONMENT_NAME = "production"
PORT = "{PORT}"
TRUSTED_PROXIES = "2" # X-Forwarded-For ends with the caller and the app's own address

[http_service]
internal_port = {PORT}
force_https = true
auto_stop_machines = "stop"
auto_start_machines = true
min_machines_running = {running} # {reason}

[http_service.concurrency]
type = "requests" # an open event stream is one
soft_limit = 100
hard_limit = 250

[[http_service.checks]]
method = "GET"
path = "/healthz"
interval = "15s"
timeout = "2s"
grace_period = "5s"

[[vm]]
memory = "256mb"
cpu_kind = "shared"
cpus = 1
"""
