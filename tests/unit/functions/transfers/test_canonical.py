"""functions/transfers/canonical.py: what is typed differently and means the same."""

from hashlib import sha256
from typing import Any

import pytest
from pydantic import ValidationError

from functions.transfers.canonical import canonical
from functions.transfers.models import CreateTransfer
from shared.errors import InvalidAmount, InvalidRequest, PhoneInvalid

BODY: dict[str, Any] = {
    "intent": "PULL",
    "amount": "250.00",
    "currency": "KES",
    "payer": {"type": "MOBILE_MONEY", "id": "0712345678", "provider": "mpesa"},
    "metadata": {"till": "4"},
}


def body_hash(**changes: Any) -> str:
    return canonical(CreateTransfer(**BODY | changes)).body_hash


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": " 250 "},
        {"amount": "250.0"},
        {"currency": "kes"},
        {"external_ref": "  "},
        {"description": ""},
        {"metadata": {"till": " 4 ", "note": ""}},
        {"payer": {"type": "MOBILE_MONEY", "id": " +254 712 345 678 ", "provider": "mpesa"}},
        {"rail_hints": []},
    ],
)
def test_the_same_transfer_typed_differently_has_the_same_hash(changes: dict[str, Any]) -> None:
    assert body_hash(**changes) == body_hash()


@pytest.mark.parametrize(
    "changes",
    [
        {"amount": "250.01"},
        {"external_ref": "a"},
        {"metadata": {"till": "5"}},
        {"payer": {"type": "MOBILE_MONEY", "id": "0712345679", "provider": "mpesa"}},
    ],
)
def test_another_transfer_has_another_hash(changes: dict[str, Any]) -> None:
    assert body_hash(**changes) != body_hash()


def test_the_hash_is_that_of_the_sorted_compact_form() -> None:
    form = (
        '{"amount":"250.00","currency":"KES","intent":"PULL","metadata":{"till":"4"},'
        '"payer":{"id":"+254712345678","provider":"mpesa","type":"MOBILE_MONEY"}}'
    )

    assert body_hash() == sha256(form.encode()).hexdigest()


def test_a_push_is_about_its_payee_and_the_hint_names_the_rail() -> None:
    payee = {"type": "MOBILE_MONEY", "id": "0712345612"}
    wanted = BODY | {"intent": "PUSH", "payer": None, "payee": payee, "rail_hints": [" mpesa "]}

    made = canonical(CreateTransfer(**wanted))

    assert (made.rail, made.phone, made.amount.minor) == ("mpesa", "+254712345612", 25_000)


def test_where_no_rail_is_named_the_directory_chooses() -> None:
    payer = {"type": "MOBILE_MONEY", "id": "0712345678"}

    assert canonical(CreateTransfer(**BODY | {"payer": payer})).rail is None


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"amount": "250.005"}, InvalidAmount),
        ({"amount": "0.00"}, InvalidAmount),
        ({"payer": {"type": "MOBILE_MONEY", "id": "12", "provider": "mpesa"}}, PhoneInvalid),
        ({"payer": {"type": "BANK", "id": "0712345678"}}, InvalidRequest),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        canonical(CreateTransfer(**BODY | changes))


@pytest.mark.parametrize(
    "changes", [{"payer": None}, {"target_currency": "USD"}, {"colour": "red"}, {"intent": "GIVE"}]
)
def test_a_body_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CreateTransfer(**BODY | changes)
