"""Whether a document is in a published anchor, from the proof's file and the keys alone.

The way: the entry's own hash; up the tree of its chain's day to `entries_root` in the head; up the
tree of all heads to the root in the anchor; the anchor's signature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.canonical import canonical_bytes
from shared.fiscal.chain import entry_hash
from shared.fiscal.merkle import root_along
from shared.fiscal.proof import PublishedKey
from shared.fiscal.statements import Statement


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class _Entry(_Part):
    fiscal_number: str
    entry_no: int
    canonical_payload_hash: str
    sealed_at: str
    previous_hash: str
    entry_hash: str


class _Head(_Part):
    entries_root: str
    entry_hash: str
    entry_no: int
    from_entry: int
    outlet_id: str


class _Anchor(_Part):
    statement: dict[str, Any]
    key_id: str
    signature: str


class _File(_Part):
    entry: _Entry
    entry_path: list[str]
    head: _Head
    head_no: int
    head_path: list[str]
    anchor: _Anchor


@dataclass(frozen=True, slots=True)
class Place:
    """What a proof proves: this entry of this chain stood there on this day."""

    outlet_id: str
    entry_no: int
    entry_hash: str
    anchored_on: str


class NotIncluded(ValueError):
    """The proof does not hold; the sentence says where it breaks."""


def prove_inclusion(proof: object, keys: Mapping[str, PublishedKey]) -> Place:
    """What GET /integrity/proofs/{fiscal_number} proves. Raises NotIncluded where it does not."""
    try:
        file = _File.model_validate(proof)
        entry_path, head_path = _hashes(file.entry_path), _hashes(file.head_path)
    except (ValidationError, ValueError) as odd:
        raise NotIncluded("this is not a proof of inclusion") from odd
    entry, head, said = file.entry, file.head, file.anchor.statement
    computed = entry_hash(
        entry.fiscal_number, entry.canonical_payload_hash, entry.sealed_at, entry.previous_hash
    )
    if computed != entry.entry_hash:
        raise NotIncluded(f"the entry's hash is {computed}")
    place, size = entry.entry_no - head.from_entry, head.entry_no - head.from_entry + 1
    day = root_along(bytes.fromhex(entry.entry_hash), place, size, entry_path)
    if day is None or day.hex() != head.entries_root:
        raise NotIncluded("the entry is not among those of its chain's day")
    leaf = canonical_bytes(head.model_dump())
    root = root_along(leaf, file.head_no - 1, _size(said), head_path)
    if root is None or root.hex() != said.get("root") or said.get("kind") != "anchor":
        raise NotIncluded("the chain's head is not among those of the anchor")
    _check_signature(file.anchor, keys)
    return Place(head.outlet_id, entry.entry_no, entry.entry_hash, str(said.get("anchored_on")))


def _check_signature(anchor: _Anchor, keys: Mapping[str, PublishedKey]) -> None:
    key, said = keys.get(anchor.key_id), anchor.statement
    if key is None:
        raise NotIncluded(f"{anchor.key_id} is not among the published keys")
    if (key.jurisdiction, key.environment) != (said.get("jurisdiction"), said.get("environment")):
        raise NotIncluded(f"{anchor.key_id} is a key of another place")
    statement = Statement(said, anchor.key_id, anchor.signature)
    if not statement.is_signed_by(key.alg, key.public_key.spki):
        raise NotIncluded(f"{anchor.key_id} did not sign the anchor")


def _size(said: Mapping[str, Any]) -> int:
    size = said.get("size")
    return size if isinstance(size, int) else 0


def _hashes(path: list[str]) -> list[bytes]:
    return [bytes.fromhex(node) for node in path]
