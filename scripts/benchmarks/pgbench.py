"""SQL under load without the Data API: Postgres's own pgbench, statements as a function's role."""

import os
import re
import subprocess
from dataclasses import dataclass

from scripts.benchmarks.place import Place
from scripts.stack.places import StackError
from scripts.stack.postgres import ADMIN, program


@dataclass(frozen=True, slots=True)
class Script:
    """One transaction. role: whose rights it has; None is the superuser."""

    text: str
    role: str | None = "fn_payment_intents"


def per_s(
    place: Place,
    script: Script,
    *,
    clients: int,
    seconds: float | None = None,
    transactions: int | None = None,
) -> float:
    """Transactions per second. Either for so long or so many of each client."""
    how = ["-T", str(round(seconds))] if seconds else ["-t", str(transactions)]
    command = [str(program("pgbench")), "-n", "-M", "prepared", "-c", str(clients), "-j", "2"]
    done = subprocess.run(
        [*command, *how, "-f", "-", place.stack.cluster.conninfo(_login(script))],
        input=script.text,
        capture_output=True,
        text=True,
        env=os.environ | {"PGOPTIONS": f"-c role={script.role}" if script.role else ""},
    )
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if done.returncode or found is None:
        raise StackError(f"pgbench failed: {done.stderr.strip()}")
    return float(found.group(1))


def _login(script: Script) -> str:
    return "authenticator" if script.role else ADMIN
