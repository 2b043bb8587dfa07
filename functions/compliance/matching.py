"""How alike a party and a listed entry are: a score from 0 to 100, and an index that finds both.

A score is the likeness of the two names, corrected by what is known of birth and country:

    likeness of names   0 to 100, whatever the order of words, their case, accents, titles
    born                same day +10, same year +5, more than a year apart -20
    country             one in common +5, none in common -10
    document            the same number is the same person: 100, whatever the name

What nobody knows changes nothing. Pure functions and one value; no I/O.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from rapidfuzz import fuzz, process

MATCHES_MAX: Final = 20  # more than a person would read
# Below this, two names have little in common but letters.
_RELATED: Final = 50.0
# Names that differ in a letter may be two people's: a person looks, unless birth or country agree.
_DIFFERENT_AT_MOST: Final = 89.0
# A word that the other name lacks, as a middle name: the rest alone can be no certain match.
_MISSING_WORD: Final = 12.0
_SAME_DAY, _SAME_YEAR, _OTHER_YEAR = 10, 5, -20
_SAME_COUNTRY, _OTHER_COUNTRY = 5, -10
_NOT_A_NAME: Final = frozenset(
    "mr mrs ms miss dr prof hon sir lady bwana bi mheshimiwa "  # noqa: SIM905  a list to read
    "ltd limited co company inc incorporated corp corporation plc llc gmbh sa sarl bv the".split()
)
_WORDS: Final = re.compile(r"[^\W_]+")


@dataclass(frozen=True, slots=True)
class Party:
    """Who is compared. born: "1962", "1962-03" or "1962-03-14"; country: ISO 3166-1 alpha-2."""

    name: str = field(repr=False)
    born: str | None = field(default=None, repr=False)
    country: str | None = None
    document: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Entry:
    """Who is listed. since: the version of the index that brought it as it reads here."""

    source: str
    ref: str
    names: tuple[str, ...]
    born: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    kind: str = "person"
    since: int = 0

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Entry":
        """An entry of compliance.read_index."""
        return cls(
            row["source"],
            row["ref"],
            tuple(row["names"]),
            tuple(row["born"]),
            tuple(row["countries"]),
            tuple(row["documents"]),
            row["kind"],
            row["since"],
        )

    @property
    def key(self) -> str:
        """As exemptions name it."""
        return f"{self.source}:{self.ref}"


class Thresholds(NamedTuple):
    """From which score a person must look, and from which nobody need."""

    hold_from: int = 75
    deny_from: int = 90

    def decide(self, score: int) -> str:
        """Give clear, hold or deny."""
        if score >= self.deny_from:
            return "deny"
        return "hold" if score >= self.hold_from else "clear"


@dataclass(frozen=True, slots=True)
class Match:
    """One entry that a party resembles, and why."""

    entry: Entry
    name: str  # of the entry, the one that is most alike
    score: int
    reasons: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What is kept with a result: it quotes the list, never the party."""
        return {
            "source": self.entry.source,
            "ref": self.entry.ref,
            "name": self.name,
            "score": self.score,
            "reasons": list(self.reasons),
        }


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name in alphabetical order, each once: no accents, case, titles or forms."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    found = set(_WORDS.findall(letters.replace("'", "").replace("\u2019", "")))
    # A name that is nothing but such words keeps them.
    return tuple(sorted(found - _NOT_A_NAME or found))


def canonical(name: str) -> str:
    """The words of a name as one text, equal for names that differ in nothing that counts."""
    return " ".join(words_of(name))


def document_of(number: str) -> str:
    """A document number without its spaces and dashes."""
    return "".join(_WORDS.findall(number.casefold()))


def likeness(one: str, other: str) -> float:
    """How alike two canonical names are, 0 to 100; symmetric, 100 for the same words."""
    if not one or not other or fuzz.token_ratio(one, other) < _RELATED:
        return 0.0
    if one == other:
        return 100.0
    best = max(fuzz.ratio(one, other), _word_by_word(one.split(), other.split()))
    return min(best, _DIFFERENT_AT_MOST)


def _word_by_word(one: list[str], other: list[str]) -> float:
    """Each word of the shorter name beside its best counterpart; the worst pair weighs half."""
    if len(one) == len(other):
        return min(_paired(one, other), _paired(other, one))
    shorter, longer = sorted((one, other), key=len)
    if len(shorter) < 2:
        return 0.0  # one word is shared by far too many
    return _paired(shorter, longer) - _MISSING_WORD * (len(longer) - len(shorter))


def _paired(words: list[str], others: list[str]) -> float:
    best = [max(fuzz.ratio(word, other) for other in others) for word in words]
    return (sum(best) / len(best) + min(best)) / 2


def compare(party: Party, entry: Entry) -> Match | None:
    """The match, None when neither name nor document has anything in common."""
    return _compare(party, canonical(party.name), entry, [canonical(name) for name in entry.names])


def _compare(party: Party, ours: str, entry: Entry, theirs: Sequence[str]) -> Match | None:
    if party.document and document_of(party.document) in map(document_of, entry.documents):
        return Match(entry, entry.names[0], 100, ("document",))
    by_name = [
        (likeness(ours, their), name) for their, name in zip(theirs, entry.names, strict=True)
    ]
    best, name = max(by_name, key=lambda pair: pair[0])
    if best == 0.0:
        return None
    corrections = {
        "born": _by_birth(party.born, entry.born),
        "country": _by_country(party.country, entry.countries),
    }
    score = round(best + sum(corrections.values()))
    reasons = ("name", *(f"{what} {by:+d}" for what, by in corrections.items() if by))
    return Match(entry, name, max(0, min(100, score)), reasons)


def _by_birth(ours: str | None, theirs: Collection[str]) -> int:
    if not ours or not theirs:
        return 0
    return max(_of_one_birth(ours, one) for one in theirs)


def _of_one_birth(ours: str, theirs: str) -> int:
    if ours == theirs and len(ours) == len("1962-03-14"):
        return _SAME_DAY
    apart = abs(int(ours[:4]) - int(theirs[:4]))
    if apart == 0:
        # A list that knows only the year cannot say more; two different days say something else.
        return _SAME_YEAR if min(len(ours), len(theirs)) < len("1962-03-14") else 0
    return 0 if apart == 1 else _OTHER_YEAR


def _by_country(ours: str | None, theirs: Collection[str]) -> int:
    if not ours or not theirs:
        return 0
    return _SAME_COUNTRY if ours in theirs else _OTHER_COUNTRY


class Index:
    """The listed, ready to be searched: about 20 ms for a list of 40,000 names."""

    def __init__(self, entries: Iterable[Entry], version: int) -> None:
        self.version = version
        self.entries = tuple(entries)
        self._canonical = [[canonical(name) for name in entry.names] for entry in self.entries]
        self._names = [name for names in self._canonical for name in names]
        self._places = [n for n, names in enumerate(self._canonical) for _ in names]
        self._documents: dict[str, list[int]] = {}
        for number, entry in enumerate(self.entries):
            for document in entry.documents:
                self._documents.setdefault(document_of(document), []).append(number)
        self._younger: dict[int, Index] = {}

    def younger_than(self, version: int) -> "Index":
        """What came or changed after `version`: all that somebody clear then must be held to."""
        if version not in self._younger:
            self._younger = {
                version: Index((e for e in self.entries if e.since > version), self.version)
            }
        return self._younger[version]

    def search(
        self, party: Party, thresholds: Thresholds, exempt: Collection[str] = ()
    ) -> list[Match]:
        """Every entry that is held or denied, the most alike first."""
        ours = canonical(party.name)
        found = [
            match
            for number in self._candidates(party, ours)
            if (match := _compare(party, ours, self.entries[number], self._canonical[number]))
            and match.score >= thresholds.hold_from
            and match.entry.key not in exempt
        ]
        found.sort(key=lambda match: (-match.score, match.entry.source, match.entry.ref))
        return found[:MATCHES_MAX]

    def _candidates(self, party: Party, ours: str) -> list[int]:
        numbers: set[int] = set()
        if party.document:
            numbers.update(self._documents.get(document_of(party.document), ()))
        if ours:
            hits = process.extract_iter(
                ours, self._names, scorer=fuzz.token_ratio, processor=None, score_cutoff=_RELATED
            )
            numbers.update(self._places[place] for _, _, place in hits)
        return sorted(numbers)
