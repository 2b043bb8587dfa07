"""functions/compliance/sources.py: published lists as entries; a broken file is refused whole."""

from pathlib import Path
from typing import Any

import pytest

from functions.compliance.sources import country_code, read_source
from shared.errors import InvalidParameter

FIXTURES = Path(__file__).parents[3] / "fixtures/compliance"


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def entries(source: str, name: str) -> dict[str, dict[str, Any]]:
    """The entries of a fixture by reference."""
    return {entry["ref"]: entry for entry in read_source(source, fixture(name)).entries}


def refusal(content: bytes, source: str = "ofac") -> str:
    with pytest.raises(InvalidParameter) as caught:
        read_source(source, content)
    return caught.value.message


def test_ofac_gives_names_strong_aliases_births_countries_and_documents() -> None:
    listed = entries("ofac", "ofac_sdn.xml")

    assert listed["90001"] == {
        "ref": "90001",
        "kind": "person",
        "names": ["Anton Ilyich ORLOVSKI", "Anton ORLOVSKY"],
        "born": ["1954-10-07"],
        "countries": ["RU"],
        "documents": ["XZ 1234567"],
    }
    assert listed["90004"]["born"] == ["1961", "1962-03"]
    assert listed["90004"]["countries"] == ["CD"]
    assert [entry["kind"] for entry in listed.values()] == [
        "person",
        "organisation",
        "other",
        "person",
    ]


def test_the_united_nations_list_gives_the_same() -> None:
    listed = entries("un", "un_consolidated.xml")

    assert listed["CDi.901"] == {
        "ref": "CDi.901",
        "kind": "person",
        "names": ["SELEMANI ABDOU NGWENYA", "Sélémani Ngwénya"],
        "born": ["1971-08-22"],
        "countries": ["CD", "UG"],
        "documents": ["OB-0243318"],
    }
    assert listed["KPi.902"]["born"] == ["1966"]
    assert listed["KPe.903"]["names"][1] == "Silver Crane General Trading Corporation"


def test_the_european_list_gives_the_same() -> None:
    listed = entries("eu", "eu_fsf.xml")

    assert listed["EU.9001.11"] == {
        "ref": "EU.9001.11",
        "kind": "person",
        "names": ["Mirela Drăgușan", "Мирела Драгусан"],
        "born": ["1983-01-30"],
        "countries": ["MD"],
        "documents": ["A 00-112233"],
    }
    assert (listed["EU.9002.12"]["kind"], listed["EU.9002.12"]["countries"]) == (
        "organisation",
        ["ML"],
    )


@pytest.mark.parametrize(
    ("source", "name", "published_on"),
    [
        ("ofac", "ofac_sdn.xml", "11/20/2026"),
        ("un", "un_consolidated.xml", "2026-11-20T23:00:02.573-05:00"),
        ("eu", "eu_fsf.xml", "2026-11-20T15:03:21.000+01:00"),
    ],
)
def test_a_file_says_when_it_was_published(source: str, name: str, published_on: str) -> None:
    assert read_source(source, fixture(name)).published_on == published_on


def test_a_truncated_file_is_refused_with_its_place() -> None:
    assert "not well-formed XML at line 4" in refusal(fixture("ofac_sdn.xml")[:300])


def test_a_file_with_fewer_records_than_it_says_is_refused() -> None:
    short = fixture("ofac_sdn.xml").replace(b"<Record_Count>4", b"<Record_Count>5")

    assert "says it has 5 records and has 4" in refusal(short)


def test_a_file_of_another_list_is_refused() -> None:
    assert "its root is export and should be sdnList" in refusal(fixture("eu_fsf.xml"))


def test_a_document_type_is_refused_before_anything_expands() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "cc">]><sdnList>&b;</sdnList>'

    assert "document type declaration" in refusal(bomb)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff\xfe<\x00", "not UTF-8"),
        (b"", "not well-formed XML at line 1"),
        (b"<sdnList/>", "it lists nobody"),
        (b"<sdnList><sdnEntry><lastName>X</lastName></sdnEntry></sdnList>", "no usable reference"),
        (b"<sdnList><sdnEntry><uid>7</uid></sdnEntry></sdnList>", "entry 7 has no name"),
    ],
)
def test_what_is_no_list_is_refused(content: bytes, why: str) -> None:
    assert why in refusal(content)


def test_a_list_that_nobody_publishes_is_refused() -> None:
    assert "There is no list mars" in refusal(b"", "mars")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Kenya", "KE"),
        ("KE", "KE"),
        ("Congo, Democratic Republic of the", "CD"),
        ("Iran (Islamic  Republic of)", "IR"),
        ("Atlantis", None),
        ("00", None),
    ],
)
def test_countries_are_read_as_lists_write_them(name: str, code: str | None) -> None:
    assert country_code(name) == code
