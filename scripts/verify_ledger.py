"""Verifies the books with nothing but the answers of GET /ledger/proof, saved as files.

    ./scripts/verify-ledger proof.json [next.json ...]

Computes the hash of every journal again, from its content and the hash before it, and adds up what
each account holds by these journals. Names the first journal that is not what was booked (exit
code 1; 2: a file cannot be read). Files are given in the order of their numbers. Standard library
only, and none of ours, so this one file can be copied to wherever the books are to be verified.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

FORMAT = "stalela.ledger.proof.v1"
MEMBERS = {"tenant_id", "environment", "from", "to", "previous_hash", "head", "journals"}


class NotProved(Exception):
    """The books are not what they claim; the message names the first journal that shows it."""


class Unreadable(Exception):
    """A file is missing, damaged, or no answer of GET /ledger/proof."""


Json = dict[str, Any]
Held = dict[tuple[str, str], int]  # minor units by account and currency, debits positive


def main() -> int:
    """Exit code 0 when everything holds."""
    if len(sys.argv) < 2 or sys.argv[1] in {"-h", "--help"}:
        print(__doc__)
        return 2
    held: Held = {}
    last: tuple[int, str] = (0, "")
    try:
        for name in sys.argv[1:]:
            proof = read(name)
            follow(last, proof, name)
            last = proof["to"], verify(proof, held)
            print(f"{name}: journals {proof['from']} to {proof['to']} of {proof['head']['number']}")
    except NotProved as problem:
        print(f"verify-ledger: {problem}", file=sys.stderr)
        return 1
    except Unreadable as problem:
        print(f"verify-ledger: {problem}", file=sys.stderr)
        return 2
    for (account, currency), minor in sorted(held.items()):
        print(f"  {account} {currency} {'debit' if minor >= 0 else 'credit'} {abs(minor)}")
    print(f"verified: every hash is that of its journal; the last is {last[1]}")
    return 0


def read(name: str) -> Json:
    """The document in a file. Raises Unreadable when it is none of ours."""
    try:
        proof = json.loads(Path(name).read_text(encoding="utf-8"))
    except OSError as unread:
        raise Unreadable(f"{name} cannot be read: {unread.strerror}") from None
    except ValueError as broken:
        raise Unreadable(f"{name} is not JSON: {broken}") from None
    if not isinstance(proof, dict) or proof.get("format") != FORMAT:
        raise Unreadable(f"{name} is not an answer of GET /ledger/proof ({FORMAT})")
    if missing := MEMBERS - proof.keys():
        raise Unreadable(f"{name} is cut off: it has no {', '.join(sorted(missing))}")
    return proof


def follow(last: tuple[int, str], proof: Json, name: str) -> None:
    """Raises NotProved unless a file begins where the one before it ended, or with journal 1."""
    if last[0] and (last[0] + 1, last[1]) != (proof["from"], proof["previous_hash"]):
        raise NotProved(f"{name} does not follow the file before it")
    genesis = "\n".join(("stalela.ledger.v1", proof["tenant_id"], proof["environment"]))
    if proof["from"] == 1 and proof["previous_hash"] != sha256(genesis.encode()):
        raise NotProved(f"{name} does not begin as the chain of {proof['tenant_id']} does")


def verify(proof: Json, held: Held) -> str:
    """The last hash; adds what the journals moved to `held`. Raises NotProved."""
    previous: str = proof["previous_hash"]
    number: int = proof["from"] - 1
    for journal in proof["journals"]:
        number += 1
        place = f"journal {journal.get('id')} (number {number})"
        try:
            if journal["number"] != number:
                raise NotProved(f"journal number {number} is missing; {journal['id']} is there")
            counted = add_up(journal, place, held)
            computed = sha256(bytes.fromhex(previous) + content(proof, journal, counted).encode())
        except (KeyError, TypeError, ValueError) as broken:
            raise NotProved(f"{place} cannot be read: {broken!r}") from None
        if journal["hash"] != computed:
            raise NotProved(f"{place} is not what was booked: its hash is {computed}")
        previous = computed
    if number != proof["to"]:
        raise NotProved(f"journal number {number + 1} is missing")
    if number == proof["head"]["number"] and previous != proof["head"]["hash"]:
        raise NotProved(f"the head of the chain is not journal number {number}")
    return previous


def add_up(journal: Json, place: str, held: Held) -> list[str]:
    """The lines of the entries as they are hashed. Raises NotProved for a wrong amount."""
    lines = []
    for entry in journal["entries"]:
        minor = int(entry["amount_minor"])
        # The decimal string people read is the same number.
        if minor <= 0 or entry["amount"].replace(".", "").lstrip("0") != str(minor):
            raise NotProved(f"{place} shows {entry['amount']} for {minor} minor units")
        for side, sign in (("debit", 1), ("credit", -1)):
            key = entry[side], entry["currency"]
            held[key] = held.get(key, 0) + sign * minor
        fields = ("number", "leg", "debit", "credit", "currency", "amount_minor")
        lines.append("\t".join(str(entry[field]) for field in fields))
    return lines


def content(proof: Json, journal: Json, lines: list[str]) -> str:
    """The text whose hash is the journal's; SQL: ledger.journal_content."""
    return "\n".join(
        (
            "stalela.journal.v1",
            proof["tenant_id"],
            proof["environment"],
            journal["event_type"],
            journal["period"],
            str(journal["rules_version"]),
            journal["memo"],
            str(journal["number"]),
            journal["id"],
            journal["key"],
            journal["event_id"] or "",
            journal["transfer_id"] or "",
            instant(journal["occurred_at"]),
            instant(journal["posted_at"]),
            journal["related_journal_id"] or "",
            "true" if journal["is_memo"] else "false",
            *lines,
        )
    )


def instant(text: str) -> str:
    """2026-11-21T08:00:00.5+00:00 as Postgres writes it: 2026-11-21 08:00:00.5+00."""
    if text[10:11] != "T" or text[-6:] != "+00:00":
        raise ValueError(f"{text} is no instant in UTC")
    return f"{text[:10]} {text[11:-6]}+00"


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
