"""Payers' phones: every form people type, and nothing else."""

import subprocess
import sys

import pytest

from shared.errors import PhoneInvalid
from shared.masking import mask_phone
from shared.phones import parse_payer_phone


@pytest.mark.parametrize(
    "typed",
    [
        "0712345678",
        "0712 345 678",
        "0712-345-678",
        "(0712) 345678",
        " 0712345678\n",
        "+254712345678",
        "+254 712 345 678",
        "+254 (0) 712 345 678",
        "254712345678",
        "254-712-345678",
        "712345678",
    ],
)
def test_every_usual_form_becomes_e164(typed: str) -> None:
    assert parse_payer_phone(typed) == "+254712345678"


def test_numbers_starting_with_01_are_mobile() -> None:
    assert parse_payer_phone("0110 345678") == "+254110345678"


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "abc",
        "07123",
        "0712345678901",
        "0202345678",  # a landline in Nairobi
        "+255712345678",  # Tanzania
        "+14155550123",
        "0712345678; drop",
        "0712ABCDEF",
        "٠٧١٢٣٤٥٦٧٨",  # digits of another script
        "0712345678 ext 5",
        "9" * 10_000,
    ],
)
def test_anything_else_is_refused_by_rule_without_its_text(typed: str) -> None:
    with pytest.raises(PhoneInvalid) as caught:
        parse_payer_phone(typed)

    assert caught.value.message == (
        "phone is not a Kenyan mobile number (accepted: 07…, 01…, +254…, 254…)"
    )
    assert caught.value.errors[0]["pointer"] == "/payment_method/phone"


def test_the_caller_names_the_field() -> None:
    with pytest.raises(PhoneInvalid) as caught:
        parse_payer_phone("1", pointer="/phone")

    assert caught.value.errors[0]["pointer"] == "/phone"


def test_mask_shows_country_and_last_two_digits() -> None:
    assert mask_phone("+254712345678") == "+2547******78"


def test_importing_phones_does_not_load_the_numbering_plans() -> None:
    code = "import sys, shared.phones; print('phonenumbers' in sys.modules)"

    printed = subprocess.run(  # noqa: S603  our own interpreter and text
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert printed.stdout.strip() == "False"
