"""The published files of sanctions lists, read into entries: OFAC SDN, UN consolidated, EU FSF.

A file that is not what it says it is, is refused whole: half a list would clear the other half.
"""

# ruff: noqa: S314 -- a document with a DOCTYPE, the way to entity attacks, is refused before parsing

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as Xml

from shared.errors import InvalidParameter

Row = dict[str, Any]

_YEAR: Final = re.compile(r"\b(1[89]\d\d|20\d\d)\b")
_DAY: Final = re.compile(r"(\d{4})-(\d{2})-(\d{2})")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """What one file holds. published_on: as the file says it, None when it does not."""

    published_on: str | None
    entries: list[Row]


def read_source(source: str, content: bytes) -> SourceFile:
    """The entries of a published file. InvalidParameter says what is wrong with it."""
    reader = _READERS.get(source)
    if reader is None:
        raise InvalidParameter(f"There is no list {source}; known are {', '.join(_READERS)}.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refused("it is not UTF-8") from None
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise _refused("it has a document type declaration, which these lists do not have")
    try:
        root = Xml.fromstring(text)
    except Xml.ParseError as broken:
        line, column = broken.position
        raise _refused(f"it is not well-formed XML at line {line}, column {column}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # the lists change their namespaces
    name, read = reader
    if root.tag != name:
        raise _refused(f"its root is {root.tag} and should be {name}")
    file = read(root)
    if not file.entries:
        raise _refused("it lists nobody")
    return file


def _refused(why: str) -> InvalidParameter:
    return InvalidParameter(
        f"This file was not imported: {why}.", errors=[{"pointer": "", "detail": why}]
    )


# OFAC, the file SDN.XML


def _read_ofac(root: Xml.Element) -> SourceFile:
    published = root.findtext("publshInformation/Publish_Date")  # their spelling
    entries = [_ofac_entry(entry) for entry in root.iter("sdnEntry")]
    declared = root.findtext("publshInformation/Record_Count")
    if declared is not None and declared.strip() != str(len(entries)):
        raise _refused(f"it says it has {declared} records and has {len(entries)}")
    return SourceFile(published, entries)


def _ofac_entry(entry: Xml.Element) -> Row:
    # A weak alias is one that OFAC itself does not expect anybody to screen (FAQ 122).
    strong = [aka for aka in entry.iter("aka") if aka.findtext("category") != "weak"]
    kinds = {"Individual": "person", "Entity": "organisation"}
    return _entry(
        ref=entry.findtext("uid"),
        kind=kinds.get(entry.findtext("sdnType") or "", "other"),
        names=[_ofac_name(entry), *(_ofac_name(aka) for aka in strong)],
        born=[_written_out(text) for text in _texts(entry, "dateOfBirthItem/dateOfBirth")],
        countries=[
            *_texts(entry, "nationality/country"),
            *_texts(entry, "citizenship/country"),
            *_texts(entry, "address/country"),
        ],
        documents=_texts(entry, "id/idNumber"),
    )


def _ofac_name(element: Xml.Element) -> str:
    return _joined(element.findtext("firstName"), element.findtext("lastName"))


def _written_out(text: str) -> str:
    """Give "07 Oct 1954" as 1954-10-07, "Oct 1954" as 1954-10, "circa 1961" as 1961."""
    for form, wanted in (("%d %b %Y", "%Y-%m-%d"), ("%b %Y", "%Y-%m")):
        try:
            return datetime.strptime(text.strip(), form).strftime(wanted)  # noqa: DTZ007  a day
        except ValueError:
            continue
    found = _YEAR.search(text)
    return found[0] if found else ""


# United Nations: consolidated.xml


def _read_un(root: Xml.Element) -> SourceFile:
    entries = [_un_entry(one, "INDIVIDUAL", "person") for one in root.iter("INDIVIDUAL")]
    entries += [_un_entry(one, "ENTITY", "organisation") for one in root.iter("ENTITY")]
    return SourceFile(root.get("dateGenerated"), entries)


def _un_entry(entry: Xml.Element, what: str, kind: str) -> Row:
    parts = ("FIRST_NAME", "SECOND_NAME", "THIRD_NAME", "FOURTH_NAME")
    return _entry(
        ref=entry.findtext("REFERENCE_NUMBER") or entry.findtext("DATAID"),
        kind=kind,
        names=[
            _joined(*(entry.findtext(part) for part in parts)),
            *_texts(entry, f"{what}_ALIAS/ALIAS_NAME"),
        ],
        born=[_un_birth(birth) for birth in entry.iter("INDIVIDUAL_DATE_OF_BIRTH")],
        countries=[*_texts(entry, "NATIONALITY/VALUE"), *_texts(entry, f"{what}_ADDRESS/COUNTRY")],
        documents=_texts(entry, "INDIVIDUAL_DOCUMENT/NUMBER"),
    )


def _un_birth(birth: Xml.Element) -> str:
    return _day_or_year(birth.findtext("DATE") or birth.findtext("YEAR") or "")


# European Union: FSF consolidated, schema 1.1


def _read_eu(root: Xml.Element) -> SourceFile:
    entries = [_eu_entry(entry) for entry in root.iter("sanctionEntity")]
    return SourceFile(root.get("generationDate"), entries)


def _eu_entry(entry: Xml.Element) -> Row:
    subject = entry.find("subjectType")
    code = subject.get("code") if subject is not None else None
    kinds = {"person": "person", "enterprise": "organisation"}
    return _entry(
        ref=entry.get("euReferenceNumber") or entry.get("logicalId"),
        kind=kinds.get(code or "", "other"),
        names=[_eu_name(alias) for alias in entry.iter("nameAlias")],
        born=[
            _day_or_year(birth.get("birthdate") or birth.get("year") or "")
            for birth in entry.iter("birthdate")
        ],
        countries=[
            element.get("countryIso2Code") or ""
            for tag in ("citizenship", "address")
            for element in entry.iter(tag)
        ],
        documents=[one.get("number") or "" for one in entry.iter("identification")],
    )


def _eu_name(alias: Xml.Element) -> str:
    parts = (alias.get(part) for part in ("firstName", "middleName", "lastName"))
    return (alias.get("wholeName") or _joined(*parts)).strip()


# What they have in common


def _entry(
    *,
    ref: str | None,
    kind: str,
    names: list[str],
    born: list[str],
    countries: list[str],
    documents: list[str],
) -> Row:
    row = {
        "ref": (ref or "").strip(),
        "kind": kind,
        "names": _once(names),
        "born": _once(born),
        "countries": _once([code for name in countries if (code := country_code(name))]),
        "documents": _once(documents),
    }
    if not row["ref"] or len(row["ref"]) > 64:
        raise _refused(f"an entry has no usable reference ({', '.join(row['names'])})")
    if not row["names"]:
        raise _refused(f"entry {row['ref']} has no name")
    return row


def _texts(element: Xml.Element, path: str) -> list[str]:
    return [found.text for found in element.iterfind(f".//{path}") if found.text]


def _joined(*parts: str | None) -> str:
    return " ".join(part.strip() for part in parts if part and part.strip())


def _once(values: list[str]) -> list[str]:
    return list(dict.fromkeys(text for value in values if (text := value.strip())))


def _day_or_year(text: str) -> str:
    day = _DAY.match(text)
    if day:
        return day[0]
    found = _YEAR.search(text)
    return found[0] if found else ""


def country_code(name: str) -> str | None:
    """ISO 3166-1 alpha-2 of a country as lists write it; None for what is no country we know."""
    plain = " ".join(name.split()).casefold()
    return plain.upper() if plain.upper() in _CODES else _BY_NAME.get(plain)


def _load() -> dict[str, str]:
    with Path(__file__).with_name("countries.csv").open(newline="", encoding="utf-8") as file:
        return {row["name"]: row["country"] for row in csv.DictReader(file)}


_BY_NAME: Final = _load()
_CODES: Final = frozenset(_BY_NAME.values())
_READERS: Final[dict[str, tuple[str, Callable[[Xml.Element], SourceFile]]]] = {
    "ofac": ("sdnList", _read_ofac),
    "un": ("CONSOLIDATED_LIST", _read_un),
    "eu": ("export", _read_eu),
}
