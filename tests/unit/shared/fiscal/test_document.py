from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from shared.fiscal.document import Document

Json = dict[str, Any]
Make = Callable[..., Json]


def test_text_is_composed_and_trimmed_at_the_edge(invoice: Make) -> None:
    client = {"classification": "CommercialIndividual", "name": "  Ho\u0302pital  "}

    document = Document.model_validate(invoice(client=client))

    assert document.client.name == "H\u00f4pital"
    assert document.client.classification == "commercial_individual"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"quantity": 1}, "string"),
        ({"quantity": "0"}, "more than zero"),
        ({"quantity": "1e3"}, "decimal string"),
        ({"quantity": "1.1234567"}, "at most 6 decimals"),
        ({"quantity": "+1"}, "decimal string"),
        ({"unit_price": "-1.00"}, "not be negative"),
        ({"unit_price": "-0.00"}, "zero has no sign"),
        ({"unit_price": "01.00"}, "decimal string"),
        ({"unit_price": "1" * 16}, "15 digits"),
        ({"discount_percent": "100.01"}, "at most 100"),
        ({"hs_code": "12"}, "pattern"),
        ({"unit": None}, "unit is null"),
        ({"colour": "red"}, "Extra inputs"),
        ({"description": "tab\tinside"}, "control characters"),
        ({"description": "read \u202e001"}, "turn the direction"),
        ({"description": "half a \ud800 character"}, "control characters|surrogate|unicode"),
    ],
)
def test_line_that_is_not_understood(item: Json, words: str, invoice: Make) -> None:
    with pytest.raises(ValidationError, match=words):
        Document.model_validate(invoice(item))


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-02-17T04:00:00+01:00",
        "2026-02-17T04:00:00.5Z",
        "2026-02-30T04:00:00Z",
        "2026-2-17T4:00:00Z",
        "\uff12026-02-17T04:00:00Z",
    ],
)
def test_time_is_utc_in_whole_seconds(timestamp: str, invoice: Make) -> None:
    with pytest.raises(ValidationError, match="whole seconds"):
        Document.model_validate(invoice(timestamp=timestamp))


def test_notes_may_have_lines(invoice: Make) -> None:
    assert Document.model_validate(invoice(notes="one\ntwo")).notes == "one\ntwo"


def test_example_is_of_a_day_on_which_it_can_be_sealed() -> None:
    (example,) = Document.model_json_schema()["examples"]

    age = datetime.now(UTC) - Document.model_validate(example).at

    assert timedelta() <= age < timedelta(days=2)
