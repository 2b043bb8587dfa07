"""The chain of an outlet, checked here and not by the database."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from shared.fiscal.chain import GENESIS, entry_hash
from shared.fiscal.seal import Seal
from shared.signing.verification import is_signed
from tests.support.house import House

Row = dict[str, Any]


def broken_links(house: House, chain: list[Row]) -> list[str]:
    """Everything that is wrong with a chain: a sentence each, starting with the entry's number."""
    keys = {row["key_id"]: row for row in house.books.rows("select * from signing.keys")}
    found, previous, documents = [], GENESIS, 0
    for number, row in enumerate(chain, start=1):
        documents += row["sequence"] is not None
        found += [f"{row['fiscal_number']} {what}" for what in _wrong(row, keys, previous)]
        if row["entry_no"] != number or row["sequence"] not in (None, documents):
            found.append(f"{row['fiscal_number']} is not number {documents} at place {number}")
        previous = row["entry_hash"]
    return found


def _wrong(row: Row, keys: dict[str, Row], previous: str) -> Iterator[str]:
    payload_hash = sha256(row["payload"].encode()).hexdigest()
    if row["previous_hash"] != previous:
        yield "does not follow the entry before"
    if payload_hash != row["canonical_payload_hash"]:
        yield "has another payload than was sealed"
    if row["entry_hash"] != entry_hash(
        row["fiscal_number"], row["canonical_payload_hash"], row["sealed_at"], row["previous_hash"]
    ):
        yield "has another entry hash"
    if row["signature"] is None:
        yield "has no signature"
    elif not _is_signed_by(keys[row["key_id"]], row):
        yield f"is not signed by {row['key_id']}"


def _is_signed_by(key: Row, row: Row) -> bool:
    seal = Seal(
        jurisdiction=key["jurisdiction"],
        outlet_id=row["outlet_id"],
        fiscal_authority_id=row["fiscal_authority_id"],
        fiscal_number=row["fiscal_number"],
        sequence=row["series_no"],
        canonical_payload_hash=row["canonical_payload_hash"],
        previous_hash=row["previous_hash"],
        sealed_at=row["sealed_at"],
        key_id=row["key_id"],
    )
    return is_signed(seal.digest(), row["signature"], key["alg"], key["public_key_spki"])
