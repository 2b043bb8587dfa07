"""An audit archive: the files of a stretch of one chain, and everything that can be wrong with it.

entries.jsonl holds the chain, one entry a line with its document and signature; reports/ the Z
reports of it as they were sealed; keys.json the public keys; manifest.json what those three come to
and their SHA-256. The manifest says nothing that the other files do not prove, so whoever reads
them can write it again and compare.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.canonical import NotCanonical, canonical_hash
from shared.fiscal.chain import GENESIS
from shared.fiscal.proof import Keys, SignedEntry, check_entry
from shared.fiscal.rules import jurisdiction
from shared.fiscal.seal import Seal

FORMAT: Final = "stalela-audit-1"
ENTRIES: Final = "entries.jsonl"
KEYS: Final = "keys.json"
MANIFEST: Final = "manifest.json"
REPORTS: Final = "reports/"
# fiscal.credential_words: so long a terminal may hold numbers that nobody has seen yet.
_BLOCK_LASTS: Final = timedelta(hours=12)
_AMOUNTS: Final = ("subtotal", "total_tax", "total")

Json = Mapping[str, Any]


class Entry(BaseModel):
    """A line of entries.jsonl."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    entry_no: int
    record_type: str
    fiscal_number: str
    series_no: int
    sequence: int | None
    sealed_at: str
    canonical_payload_hash: str
    previous_hash: str
    entry_hash: str
    signature: dict[str, str] | None
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Place:
    """Whose chain it is: what every seal object of it names."""

    environment: str
    jurisdiction: str
    outlet_id: str
    fiscal_authority_id: str


@dataclass
class Contents:
    """What the entries come to; fed one by one, it keeps none."""

    place: Place
    entries: int = 0
    documents: int = 0
    unsigned: int = 0
    first: Entry | None = None
    last: Entry | None = None

    def add(self, entry: Entry) -> None:
        """Count one more."""
        self.entries += 1
        self.documents += entry.sequence is not None
        self.unsigned += entry.signature is None
        self.first = self.first or entry
        self.last = entry

    def manifest(self, files: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
        """manifest.json. files: the size and the SHA-256 of every other file, by its name."""
        place, first, last = self.place, self.first, self.last
        return {
            "format": FORMAT,
            "environment": place.environment,
            "jurisdiction": place.jurisdiction,
            "outlet_id": place.outlet_id,
            "fiscal_authority_id": place.fiscal_authority_id,
            "entry_count": self.entries,
            "document_count": self.documents,
            "unsigned_count": self.unsigned,
            "opening_hash": first.previous_hash if first else GENESIS,
            "head": _head(last) if last else None,
            "files": [
                {"name": name, "bytes": size, "sha256": digest}
                for name, (size, digest) in sorted(files.items())
            ],
        }


def _head(last: Entry) -> dict[str, Any]:
    names = ("entry_no", "fiscal_number", "sealed_at", "entry_hash", "signature")
    return last.model_dump(include=set(names))


@dataclass
class Sums:
    """What documents come to until a Z takes them, to compare with what the Z says."""

    begin_at: int = 1
    waiting: dict[int, tuple[bool, Json]] = field(default_factory=dict)

    def add(self, entry: Entry, payload: Json, country: str) -> None:
        """Keep what a Z adds up of one document."""
        kind = jurisdiction(country).invoice_types[entry.record_type]
        self.waiting[entry.entry_no] = (kind.is_credit, payload["totals"])

    def check(self, entry: Entry, z: Json) -> Iterator[str]:
        """What a Z says otherwise than its documents, when all of them are here."""
        covered = [no for no in self.waiting if z["first_entry"] <= no <= z["last_entry"]]
        found = [self.waiting.pop(no) for no in covered]
        if z["first_entry"] < self.begin_at:
            return  # its first documents are in the archive before this one
        if len(found) != z["invoice_count"]:
            yield f"{entry.fiscal_number}: is of {z['invoice_count']} documents, not {len(found)}"
        sums: dict[str, dict[tuple[str, str], Decimal]] = defaultdict(_zeros)
        for is_credit, totals in found:
            side, of_currency = "credits" if is_credit else "sales", sums[totals["currency"]]
            for name in _AMOUNTS:
                of_currency[side, name] += Decimal(totals[name])
        for row in z["grand_totals"]:
            of_currency = sums.pop(row["currency"], _zeros())
            for name in _AMOUNTS:
                sold, credited = of_currency["sales", name], of_currency["credits", name]
                due = {"sales": sold, "credits": credited, "net": sold - credited}
                if any(Decimal(row[side][name]) != amount for side, amount in due.items()):
                    what = f"its {name} in {row['currency']}"
                    yield f"{entry.fiscal_number}: {what} is not its documents'"
        if sums:
            yield f"{entry.fiscal_number}: leaves out {', '.join(sorted(sums))}"


def _zeros() -> dict[tuple[str, str], Decimal]:
    return defaultdict(Decimal)


@dataclass
class Numbers:
    """The numbers of one chain, series by series: 1, 2, 3, in whatever order they came.

    A chain without a gap may still lack a document: one that was given a number and never sealed.
    """

    # (series, last number of a run) -> its first number, and when that one was sealed
    runs: dict[tuple[str, int], tuple[int, datetime]] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Keep one more."""
        series = "documents" if entry.sequence is not None else entry.record_type
        run = self.runs.pop((series, entry.series_no - 1), (entry.series_no, _instant(entry)))
        self.runs.setdefault((series, entry.series_no), run)


def missing_numbers(parts: Iterable[Numbers], first: Entry, last: Entry) -> Iterator[str]:
    """The numbers that no entry from `first` to `last` has, which go on from each other.

    Those of a block that a terminal took shortly before the end may come yet, and those of one
    from before the beginning may make the numbers that were sealed meanwhile look missing.
    """
    is_whole = first.previous_hash == GENESIS
    begin, end = _instant(first), _instant(last)
    due: dict[str, int] = {}
    runs = [(*key, *run) for part in parts for key, run in part.runs.items()]
    for series, high, low, at in sorted(runs, key=lambda run: run[2]):
        wanted = due.get(series, 1 if is_whole else low)
        is_judged = series != "documents" or (
            end - at > _BLOCK_LASTS and (is_whole or at - begin > _BLOCK_LASTS)
        )
        if wanted < low and is_judged:
            others = f" to {low - 1}" if wanted < low - 1 else ""
            yield f"{series}: no entry has number {wanted}{others}"
        due[series] = max(wanted, high + 1)


def _instant(entry: Entry) -> datetime:
    return datetime.fromisoformat(entry.sealed_at).replace(tzinfo=UTC)  # it ends in Z


@dataclass
class Walk:
    """Walks the chain of an archive and says what is wrong, entry by entry."""

    place: Place
    keys: Keys
    before: Entry | None = None
    sums: Sums = field(default_factory=Sums)
    numbers: Numbers = field(default_factory=Numbers)

    def check(self, entry: Entry) -> Iterator[str]:
        """Everything that is wrong with the next entry."""
        name = entry.fiscal_number
        if self.before is None:
            self.sums.begin_at = entry.entry_no
        else:
            yield from self._link(entry, self.before)
        if entry.payload is None:
            yield f"{name}: its document is missing"
        else:
            yield from self._payload(entry, entry.payload)
        yield from self._seal(entry)
        if not name.endswith(f"-{entry.series_no:06d}"):
            yield f"{name}: is number {entry.series_no} in its series"
        self.numbers.add(entry)
        self.before = entry

    def _link(self, entry: Entry, before: Entry) -> Iterator[str]:
        if entry.entry_no != before.entry_no + 1:
            yield f"{entry.fiscal_number}: is entry {entry.entry_no} after {before.entry_no}"
        if entry.previous_hash != before.entry_hash:
            yield f"{entry.fiscal_number}: does not follow {before.fiscal_number}"
        if entry.sealed_at < before.sealed_at:
            yield f"{entry.fiscal_number}: is older than {before.fiscal_number}"

    def _payload(self, entry: Entry, payload: Json) -> Iterator[str]:
        try:
            computed = canonical_hash(payload)
        except NotCanonical as odd:
            yield f"{entry.fiscal_number}: the document has no canonical form: {odd}"
            return
        if computed != entry.canonical_payload_hash:
            yield f"{entry.fiscal_number}: the document's hash is {computed}"
            return
        # From here on what it says was sealed, and has the members that sealed documents have.
        yield from self._row(entry, payload)
        if entry.record_type in jurisdiction(self.place.jurisdiction).invoice_types:
            self.sums.add(entry, payload, self.place.jurisdiction)
        elif entry.record_type == "report_z":
            yield from self.sums.check(entry, payload)

    def _row(self, entry: Entry, payload: Json) -> Iterator[str]:
        """What stands beside the document and is in no hash."""
        is_document = "invoice_type" in payload
        kind = payload.get("invoice_type") or payload.get("record_type")
        due = (
            "report_z" if "report_type" in payload else kind,
            payload.get("outlet_id"),
            entry.series_no if is_document else None,
        )
        if due != (entry.record_type, self.place.outlet_id, entry.sequence):
            yield f"{entry.fiscal_number}: its row says something else than its document"

    def _seal(self, entry: Entry) -> Iterator[str]:
        if entry.signature is None:
            yield f"{entry.fiscal_number}: is not signed yet"
            return
        place, signature = self.place, entry.signature
        seal = Seal(
            jurisdiction=place.jurisdiction,
            outlet_id=place.outlet_id,
            fiscal_authority_id=place.fiscal_authority_id,
            fiscal_number=entry.fiscal_number,
            sequence=entry.series_no,
            canonical_payload_hash=entry.canonical_payload_hash,
            previous_hash=entry.previous_hash,
            sealed_at=entry.sealed_at,
            key_id=signature.get("key_id", ""),
        )
        signed = SignedEntry(
            seal,
            entry_hash=entry.entry_hash,
            signature=signature.get("signature", ""),
            signature_alg=signature.get("signature_alg", ""),
            auth_code=signature.get("auth_code", ""),
        )
        for finding in check_entry(signed, self.keys.get(seal.key_id), place.environment):
            yield f"{entry.fiscal_number}: {finding.detail}"


def read_entry(line: bytes) -> Entry:
    """One line. ValueError when it is none."""
    try:
        return Entry.model_validate_json(line)
    except ValidationError as invalid:
        raise ValueError(str(invalid.errors()[0]["msg"])) from None
