"""Data API tokens of function roles, minted by the Supabase CLI with the project's own key."""

import subprocess
from pathlib import Path
from typing import Final

from scripts.bundling.tree import ROOT
from scripts.stack.install import CLI_LINK

LIFE: Final = "8760h"  # a year; deploying again mints the next one


class DeployError(Exception):
    """A step cannot be taken; one sentence per line, none with a value."""


def mint_token(role: str, key: Path) -> str:
    """A token of the database role `role`. key: file with a private JWK that the project trusts."""
    if not key.is_file() or not key.read_text().strip():
        # Given nothing, the CLI signs with a key that everybody has.
        raise DeployError(f"{key.name} is not a file with a key.")
    command = [str(CLI_LINK), "gen", "bearer-jwt", "--role", role, "--valid-for", LIFE]
    with key.open() as text:
        # Its prompt repeats the key, so what it says is not shown.
        done = subprocess.run(command, cwd=ROOT, stdin=text, capture_output=True, text=True)
    token = done.stdout.strip()
    if done.returncode or token.count(".") != 2:
        raise DeployError(f"the Supabase CLI minted no token with the key in {key.name}.")
    return token
