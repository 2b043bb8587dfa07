"""Verifies a document offline, with the published keys and nothing else.

    ./scripts/verify-invoice invoice.json --keys keys.json

invoice.json is the answer of GET /invoices/{id}, keys.json that of GET /verify/keys, saved as they
came. Exit code 0: the document is what was sealed. 1: it is not, and each check that failed says
why. 2: a file cannot be read.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shared.fiscal.proof import CHECKED, Check, Finding, Keys, prove, read_keys

MEANING = {
    Check.FILE: "is a sealed invoice",
    Check.PAYLOAD_HASH: "the document is the one that was hashed",
    Check.SUMMARY: "what stands beside the document says the same",
    Check.ENTRY_HASH: "number, time and place in the chain are those of the ledger's entry",
    Check.KEY: "the key is published, and was in use here when it sealed",
    Check.SIGNATURE: "the key signed this document, at this place in the chain",
    Check.AUTH_CODE: "the authentication code is the signature's",
    Check.REVOKED_KEY: "the key was not revoked before",
}


class Unreadable(Exception):
    """A file is not what it should be; the message names it."""


def main(arguments: list[str] | None = None) -> int:
    """See the module's text for the exit codes."""
    parser = argparse.ArgumentParser(
        prog="verify-invoice",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("invoice", type=Path, help="the answer of GET /invoices/{id}")
    parser.add_argument("--keys", type=Path, required=True, help="the answer of GET /verify/keys")
    wanted = parser.parse_args(arguments)
    try:
        invoice, keys = read(wanted.invoice), keys_in(wanted.keys)
    except Unreadable as problem:
        print(f"verify-invoice: {problem}", file=sys.stderr)
        return 2
    findings = prove(invoice, keys)
    print("\n".join(report(findings)))
    if findings:
        print(f"NOT verified: {wanted.invoice.name} is not what was sealed")
        return 1
    print(f"verified: {invoice['fiscal_number']}, sealed at {invoice['sealed']['sealed_at']}")
    print(f"not sealed, so not verified: {', '.join(sorted(set(invoice) - CHECKED))}")
    print("what came later, credits among it, is known to /verify")
    return 0


def report(findings: Iterable[Finding]) -> list[str]:
    """A line for each check, and what each that failed found."""
    lines = []
    by_check: dict[Check, list[str]] = {}
    for finding in findings:
        by_check.setdefault(finding.check, []).append(finding.detail)
    for check in Check:
        if check not in by_check:
            lines.append(f"  ok    {check:<13} {MEANING[check]}")
        lines += [f"  FAIL  {check:<13} {detail}" for detail in by_check.get(check, [])]
        if check is Check.FILE and check in by_check:
            return lines  # nothing else could be looked at
    return lines


def keys_in(path: Path) -> Keys:
    """The published keys in a file. Raises Unreadable."""
    try:
        return read_keys(read(path))
    except ValueError as invalid:
        raise Unreadable(f"{path} is no answer of /verify/keys: {invalid}") from None


def read(path: Path) -> Any:
    """The JSON in a file. Raises Unreadable, also when a member is there twice."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except OSError as unread:
        raise Unreadable(f"{path} cannot be read: {unread.strerror}") from None
    except (ValueError, RecursionError) as broken:
        raise Unreadable(f"{path} is not JSON: {broken}") from None


def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """The members of an object. ValueError when one is there twice."""
    # Readers choose differently between two members of one name, so one could be shown and the
    # other verified.
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member is there twice")
    return found


if __name__ == "__main__":
    sys.exit(main())
