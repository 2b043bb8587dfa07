"""One function on Fly.io. Secrets reach `fly` through a pipe and stand on no command line."""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from scripts.bundling.manifest import Manifest
from scripts.bundling.tokens import LIFE, DeployError, mint_token
from scripts.bundling.tree import ROOT
from scripts.stack.install import CLI_LINK

TOKEN: Final = "DATA_API_TOKEN"  # noqa: S105  a setting's name
SIGNING_KEY: Final = "SIGNING_KEY_FILE"
_PROJECT: Final = ("SUPABASE_URL", "FUNCTIONS_URL")
_OPTIONAL: Final = ("DATA_API_KEY", "CALLBACK_SOURCES", "TRUSTED_PROXIES", "LOG_LEVEL")

Environment = Mapping[str, str]


def missing_for(manifest: Manifest, environment: Environment) -> list[str]:
    """One sentence per program that is not installed and per value that is not set."""
    problems = []
    if shutil.which("fly") is None:
        problems.append("fly, the command line of Fly.io, is not installed.")
    if not CLI_LINK.exists():
        problems.append("the Supabase CLI is not installed: run ./scripts/setup.")
    needed = (*_PROJECT, *(name for name in manifest.secrets if name != TOKEN))
    problems += [f"{name} is not set." for name in needed if not environment.get(name)]
    if not environment.get(TOKEN) and not environment.get(SIGNING_KEY):
        problems.append(f"neither {TOKEN} nor {SIGNING_KEY} (the project's private JWK) is set.")
    return problems


def describe(manifest: Manifest, app: str) -> str:
    """The steps, as a person would type them."""
    settings = " ".join(f"--env {name}=…" for name in (*_PROJECT, "DATA_API_URL", "VERSION"))
    return f"""{manifest.name} to the Fly.io app {app}:

1. Write its bundle:
   scripts/bundle {manifest.name}
2. Make the app, when there is none:
   fly apps create {app}
3. Mint its {TOKEN}, unless one is set:
   supabase gen bearer-jwt --role {manifest.db_role} --valid-for {LIFE} < ${SIGNING_KEY}
4. Give it {", ".join(manifest.secrets)}:
   fly secrets import --stage --app {app}
5. Build its image and start it:
   cd dist/{manifest.name} && fly deploy --app {app} {settings}
6. Have whatever answers FUNCTIONS_URL pass /{manifest.slug}/* on to https://{app}.fly.dev/*;
   TRUSTED_PROXIES=3 when that is a proxy of yours."""


def deploy(manifest: Manifest, app: str, bundle: Path, environment: Environment) -> None:
    """Take every step; each can be repeated. Raises DeployError or CalledProcessError."""
    settings = [f"--env={name}={value}" for name, value in settings_of(environment).items()]
    token = environment.get(TOKEN) or mint_token(manifest.db_role, Path(environment[SIGNING_KEY]))
    secrets = secret_lines(manifest, {**environment, TOKEN: token})
    if subprocess.run(["fly", "status", "--app", app], capture_output=True).returncode:
        subprocess.run(["fly", "apps", "create", app], check=True)
    staged = ["fly", "secrets", "import", "--stage", "--app", app]
    subprocess.run(staged, input=secrets, text=True, check=True)
    subprocess.run(["fly", "deploy", "--app", app, *settings], cwd=bundle, check=True)


def secret_lines(manifest: Manifest, environment: Environment) -> str:
    """NAME=VALUE lines for `fly secrets import`, which would change quotes, # and line breaks."""
    values = {name: environment[name] for name in manifest.secrets}
    odd = [name for name, value in values.items() if value[0] == '"' or {*"#\r\n"} & {*value}]
    if odd:
        wrong = "starts with a quote, or holds a # or a line break, which fly would not keep."
        raise DeployError("\n".join(f"{name} {wrong}" for name in odd))
    return "".join(f"{name}={value}\n" for name, value in values.items())


def settings_of(environment: Environment) -> dict[str, str]:
    """What is no secret and differs per project: setting -> value."""
    project = {name: environment[name] for name in _PROJECT}
    data_api = environment.get("DATA_API_URL") or f"{project['SUPABASE_URL'].rstrip('/')}/rest/v1"
    chosen = {name: environment[name] for name in _OPTIONAL if environment.get(name)}
    return {**project, "DATA_API_URL": data_api, **chosen, "VERSION": version_of(environment)}


def version_of(environment: Environment) -> str:
    """VERSION, or what git calls this checkout. Raises DeployError when there is neither."""
    if given := environment.get("VERSION"):
        return given
    command = ["git", "describe", "--always", "--dirty"]
    try:
        described = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise DeployError(
            "git cannot tell which version this is: set VERSION, or deploy from a git checkout."
        ) from None
    return described.stdout.strip()
