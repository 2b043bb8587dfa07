"""The texts and the painting of the page; a browser looks at it in tests/e2e."""

import csv
from base64 import b64encode
from datetime import UTC, datetime
from hashlib import sha256
from html import escape
from pathlib import Path

import pytest

from functions.verify import page
from functions.verify.judging import Question
from functions.verify.models import Verification
from shared.fiscal.registry import FOLDERS
from shared.fiscal.rules import jurisdiction

NOW = datetime(2026, 11, 21, 7, 5, 9, tzinfo=UTC)
NOTHING = Question("", "")
FOUND = Verification(
    status="verified",
    fiscal_number="STL-KIN001-000001",
    environment="production",
    signature_valid=True,
    ledger_chain_valid=True,
    fiscal_authority_id="stalela-cd-01",
    merchant_name="Acacia & Sons",
    outlet_name="Gombe",
    sealed_at="2026-02-17T04:00:02Z",
    total="1234567.50",
    currency="CDF",
    invoice_type="sale",
    credited="none",
)


def painted(outcome: Verification | str, language: page.Language = "en") -> str:
    return page.paint(language, NOTHING, outcome, NOW).decode()


def test_every_text_is_there_in_every_language() -> None:
    with (Path(page.__file__).parent / "words.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (months,) = [row for row in rows if row["key"] == "months"]

    assert [row["key"] for row in rows if None in row or not all(row.values())] == []
    # What is put among data is escaped with it, a second time.
    assert [row["key"] for row in rows for text in row.values() if escape(text) != text] == []
    assert {len(months[language].split(" ")) for language in page.LANGUAGES} == {12}


KINDS = {kind for country in FOLDERS for kind in jurisdiction(country).invoice_types}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_document_has_words(kind: str) -> None:
    text = painted(FOUND.model_copy(update={"invoice_type": kind}))

    assert f"<dd>{kind}</dd>" not in text


@pytest.mark.parametrize(
    ("wanted", "accepted", "language"),
    [
        ("", "", "en"),
        ("", "fr-CD,fr;q=0.9,en;q=0.8", "fr"),
        ("", "de, sw;q=0.5, fr;q=0.4", "sw"),
        ("", "fr;q=0.1, en;q=0.9", "en"),
        ("", "*", "en"),
        ("", "fr;q=x, en;q=", "en"),
        ("", ";;;,,,q=1", "en"),
        ("sw", "fr", "sw"),
        ("de", "fr", "fr"),
        ("FR", "sw", "fr"),
        ("<b>", "", "en"),
    ],
)
def test_language_is_the_one_asked_for_or_the_browsers(
    wanted: str, accepted: str, language: str
) -> None:
    assert page.language_of(wanted, accepted) == language


@pytest.mark.parametrize(
    ("language", "amount", "moment"),
    [
        ("en", "1,234,567.50 CDF", "17 February 2026, 04:00:02 UTC"),
        ("fr", "1\u202f234\u202f567,50 CDF", "17 février 2026, 04:00:02 UTC"),
        ("sw", "1,234,567.50 CDF", "17 Februari 2026, 04:00:02 UTC"),
    ],
)
def test_amounts_and_times_are_written_as_the_language_does(
    language: page.Language, amount: str, moment: str
) -> None:
    text = painted(FOUND, language)

    assert amount in text
    assert moment in text


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({}, "This invoice is genuine"),
        ({"credited": "partial"}, "Genuine, but partly credited"),
        ({"credited": "full"}, "Genuine, but cancelled by a credit note"),
        ({"environment": "sandbox"}, "Only a test, not an invoice"),
        ({"environment": "sandbox", "credited": "full"}, "Only a test, not an invoice"),
        ({"status": "revoked_key"}, "Do not accept this invoice"),
        ({"status": "revoked_key", "credited": "full"}, "Do not accept this invoice"),
        ({"status": "tampered", "merchant_name": None}, "This document was altered"),
    ],
)
def test_page_says_the_worst_first(members: dict[str, str | None], said: str) -> None:
    text = painted(FOUND.model_copy(update=members))

    assert f'<h1 id="verdict">{said}</h1>' in text
    assert f"<title>{said} · Stalela</title>" in text


def test_only_what_is_genuine_is_green() -> None:
    assert 'class="good"' in painted(FOUND)
    others: list[Verification | str] = ["not_found", "unavailable", "too_many"]
    others += [
        FOUND.model_copy(update=members)
        for members in (
            {"credited": "partial"},
            {"environment": "sandbox"},
            {"status": "tampered"},
            {"status": "revoked_key"},
        )
    ]
    assert [outcome for outcome in others if 'class="good"' in painted(outcome)] == []


@pytest.mark.parametrize(
    ("status", "since", "said"),
    [
        ("SYNCED", "2026-02-17T04:00:05Z", "Has it since 17 February 2026, 04:00:05 UTC"),
        ("PENDING", None, "Does not have it yet"),
        ("RETRY", None, "Does not have it yet"),
        ("FAILED", None, "Does not have it yet"),
        ("REJECTED", None, "Did not accept it"),
    ],
)
def test_page_says_whether_the_authority_has_it(status: str, since: str | None, said: str) -> None:
    members = {"authority_sync_status": status, "authority_acknowledged_at": since}

    assert f"<dt>Tax authority</dt><dd>{said}</dd>" in painted(FOUND.model_copy(update=members))


def test_page_of_an_outlet_that_reports_nothing_one_by_one_says_nothing_of_it() -> None:
    members = {"authority_sync_status": "NOT_APPLICABLE"}

    assert "Tax authority" not in painted(FOUND.model_copy(update=members))


def test_names_are_text() -> None:
    assert "Acacia &amp; Sons" in painted(FOUND)


def test_style_is_the_one_the_policy_allows() -> None:
    policy = page.headers()["Content-Security-Policy"]
    text = painted(FOUND)

    style = text[text.index("<style>") + 7 : text.index("</style>")]
    assert b64encode(sha256(style.encode()).digest()).decode() in policy
