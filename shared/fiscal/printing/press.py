"""Everything a document can be printed as."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.fiscal.printing.elements import Elements, authority_block
from shared.fiscal.printing.sheet import Json, Printable, sheet_of, words_of


class Format(StrEnum):
    """What a document can be drawn as."""

    TEXT58 = "text58"
    TEXT80 = "text80"
    ESCPOS58 = "escpos58"
    ESCPOS80 = "escpos80"
    HTML = "html"
    PDF = "pdf"
    PDF80 = "pdf80"
    QR = "qr"


MEDIA_TYPES: Final = {
    Format.TEXT58: "text/plain; charset=utf-8",
    Format.TEXT80: "text/plain; charset=utf-8",
    Format.ESCPOS58: "application/octet-stream",  # printers' bytes have no type of their own
    Format.ESCPOS80: "application/octet-stream",
    Format.HTML: "text/html; charset=utf-8",
    Format.PDF: "application/pdf",
    Format.PDF80: "application/pdf",
    Format.QR: "image/svg+xml",
}
SUFFIXES: Final = {
    Format.TEXT58: "txt",
    Format.TEXT80: "txt",
    Format.ESCPOS58: "bin",
    Format.ESCPOS80: "bin",
    Format.HTML: "html",
    Format.PDF: "pdf",
    Format.PDF80: "pdf",
    Format.QR: "svg",
}
_COLUMNS: Final = {Format.TEXT58: 32, Format.TEXT80: 48}
_PRINTER_COLUMNS: Final = {Format.ESCPOS58: 32, Format.ESCPOS80: 48}


@dataclass(frozen=True, slots=True)
class Print:
    """Which print it is. copy_no 0: the original; None: a view, which is no print at all."""

    copy_no: int | None
    language: str | None = None


def printed(facts: Json, which: Print, verify_url: str, format_: Format) -> bytes:
    """A signed document in a format. facts: what fiscal.printable says. Always the same bytes."""
    resource = json.loads(facts["resource"])
    document = resource["document"]
    words = words_of(which.language, document)
    marks = [words.sandbox] if resource["environment"] == "sandbox" else []
    if which.copy_no != 0:
        marks.append(f"{words.duplicate} {which.copy_no}" if which.copy_no else words.copy)
    printable = Printable(
        document=document,
        merchant=facts["merchant"],
        outlet=facts["outlet"],
        elements=Elements.of(resource, verify_url),
        marks=tuple(marks),
        words=words,
        authority=tuple(authority_block(resource)),
    )
    # How much of it was credited since is no part of what was sealed.
    del resource["credited_amount"]
    return drawn(printable, format_, json.dumps(resource, ensure_ascii=False).encode())


def printed_draft(facts: Json, language: str | None, format_: Format) -> bytes:
    """A proforma or a training document: marked, and without any security element."""
    document = json.loads(facts["document"])
    words = words_of(language, document)
    printable = Printable(
        document=document,
        merchant=facts["merchant"],
        outlet=facts["outlet"],
        elements=None,
        marks=(words.proforma if facts["purpose"] == "proforma" else words.training,),
        words=words,
    )
    return drawn(printable, format_, facts["document"].encode())


def drawn(printable: Printable, format_: Format, attachment: bytes) -> bytes:
    """A document in a format; attachment: what a PDF carries inside."""
    sheet, elements = sheet_of(printable), printable.elements
    # Fonts and graphics are paid for by those who print, when they print.
    if format_ in _COLUMNS:
        from shared.fiscal.printing import text

        return text.render(sheet, _COLUMNS[format_]).encode()
    if format_ in _PRINTER_COLUMNS:
        from shared.fiscal.printing import escpos

        return escpos.render(sheet, _PRINTER_COLUMNS[format_])
    if format_ is Format.HTML:
        from shared.fiscal.printing import page

        return page.render(sheet).encode()
    if format_ is Format.QR:
        from shared.fiscal.printing import qr

        return qr.svg(sheet.qr)
    from shared.fiscal.printing.pdf import a4, roll

    render = a4.render if format_ is Format.PDF else roll.render
    at = elements.sealed_at if elements else printable.document["timestamp"]
    return render(sheet, attachment, at)
