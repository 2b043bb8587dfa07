"""Deploys a function to Fly.io, or the migrations to the database: prints the steps, and stops.

With --yes it takes them. Every value comes from the environment.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from scripts.bundling import fly
from scripts.bundling.build import DIST, make_bundle
from scripts.bundling.image import app_of
from scripts.bundling.tokens import DeployError
from scripts.bundling.tree import ROOT, BundleError, read_tree
from scripts.stack.install import CLI_LINK

DATABASE: Final = "database"
_DATABASE_STEPS: Final = """\
1. Apply the migrations that {whom} has not had:
   supabase db push {target}
2. Once, in its SQL editor, tell it where the functions are and how it is known there:
   select vault.create_secret('<FUNCTIONS_URL>', 'functions_base_url');
   select vault.create_secret('<one of INTERNAL_TOKENS>', 'internal_token');
3. Once, in its settings, the schemas of [api] and the hook of [auth] in supabase/config.toml.

Nothing was done; --yes does step 1."""


def main(arguments: Sequence[str]) -> int:
    """`scripts/deploy <function>|database [--yes] [--app NAME]`."""
    parser = argparse.ArgumentParser(prog="scripts/deploy", description=__doc__)
    parser.add_argument("what", help=f"a folder under functions/, or `{DATABASE}`")
    parser.add_argument("--yes", action="store_true", help="take the steps, do not print them")
    parser.add_argument("--app", help="the Fly.io app, when the usual name is taken")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.what == DATABASE:
            deploy_database(os.environ, take_steps=chosen.yes)
        else:
            deploy_function(chosen.what, chosen.app, os.environ, take_steps=chosen.yes)
    except (BundleError, DeployError) as error:
        for line in str(error).splitlines():
            print(f"deploy: {line}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as failed:
        # Its first words only: the rest may hold a database's password.
        print(f"deploy: `{' '.join(failed.cmd[:3])}` failed; see above.", file=sys.stderr)
        return 1
    return 0


def deploy_function(
    name: str, app: str | None, environment: Mapping[str, str], *, take_steps: bool
) -> None:
    """Bundle, app, token, secrets, image. Raises before the first step when a value is missing."""
    bundle = make_bundle(read_tree(), name)
    app = app or app_of(bundle.manifest)
    missing = fly.missing_for(bundle.manifest, environment)
    if not take_steps:
        print(fly.describe(bundle.manifest, app))
        print("\n".join(["", "Nothing was done; --yes does it.", *missing]))
        return
    if missing:
        raise DeployError("\n".join(missing))
    bundle.write(DIST / name)
    fly.deploy(bundle.manifest, app, DIST / name, environment)


def deploy_database(environment: Mapping[str, str], *, take_steps: bool) -> None:
    """Apply new migrations to DATABASE_URL, or to the project the CLI is linked to."""
    url = environment.get("DATABASE_URL")
    if not take_steps:
        whom, target = "the linked project", "--remote"
        if url:
            whom, target = "DATABASE_URL", "--remote=$DATABASE_URL"
        print(_DATABASE_STEPS.format(whom=whom, target=target))
        return
    if not CLI_LINK.exists():
        raise DeployError("the Supabase CLI is not installed: run ./scripts/setup.")
    target = f"--remote={url}" if url else "--remote"
    subprocess.run([str(CLI_LINK), "db", "push", "--yes", target], cwd=ROOT, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
