"""Laws of matching: what must hold for every name, birth and list."""

from hypothesis import given
from hypothesis import strategies as st

from functions.compliance.matching import (
    Entry,
    Index,
    Party,
    Thresholds,
    canonical,
    compare,
    likeness,
)

THRESHOLDS = Thresholds()
RANK = {"clear": 0, "hold": 1, "deny": 2}

words = st.text("abcdefghijklmnopqrstuvwxyzäéøñçşżшжюя", min_size=1, max_size=12)
names = st.lists(words, min_size=1, max_size=5).map(" ".join)
births = st.dates().map(lambda day: f"{max(day.year, 1900):04}-{day:%m-%d}")
countries = st.sampled_from(["KE", "UG", "CD", "RU", "FR"])
parties = st.builds(
    Party, names, st.none() | births, st.none() | countries, st.none() | st.just("AB 123")
)
entries = st.builds(
    Entry,
    st.just("ofac"),
    st.text("0123456789", min_size=1, max_size=6),
    st.lists(names, min_size=1, max_size=3).map(tuple),
    st.lists(births, max_size=2).map(tuple),
    st.lists(countries, max_size=2).map(tuple),
    st.lists(st.sampled_from(["ab-123", "XY9"]), max_size=1).map(tuple),
    since=st.integers(1, 3),
)
lists = st.lists(entries, max_size=8, unique_by=lambda entry: entry.ref)


def score(party: Party, entry: Entry) -> int:
    match = compare(party, entry)
    return match.score if match else 0


def worst(party: Party, listed: list[Entry]) -> str:
    found = Index(listed, 1).search(party, THRESHOLDS)
    return THRESHOLDS.decide(found[0].score if found else 0)


@given(names, names)
def test_likeness_is_symmetric_and_a_percentage(one: str, other: str) -> None:
    one, other = canonical(one), canonical(other)

    assert likeness(one, other) == likeness(other, one)
    assert 0 <= likeness(one, other) <= 100


@given(names, st.randoms(use_true_random=False))
def test_order_case_and_punctuation_of_words_do_not_count(name: str, random: object) -> None:
    shuffled = name.split()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    written = ",  ".join(word.upper() for word in shuffled)

    assert canonical(written) == canonical(name.upper())


@given(parties)
def test_whoever_is_listed_by_name_alone_is_denied(party: Party) -> None:
    assert worst(Party(party.name), [Entry("un", "1", (party.name,))]) == "deny"


@given(parties, names)
def test_whoever_is_listed_by_document_is_denied_under_any_name(party: Party, name: str) -> None:
    known = Party(party.name, party.born, party.country, "ab123")

    assert worst(known, [Entry("un", "1", (name,), documents=("AB-123",))]) == "deny"


@given(parties, entries)
def test_a_score_is_a_percentage(party: Party, entry: Entry) -> None:
    assert 0 <= score(party, entry) <= 100


@given(names, entries, births)
def test_the_same_birthday_never_lowers_a_score(name: str, entry: Entry, born: str) -> None:
    corroborated = Entry(entry.source, entry.ref, entry.names, (*entry.born, born))
    silent = Entry(entry.source, entry.ref, entry.names)

    assert score(Party(name, born), corroborated) >= score(Party(name, born), silent)


@given(names, entries)
def test_another_year_of_birth_and_country_never_raise_a_score(name: str, entry: Entry) -> None:
    other = Entry(entry.source, entry.ref, entry.names, ("1900",), ("FR",))
    silent = Entry(entry.source, entry.ref, entry.names)
    party = Party(name, "1990-01-01", "KE")

    assert score(party, other) <= score(party, silent)


@given(parties, lists, entries)
def test_a_longer_list_never_clears_anybody(
    party: Party, listed: list[Entry], another: Entry
) -> None:
    listed = [entry for entry in listed if entry.ref != another.ref]

    assert RANK[worst(party, [*listed, another])] >= RANK[worst(party, listed)]


@given(parties, lists)
def test_the_index_finds_exactly_what_comparing_with_everybody_finds(
    party: Party, listed: list[Entry]
) -> None:
    found = {match.entry.ref: match.score for match in Index(listed, 1).search(party, THRESHOLDS)}

    assert found == {
        entry.ref: score(party, entry)
        for entry in listed
        if score(party, entry) >= THRESHOLDS.hold_from
    }


@given(parties, lists)
def test_clear_of_the_old_and_clear_of_the_new_is_clear_of_all(
    party: Party, listed: list[Entry]
) -> None:
    # What the delta rests on: whoever was clear at version 1 meets only younger entries.
    index = Index(listed, 3)
    old = Index([entry for entry in listed if entry.since <= 1], 1)

    separately = old.search(party, THRESHOLDS) + index.younger_than(1).search(party, THRESHOLDS)

    assert {match.entry.ref for match in separately} == {
        match.entry.ref for match in index.search(party, THRESHOLDS)
    }


@given(parties, lists)
def test_an_exempt_entry_is_never_a_match(party: Party, listed: list[Entry]) -> None:
    exempt = {entry.key for entry in listed}

    assert Index(listed, 1).search(party, THRESHOLDS, exempt) == []


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_higher_score_never_decides_more_kindly(one: int, other: int) -> None:
    lower, higher = sorted((one, other))

    assert RANK[THRESHOLDS.decide(lower)] <= RANK[THRESHOLDS.decide(higher)]
