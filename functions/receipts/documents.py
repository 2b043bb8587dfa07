"""The mail that brings a fiscal document to its client: what it is, and a link to see it whole."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any, Final

from functions.receipts.rendering import MERCHANT_LIMIT, PAGE, PARAGRAPH, ROW, one_line, shortened
from functions.receipts.wording import amount_text, date_text
from shared.email import Email

_LINK: Final = '<p style="margin:20px 0 0"><a href="{href}" style="color:#12803c">{text}</a></p>'


@dataclass(frozen=True, slots=True)
class Words:
    """One language. Braces are filled with the facts of a document; no line of it is among them."""

    subject: str
    greeting: str
    body: str
    number: str
    date: str
    tax: str
    code: str
    link: str
    until: str
    footer: str


WORDS: Final = {
    "en": Words(
        subject="{label} {number} from {merchant}: {amount}",
        greeting="Hello {name},",
        body="{merchant} has issued this document to you. It is signed and on record.",
        number="Number",
        date="Date",
        tax="Tax included",
        code="Authentication code",
        link="See and verify it",
        until="The link works until {until}.",
        footer="You get this because {merchant} put your address on the document.",
    ),
    "fr": Words(
        subject="{label} {number} de {merchant} : {amount}",
        greeting="Bonjour {name},",
        body="{merchant} a établi ce document pour vous. Il est signé et enregistré.",
        number="Numéro",
        date="Date",
        tax="Taxe comprise",
        code="Code d'authentification",
        link="Le voir et le vérifier",
        until="Le lien fonctionne jusqu'au {until}.",
        footer="Vous recevez ce message car {merchant} a mis votre adresse sur le document.",
    ),
    "sw": Words(
        subject="{label} {number} kutoka {merchant}: {amount}",
        greeting="Habari {name},",
        body="{merchant} imekutolea hati hii. Imesainiwa na kuhifadhiwa.",
        number="Namba",
        date="Tarehe",
        tax="Kodi iliyojumuishwa",
        code="Msimbo wa uthibitisho",
        link="Iangalie na uithibitishe",
        until="Kiungo kinafanya kazi hadi {until}.",
        footer="Umepokea ujumbe huu kwa sababu {merchant} iliweka anwani yako kwenye hati.",
    ),
}


def render_document(facts: Mapping[str, Any], link: str, sender: str) -> Email:
    """The mail of a sealed document whose client has an address.

    facts: as messages.document_facts gives them. link: valid for as long as they say.
    """
    language, words = facts["language"], WORDS[facts["language"]]
    zone = facts["zone"]
    shown = {
        "label": facts["label"],
        "number": facts["fiscal_number"],
        "merchant": shortened(facts["merchant"], MERCHANT_LIMIT),
        "amount": amount_text(facts["total"], facts["currency"], language),
        "name": facts["client_name"] or "",
        "until": date_text(datetime.fromisoformat(facts["link_until"]), zone, language),
    }
    paragraphs = [words.greeting.format(**shown)] if shown["name"] else []
    paragraphs.append(words.body.format(**shown))
    rows = [
        (words.number, facts["fiscal_number"]),
        (words.date, date_text(datetime.fromisoformat(facts["sealed_local"]), zone, language)),
        (words.tax, amount_text(facts["total_tax"], facts["currency"], language)),
        (words.code, facts["auth_code"]),
    ]
    until, footer = words.until.format(**shown), words.footer.format(**shown)
    text = [*paragraphs, "", *(f"{label}: {value}" for label, value in rows)]
    text += ["", f"{words.link}: {link}", until, "", footer, ""]
    html = [PARAGRAPH.format(escape(each)) for each in paragraphs]
    return Email(
        sender=sender,
        to=facts["client_email"],
        subject=one_line(words.subject.format(**shown)),
        text="\n".join(text),
        html=PAGE.format(
            language=language,
            title=escape(facts["fiscal_number"]),
            heading=escape(facts["label"]),
            amount=escape(shown["amount"]),
            paragraphs="\n".join(html),
            rows="\n".join(ROW.format(escape(label), escape(value)) for label, value in rows),
            after=_LINK.format(href=escape(link), text=escape(words.link))
            + PARAGRAPH.format(escape(until)),
            footer=escape(footer),
        ),
        tags={"kind": facts["kind"], "environment": facts["environment"]},
    )
