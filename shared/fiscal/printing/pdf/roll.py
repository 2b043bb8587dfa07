"""The receipt on a roll of 80 mm: one page, as long as it needs to be and a page may be."""

from collections.abc import Iterable
from typing import Final

from shared.fiscal.printing.pdf.paper import BLACK, GREY, Ink, Paper
from shared.fiscal.printing.sheet import Pair, Sheet

_WIDE: Final = 80.0
_EDGE: Final = 4.0
_ROOM: Final = _WIDE - 2 * _EDGE
_LONGEST: Final = 5000.0  # mm, a little less than a page of a PDF may be
_TAIL: Final = 500.0  # more than what follows the articles can take
_QR: Final = 40.0


def render(sheet: Sheet, attachment: bytes, at: str) -> bytes:
    """The file. Drawn twice: the first time tells how long the page is."""
    pdf = Paper(_WIDE, _LONGEST, _EDGE, sheet.words.language)
    length = _drawn(pdf, sheet) + _EDGE
    if pdf.pages_count == 1:
        pdf.discard()
        pdf = Paper(_WIDE, length, _EDGE, sheet.words.language)
        _drawn(pdf, sheet)
    return pdf.finished(sheet, attachment, at)


def _drawn(pdf: Paper, sheet: Sheet) -> float:
    y = _EDGE
    for mark in sheet.marks:
        y = pdf.mark(y, mark, 8)
    y = _rule(pdf, _head(pdf, sheet, y))
    y = _rule(pdf, _identity(pdf, sheet, y))
    y = _rule(pdf, _items(pdf, sheet, y))
    y = _rule(pdf, _totals(pdf, sheet, y))
    y = _rule(pdf, _groups(pdf, sheet, y))
    y = _pairs(pdf, y, sheet.payments)
    if sheet.authority:
        y = _pairs(pdf, _rule(pdf, y), sheet.authority)
    if sheet.notes:
        pdf.pen(7.5)
        y = pdf.write_in(_EDGE, _rule(pdf, y), _ROOM, sheet.notes)
    return _legend(pdf, sheet, _rule(pdf, y))


def _head(pdf: Paper, sheet: Sheet, y: float) -> float:
    y = _centered(pdf, y, sheet.seller, 12, bold=True)
    for line in sheet.seller_lines:
        y = _centered(pdf, y, line, 7.5, GREY)
    return _centered(pdf, y + 2, sheet.title, 12, bold=True)


def _identity(pdf: Paper, sheet: Sheet, y: float) -> float:
    y = _pairs(pdf, y, (*sheet.security, *sheet.facts))
    if sheet.buyer or sheet.buyer_lines:
        y = _pairs(pdf, y + 1, ((sheet.words.buyer, sheet.buyer), *sheet.buyer_lines))
    return y


def _items(pdf: Paper, sheet: Sheet, y: float) -> float:
    pdf.pen(7.5, GREY, bold=True)
    pdf.write_line(_EDGE, y, _ROOM / 2, sheet.words.article)
    y = pdf.write_line(_EDGE + _ROOM / 2, y, _ROOM / 2 - 6, sheet.amount_label, "R") + 0.6
    for item in sheet.lines:
        if y > _LONGEST - _TAIL:
            pdf.add_page()
            y = _EDGE
        pdf.pen(8.5)
        y = pdf.write_in(_EDGE, y, _ROOM, item.name)
        pdf.pen(8, GREY)
        sold = f"{item.quantity} × {item.unit_price}  {item.discount}".rstrip()  # noqa: RUF001
        pdf.write_line(_EDGE, y, 38, sold)
        pdf.pen(8.5)
        pdf.write_line(_EDGE + _ROOM - 5, y, 5, item.letter, "R")
        y = pdf.write_line(_EDGE + 38, y, _ROOM - 44, item.amount, "R") + 0.8
    return y


def _totals(pdf: Paper, sheet: Sheet, y: float) -> float:
    y = _pairs(pdf, y, sheet.totals)
    pdf.pen(12, bold=True)
    pdf.write_line(_EDGE, y + 0.5, 32, sheet.total[0])
    y = pdf.write_line(_EDGE + 32, y + 0.5, _ROOM - 32, sheet.total[1], "R") + 0.5
    return _pairs(pdf, y, sheet.conversions)


def _groups(pdf: Paper, sheet: Sheet, y: float) -> float:
    words = sheet.words
    cells = [(words.group, words.base, words.tax)]
    cells += [(f"{row.letter}  {row.name}", row.base, row.tax) for row in sheet.groups]
    for place, (name, base, tax) in enumerate(cells):
        pdf.pen(7.5, BLACK if place else GREY, bold=not place)
        pdf.write_line(_EDGE, y, 30, name)
        pdf.write_line(_EDGE + 31, y, 21, base, "R")
        y = pdf.write_line(_EDGE + 53, y, _ROOM - 53, tax, "R") + 0.4
    return y


def _legend(pdf: Paper, sheet: Sheet, y: float) -> float:
    if sheet.qr:
        pdf.draw_qr((_WIDE - _QR) / 2, y, _QR, sheet.qr)
        y = _centered(pdf, y + _QR, sheet.words.scan, 7.5, GREY)
    return _centered(pdf, y + 1, sheet.words.thanks, 9, bold=True)


def _pairs(pdf: Paper, y: float, pairs: Iterable[Pair]) -> float:
    """A label and its value on one line; the value below where both do not fit."""
    for label, value in pairs:
        pdf.pen(8, GREY)
        taken = pdf.get_string_width(label) + 2
        pdf.write_line(_EDGE, y, _ROOM, label)
        pdf.pen(8)
        if pdf.height_of(_ROOM - taken, value) > pdf.height_of(_ROOM, "0"):
            y = pdf.write_in(_EDGE, y + pdf.height_of(_ROOM, label), _ROOM, value, "R") + 0.3
        else:
            y = pdf.write_line(_EDGE + taken, y, _ROOM - taken, value, "R") + 0.3
    return y


def _centered(
    pdf: Paper, y: float, text: str, size: float, ink: Ink = BLACK, *, bold: bool = False
) -> float:
    pdf.pen(size, ink, bold=bold)
    return pdf.write_in(_EDGE, y, _ROOM, text, "C")


def _rule(pdf: Paper, y: float) -> float:
    pdf.rule(y + 1.2)
    return y + 2.4
