"""Whether what was archived of a chain is what was sealed: each range by itself, then end to end.

Pure: bytes in, findings out. The keys are the published ones, or those of the archive when nobody
has others; then it proves that the archive is whole, and not by whom it was made.
"""

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from shared.canonical import canonical_bytes
from shared.fiscal.chain import GENESIS
from shared.fiscal.proof import Keys, SignedEntry, check_entry, prove, read_keys
from shared.fiscal.seal import Seal

Row = dict[str, Any]


class Unreadable(Exception):
    """It is no range of an archive; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Archived:
    """One range: its manifest as it is kept, and the lines of its objects by kind."""

    manifest: Row
    entry: Row
    signature: Row
    lines: Mapping[str, list[Row]] = field(default_factory=dict)

    def of(self, kind: str) -> list[Row]:
        """The lines of one kind, if it has any."""
        return self.lines.get(kind, [])


def is_whole(name: str, body: bytes) -> bool:
    """Whether an object is what its name says: {range}.{kind}.{digest}[.{copy}].{ending}."""
    said = re.search(r"\.([0-9a-f]{16})(\.[0-9]+)?\.(json|jsonl\.gz)$", name)
    return said is not None and sha256(body).hexdigest().startswith(said[1])


def read_manifest(text: bytes) -> Archived:
    """The manifest alone. Raises Unreadable."""
    try:
        kept = json.loads(text)
        return Archived(kept["manifest"], kept["entry"], kept["signature"])
    except (ValueError, KeyError, TypeError) as odd:
        raise Unreadable(f"a manifest cannot be read: {odd}") from None


def read_lines(part: Row, body: bytes) -> list[Row]:
    """The lines of an object. Raises Unreadable unless it is the one the manifest names."""
    if sha256(body).hexdigest() != part["sha256"]:
        raise Unreadable(f"{part['key']} is not what was kept: its SHA-256 is another")
    return [json.loads(line) for line in gzip.decompress(body).splitlines()]


def keys_of(archived: Archived) -> Keys:
    """The keys that came with a range, as /verify/keys publishes them."""
    return read_keys(
        {
            "keys": [
                {
                    "key_id": row["key_id"],
                    "jurisdiction": row["jurisdiction"],
                    "environment": row["environment"],
                    "alg": row["alg"],
                    "public_key": {"spki": row["public_key_spki"]},
                    "valid_until": row["valid_until"],
                    "revoked_at": row["revoked_at"],
                }
                for row in archived.of("keys")
            ]
        }
    )


class Walk:
    """Follows one outlet's chain through its ranges, oldest first."""

    def __init__(self, after: Row | None = None) -> None:
        self._last = after
        self.entries = self.documents = 0

    def follow(self, archived: Archived, keys: Keys) -> Iterator[str]:
        """Everything that is wrong with the next range, each a sentence."""
        manifest = archived.manifest
        name = f"{manifest['first_entry']}-{manifest['last_entry']}"
        digest = sha256(canonical_bytes(manifest)).hexdigest()
        if digest != archived.entry["canonical_payload_hash"]:
            yield f"manifest {name}: it is not the one that is in the ledger"
        yield from self._signed(archived.entry, archived.signature, manifest, keys)
        numbers = [row["entry_no"] for row in archived.of("ledger")]
        if numbers != list(range(manifest["first_entry"], manifest["last_entry"] + 1)):
            yield f"manifest {name}: the entries are not those it names"
        yield from self._chained(archived, keys)

    def _chained(self, archived: Archived, keys: Keys) -> Iterator[str]:
        signatures = {row["fiscal_number"]: row for row in archived.of("signatures")}
        bodies = {row["fiscal_number"]: row["body"] for row in archived.of("bodies")}
        documents = {row["fiscal_number"]: row for row in archived.of("documents")}
        for entry in archived.of("ledger"):
            number = entry["fiscal_number"]
            yield from self._linked(entry)
            signature = signatures.get(number)
            if signature is None:
                yield f"{number}: its signature is missing"
            else:
                yield from self._signed(entry, signature, archived.manifest, keys)
            if entry["invoice_id"] is None:
                body = bodies.get(number)
                if body is None or _hash(body) != entry["canonical_payload_hash"]:
                    yield f"{number}: what it stands for is missing or another"
                continue
            document = documents.get(number)
            if document is None:
                yield f"{number}: its document is missing"
                continue
            self.documents += 1
            for finding in prove(document, keys):
                yield f"{number}: {finding.detail}"
            if document["sealed"]["ledger_hash"] != entry["entry_hash"]:
                yield f"{number}: its document is of another entry"

    def _linked(self, entry: Row) -> Iterator[str]:
        number = entry["fiscal_number"]
        if self._last is None:
            before, place = GENESIS, 1
        else:
            before, place = self._last["entry_hash"], self._last["entry_no"] + 1
        if (entry["entry_no"], entry["previous_hash"]) != (place, before):
            yield f"{number}: it does not follow entry {place - 1}"
        self._last = entry
        self.entries += 1

    def _signed(self, entry: Row, signature: Row, manifest: Row, keys: Keys) -> Iterator[str]:
        seal = Seal(
            jurisdiction=manifest["jurisdiction"],
            outlet_id=entry["outlet_id"],
            fiscal_authority_id=manifest["fiscal_authority_id"],
            fiscal_number=entry["fiscal_number"],
            sequence=entry["series_no"],
            canonical_payload_hash=entry["canonical_payload_hash"],
            previous_hash=entry["previous_hash"],
            sealed_at=entry["sealed_at"],
            key_id=signature["key_id"],
        )
        signed = SignedEntry(
            seal,
            entry["entry_hash"],
            signature["signature"],
            signature["signature_alg"],
            signature["auth_code"],
        )
        key = keys.get(signature["key_id"])
        for finding in check_entry(signed, key, manifest["environment"]):
            yield f"{entry['fiscal_number']}: {finding.detail}"


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()
