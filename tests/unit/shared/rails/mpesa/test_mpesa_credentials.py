"""Daraja credentials: parsed strictly, shown without secrets."""

import json

import pytest

from shared.errors import InvalidRequest
from shared.rails.mpesa.credentials import read_credentials
from tests.unit.shared.rails.mpesa import initiators
from tests.unit.shared.rails.mpesa.initiators import PASSWORD

DOCUMENT = {
    "consumer_key": "consumer-key-of-an-app",
    "consumer_secret": "hush-secret",
    "passkey": "hush-passkey",
    "shortcode": "600123",
}


def document(**changes: object) -> bytes:
    return json.dumps(DOCUMENT | changes).encode()


def test_masked_shows_numbers_and_no_secret() -> None:
    till = read_credentials(document(type="till", till_number="412345"))

    assert till.masked() == {
        "consumer_key": "******-app",
        "consumer_secret": "******",
        "passkey": "******",
        "shortcode": "600123",
        "type": "till",
        "till_number": "412345",
    }
    assert "hush" not in repr(till)


def test_a_short_key_is_hidden_whole() -> None:
    assert read_credentials(document(consumer_key="abcd")).masked()["consumer_key"] == "******"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"shortcode": "hush"}, "/shortcode"),
        ({"shortcode": 600123}, "/shortcode"),
        ({"shortcode": "0600123"}, "/shortcode"),
        ({"passkey": ""}, "/passkey"),
        ({"consumer_key": None}, "/consumer_key"),
        ({"type": "hush"}, "/type"),
        ({"hush": "x"}, "/hush"),
        ({"type": "till"}, ""),
        ({"till_number": "412345"}, ""),
    ],
)
def test_malformed_is_refused_by_field_without_its_value(
    changes: dict[str, object], pointer: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_credentials(document(**changes))

    assert [error["pointer"] for error in caught.value.errors] == [pointer]
    assert "hush" not in str([error["detail"] for error in caught.value.errors])


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        read_credentials(b"hush")


def test_an_initiator_is_shown_by_name_and_nothing_else() -> None:
    shown = read_credentials(initiators.document(b2c_shortcode="600999")).masked()

    assert (shown["initiator_name"], shown["initiator_password"]) == ("acaciaapi", "******")
    assert shown["b2c_shortcode"] == "600999"
    assert "certificate" not in shown
    assert PASSWORD not in str(shown)


@pytest.mark.parametrize("missing", ["initiator_name", "initiator_password", "certificate"])
def test_an_initiator_is_given_whole_or_not_at_all(missing: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_credentials(initiators.document(**{missing: None}))

    assert "given together" in str(caught.value.errors)
    assert PASSWORD not in str(caught.value.errors)
