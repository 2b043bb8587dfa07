"""From the facts of a payment to a mail and a text, once: what is stored is what is sent."""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any, Final

from functions.receipts.wording import SMS_END, WORDINGS, Wording, amount_text, date_text
from shared.email import Email

SMS_LIMIT: Final = 160  # one message of the GSM alphabet
MERCHANT_LIMIT: Final = 60  # of a subject line; names may have 200 characters
_REFERENCE: Final = 12  # the last characters of an intent's id, as a rail's statement shows it

PAGE: Final = """\
<!doctype html>
<html lang="{language}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">\
<title>{title}</title></head>
<body style="margin:0;padding:24px 12px;background:#f4f5f1;color:#17211b;\
font:16px/1.5 system-ui,'Segoe UI',Roboto,sans-serif">
<div style="max-width:520px;margin:0 auto;padding:28px;background:#fff;border-radius:12px">
<h1 style="margin:0 0 4px;font-size:20px;color:#12803c">{heading}</h1>
<p style="margin:0 0 20px;font-size:30px;font-weight:600">{amount}</p>
{paragraphs}
<table role="presentation" style="width:100%;border-collapse:collapse;font-size:15px">
{rows}
</table>
{after}</div>
<p style="max-width:520px;margin:16px auto 0;font-size:13px;color:#5b6a61">{footer}</p>
</body>
</html>
"""
PARAGRAPH: Final = '<p style="margin:0 0 12px">{}</p>'
ROW: Final = (
    '<tr><td style="padding:8px 16px 8px 0;border-top:1px solid #dfe4dd;color:#5b6a61">{}</td>'
    '<td style="padding:8px 0;border-top:1px solid #dfe4dd;text-align:right;'
    'overflow-wrap:anywhere">{}</td></tr>'
)


def render(
    facts: Mapping[str, Any], customer: Mapping[str, Any], sender: str
) -> tuple[Email, str, str]:
    """The mail, the text of an SMS and the language of both. `customer` has an `email`.

    facts: as messages.receipt_facts gives them. The customer's own language goes first, then the
    one of the merchant's country.
    """
    language = customer.get("language") or facts["language"]
    wording = WORDINGS[facts["kind"]][language]
    shown = {
        "amount": amount_text(facts["amount"], facts["currency"], language),
        "merchant": shortened(facts["merchant"], MERCHANT_LIMIT),
        "rail": facts["rail"],
        "name": customer.get("name") or "",
    }
    rows = _rows(facts, wording, shown, language)
    greeting = [wording.greeting.format(**shown)] if shown["name"] else []
    paragraphs = [*greeting, wording.body.format(**shown)]
    footer = wording.footer.format(**shown)
    email = Email(
        sender=sender,
        to=customer["email"],
        subject=one_line(wording.subject.format(**shown)),
        text="\n".join(
            [*paragraphs, "", *(f"{label}: {value}" for label, value in rows), "", footer, ""]
        ),
        html=PAGE.format(
            language=language,
            title=escape(wording.heading),
            heading=escape(wording.heading),
            amount=escape(shown["amount"]),
            paragraphs="\n".join(PARAGRAPH.format(escape(each)) for each in paragraphs),
            rows="\n".join(ROW.format(escape(label), escape(value)) for label, value in rows),
            after="",
            footer=escape(footer),
        ),
        tags={"kind": facts["kind"], "environment": facts["environment"]},
    )
    return email, sms_text(facts, wording, shown), language


def _rows(
    facts: Mapping[str, Any], wording: Wording, shown: Mapping[str, str], language: str
) -> list[tuple[str, str]]:
    paid_at = datetime.fromisoformat(facts["paid_at"])
    rows = [
        (wording.amount, shown["amount"]),
        (wording.merchant, facts["merchant"]),
        (wording.description, facts["description"]),
        (wording.method, " ".join(filter(None, (facts["rail"], facts["account"])))),
        (wording.receipt.format(**shown), facts["receipt"]),
        (wording.date, date_text(paid_at, facts["zone"], language)),
        (wording.reference, facts["payment_intent_id"]),
    ]
    return [(label, value) for label, value in rows if value]


def sms_text(facts: Mapping[str, Any], wording: Wording, shown: Mapping[str, str]) -> str:
    """One SMS of at most 160 characters: what does not fit is taken from the merchant's name."""
    values = {
        "amount": gsm(shown["amount"]),
        "rail": gsm(shown["rail"]),
        "receipt": facts["receipt"] or "-",
        "date": f"{datetime.fromisoformat(facts['paid_at']):%d/%m/%Y %H:%M}",
        "reference": facts["payment_intent_id"][-_REFERENCE:].upper(),
    }
    text = wording.sms + SMS_END
    room = SMS_LIMIT - len(text.format(merchant="", **values))
    merchant = shortened(gsm(facts["merchant"]), max(4, room))
    return text.format(merchant=merchant, **values)[:SMS_LIMIT]


def gsm(text: str) -> str:
    """`text` in letters that every phone's alphabet has: an SMS of others holds 70 characters."""
    plain = unicodedata.normalize("NFKD", text)
    kept = (letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if _is_basic(letter) else "?" for letter in kept)


def _is_basic(letter: str) -> bool:
    # ASCII less the characters that take two places in GSM 03.38, or none.
    return " " <= letter <= "z" and letter not in "[\\]^`"


def shortened(text: str, limit: int) -> str:
    """`text` in at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3].rstrip() + "..."


def one_line(text: str) -> str:
    """A subject is a header: no line may start in it."""
    return " ".join(text.split())
