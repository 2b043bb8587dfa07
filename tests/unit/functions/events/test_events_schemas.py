"""Every type of event has a schema, and every schema is of a type that something emits."""

import csv
import json
import re
from typing import Any

import jsonschema_rs
import pytest

from scripts.stack.places import ROOT

CATALOGUE: dict[str, Any] = json.loads((ROOT / "functions/events/events.json").read_text())
EXAMPLE = {
    "id": "evt_01kaj3vxhbfeasgnw4k6x1c2pd",
    "type": "payment_intent.succeeded",
    "api_version": "2026-11-21",
    "livemode": False,
    "timestamp": "2026-11-21T08:00:22.735179Z",
    "data": {
        "payment_intent_id": "pi_01kaj3v7wvf4fr8mnp5sye2s6k",
        "sequence": 2,
        "status": "succeeded",
        "amount": "100.00",
        "currency": "KES",
    },
}


def listed() -> dict[str, str]:
    """The types a merchant can hear of, and their versions."""
    with (ROOT / "shared/webhooks/webhooks.event_types.csv").open(newline="") as file:
        return {row["type"]: row["api_version"] for row in csv.DictReader(file)}


def emitted() -> set[str]:
    """The types that some transition or some function of `sql/` names."""
    found = set[str]()
    for path in (ROOT / "shared/states").glob("*_transitions.csv"):
        with path.open(newline="") as file:
            found |= {row["event_type"] for row in csv.DictReader(file)}
    families = {name.partition(".")[0] for name in listed()}
    literal = re.compile(rf"'((?:{'|'.join(families)})\.[a-z_.]+)'")
    for path in (ROOT / "sql").glob("*/functions/*.sql"):
        # An audit entry or an alert is named alike, and is no event.
        text = re.sub(r"public\.(audit\w*|raise_alert)\([^)]*", "", path.read_text())
        found |= set(literal.findall(text))
    return found


def test_every_type_that_is_emitted_is_listed_and_every_listed_one_is_emitted() -> None:
    assert emitted() == set(listed())


def test_every_listed_type_has_a_schema_in_its_version_and_no_other_has() -> None:
    schemas = {name for name in CATALOGUE["$defs"] if "@" in name}

    assert schemas == {f"{name}@{version}" for name, version in listed().items()}
    assert [part["$ref"] for part in CATALOGUE["oneOf"]] == [
        f"#/$defs/{name}" for name in CATALOGUE["$defs"] if name in schemas
    ]


def test_catalogue_is_a_valid_schema() -> None:
    jsonschema_rs.meta.validate(CATALOGUE)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"data": EXAMPLE["data"] | {"added_later": 1}},  # type: ignore[operator]
    ],
)
def test_event_is_recognised(change: dict[str, object]) -> None:
    assert validator().is_valid(EXAMPLE | change)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "payment_intent.exploded"},
        {"api_version": "2020-01-01"},
        {"id": "evt_1"},
        {"timestamp": "yesterday"},
        {"livemode": "no"},
        {"data": {}},
        {"data": EXAMPLE["data"] | {"amount": 100.0}},  # type: ignore[operator]
        {"data": EXAMPLE["data"] | {"status": "done"}},  # type: ignore[operator]
    ],
)
def test_what_is_no_event_is_told_from_one(change: dict[str, object]) -> None:
    assert not validator().is_valid(EXAMPLE | change)


def validator() -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(CATALOGUE, validate_formats=True)
