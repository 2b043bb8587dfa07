"""What a receipt says: in three languages, as mail and as one SMS."""

from itertools import product
from typing import Any

import pytest

from functions.receipts.rendering import SMS_LIMIT, gsm, render
from functions.receipts.wording import WORDINGS, amount_text, date_text

SENDER = "Stalela <receipts@stalela.example>"
KINDS = sorted(WORDINGS)
LANGUAGES = ["en", "fr", "sw"]


def facts(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "receipt",
        "payment_intent_id": "pi_01kaj3v7wvf4fr8mnp5sye2s6k",
        "tenant_id": "tn_1",
        "environment": "sandbox",
        "merchant": "Acacia Books",
        "language": "en",
        "amount": "1500.00",
        "currency": "KES",
        "description": "Order 20418",
        "rail": "M-Pesa",
        "receipt": "UKL5K3VX1N",
        "account": "+2547******78",
        "paid_at": "2026-11-21T11:00",
        "zone": "Africa/Nairobi",
    } | changes


def customer(**changes: Any) -> dict[str, Any]:
    return {"name": "Wanjiru Kamau", "email": "wanjiru@mail.example", "language": None} | changes


def test_receipt_says_who_was_paid_what_and_when() -> None:
    email, sms, language = render(facts(), customer(), SENDER)

    assert (email.to, email.sender, language) == ("wanjiru@mail.example", SENDER, "en")
    assert email.subject == "Receipt for KES 1,500.00 to Acacia Books"
    for fact in (
        "Hello Wanjiru Kamau,",
        "KES 1,500.00",
        "Order 20418",
        "M-Pesa +2547******78",
        "UKL5K3VX1N",
        "21 November 2026, 11:00 (Nairobi)",
        "pi_01kaj3v7wvf4fr8mnp5sye2s6k",
    ):
        assert fact in email.text
        assert fact in email.html
    assert sms == (
        "Acacia Books: KES 1,500.00 received by M-Pesa, receipt UKL5K3VX1N, 21/11/2026 11:00."
        " Ref 8MNP5SYE2S6K"
    )


@pytest.mark.parametrize(
    ("own", "country", "subject"),
    [
        (None, "fr", "Reçu de 1\u202f500,00 KES pour Acacia Books"),
        (None, "sw", "Risiti ya KES 1,500.00 kwa Acacia Books"),
        ("fr", "sw", "Reçu de 1\u202f500,00 KES pour Acacia Books"),
        ("en", "fr", "Receipt for KES 1,500.00 to Acacia Books"),
    ],
)
def test_customers_own_language_goes_before_the_countrys(
    own: str | None, country: str, subject: str
) -> None:
    email, _, _ = render(facts(language=country), customer(language=own), SENDER)

    assert " ".join(email.subject.split()) == " ".join(subject.split())


def test_refund_says_that_money_went_back() -> None:
    email, sms, _ = render(facts(kind="refund_receipt", amount="40.00"), customer(), SENDER)

    assert email.subject == "Acacia Books has returned KES 40.00"
    assert "returned by M-Pesa" in sms
    assert email.tags == {"kind": "refund_receipt", "environment": "sandbox"}


@pytest.mark.parametrize(("kind", "language"), list(product(KINDS, LANGUAGES)))
def test_every_wording_fits_one_sms_whatever_the_merchant_is_called(
    kind: str, language: str
) -> None:
    named = facts(kind=kind, merchant="Société Générale d'Électricité " * 6, amount="1234567890.00")

    email, sms, _ = render(named, customer(language=language), SENDER)

    assert len(sms) <= SMS_LIMIT
    assert sms.endswith("Ref 8MNP5SYE2S6K")
    assert sms == gsm(sms)
    assert f'lang="{language}"' in email.html
    assert "{" not in email.subject + email.text + sms


def test_text_from_a_merchant_or_a_payer_is_text_in_the_mail() -> None:
    hostile = "<img src=x onerror=alert(1)>"

    email, _, _ = render(
        facts(merchant=hostile, description=hostile), customer(name=hostile), SENDER
    )

    assert "<img" not in email.html
    assert "&lt;img src=x onerror=alert(1)&gt;" in email.html


def test_line_feed_in_a_name_starts_no_header() -> None:
    email, _, _ = render(facts(merchant="Duka\r\nBcc: all@mail.example"), customer(), SENDER)

    assert email.subject == "Receipt for KES 1,500.00 to Duka Bcc: all@mail.example"


def test_braces_in_a_name_stay_braces() -> None:
    email, _, _ = render(facts(merchant="{name} {0}"), customer(), SENDER)

    assert "{name} {0}" in email.subject


def test_what_is_not_known_has_no_line() -> None:
    email, sms, _ = render(facts(description=None, receipt=None), customer(name=None), SENDER)

    assert "Hello" not in email.text
    assert "For:" not in email.text
    assert "receipt -," in sms


def test_same_facts_give_the_same_bytes() -> None:
    first, _, _ = render(facts(), customer(), SENDER)
    second, _, _ = render(facts(), customer(), SENDER)

    assert first.to_body() == second.to_body()


@pytest.mark.parametrize(
    ("amount", "currency", "language", "shown"),
    [
        ("1500.00", "KES", "en", "KES 1,500.00"),
        ("1500.00", "CDF", "fr", "1\u202f500,00\u00a0CDF"),
        ("1500", "UGX", "sw", "UGX 1,500"),
        ("0.50", "USD", "fr", "0,50\u00a0USD"),
    ],
)
def test_amount_is_written_as_its_readers_do(
    amount: str, currency: str, language: str, shown: str
) -> None:
    assert amount_text(amount, currency, language) == shown


def test_first_of_a_month_is_written_out_in_french() -> None:
    from datetime import datetime

    day = datetime(2026, 2, 1, 8, 5)  # noqa: DTZ001  a wall clock; its zone is beside it

    assert date_text(day, "Africa/Kinshasa", "fr") == "1er février 2026, 08:05 (Kinshasa)"
    assert date_text(day, "Africa/Dar_es_Salaam", "sw") == "1 Februari 2026, 08:05 (Dar es Salaam)"
