"""The invoice on A4."""

from collections.abc import Iterable
from typing import Final

from shared.fiscal.printing.pdf.paper import GREEN, GREY, LIGHT, WHITE, Paper
from shared.fiscal.printing.sheet import Line, Pair, Sheet

_LEFT: Final = 15.0
_WIDTH: Final = 180.0
_BOTTOM: Final = 277.0
_COLUMNS: Final = (78.0, 16.0, 28.0, 20.0, 30.0, 8.0)  # name, quantity, price, discount, net, group
_QR: Final = 34.0


def render(sheet: Sheet, attachment: bytes, at: str) -> bytes:
    """The file; as many pages as the lines need, each with its number."""
    pdf = Paper(210, 297, _LEFT, sheet.words.language)
    y = _LEFT
    for mark in sheet.marks:
        y = pdf.mark(y, mark, 9)
    y = _parties(pdf, sheet, _head(pdf, sheet, y) + 5) + 5
    y = _items(pdf, sheet, y) + 5
    y = _sums(pdf, sheet, y) + 5
    y = _notes(pdf, sheet, y)
    _seal(pdf, sheet, y)
    _number_pages(pdf, sheet)
    return pdf.finished(sheet, attachment, at)


def _head(pdf: Paper, sheet: Sheet, y: float) -> float:
    pdf.pen(14, bold=True)
    left = pdf.write_in(_LEFT, y, 105, sheet.seller)
    pdf.pen(9, GREY)
    for line in sheet.seller_lines:
        left = pdf.write_in(_LEFT, left, 105, line)
    pdf.pen(19, GREEN, bold=True)
    right = pdf.write_in(_LEFT + 110, y, 70, sheet.title, "R")
    if sheet.security:
        pdf.pen(11, bold=True)
        right = pdf.write_line(_LEFT + 110, right + 0.5, 70, sheet.security[0][1], "R")
    end = max(left, right) + 3
    pdf.rule(end, GREEN, 0.8)
    return end


def _parties(pdf: Paper, sheet: Sheet, y: float) -> float:
    if not sheet.buyer and not sheet.buyer_lines:
        return _pairs(pdf, _LEFT, y, _WIDTH, sheet.facts)
    pdf.pen(7.5, GREY, bold=True)
    left = pdf.write_line(_LEFT, y, 85, sheet.words.buyer.upper())
    pdf.pen(10.5, bold=True)
    left = pdf.write_in(_LEFT, left, 85, sheet.buyer)
    left = _pairs(pdf, _LEFT, left + 0.5, 85, sheet.buyer_lines)
    return max(left, _pairs(pdf, _LEFT + 95, y, 85, sheet.facts))


def _pairs(pdf: Paper, x: float, y: float, width: float, pairs: Iterable[Pair]) -> float:
    """Labels in one column, values in the next."""
    pairs = tuple(pairs)
    pdf.pen(9)
    column = min(pdf.widest(label for label, _ in pairs) + 4, width / 2)
    for label, value in pairs:
        pdf.pen(9, GREY)
        start = pdf.write_in(x, y, column - 2, label)
        pdf.pen(9)
        y = max(start, pdf.write_in(x + column, y, width - column, value)) + 0.4
    return y


def _items(pdf: Paper, sheet: Sheet, y: float) -> float:
    y = _item_head(pdf, sheet, y)
    for item in sheet.lines:
        pdf.pen(9)
        height = pdf.height_of(_COLUMNS[0] - 4, item.name) + 6.5
        if y + height > _BOTTOM:
            y = _item_head(pdf, sheet, _new_page(pdf))
        y = _item(pdf, item, y)
    return y


def _item_head(pdf: Paper, sheet: Sheet, y: float) -> float:
    words = sheet.words
    pdf.set_fill_color(*GREEN)
    pdf.rect(_LEFT, y, _WIDTH, 7, style="F")
    pdf.pen(8, WHITE, bold=True)
    labels = (words.quantity, words.unit_price, words.discount, sheet.amount_label)
    _row(pdf, y + 1.7, words.article, labels, "")
    return y + 7


def _item(pdf: Paper, item: Line, y: float) -> float:
    pdf.pen(9)
    end = pdf.write_in(_LEFT + 2, y + 1.3, _COLUMNS[0] - 4, item.name)
    _row(
        pdf, y + 1.3, "", (item.quantity, item.unit_price, item.discount, item.amount), item.letter
    )
    pdf.pen(7, GREY)
    end = pdf.write_line(_LEFT + 2, end, _COLUMNS[0] - 4, item.code) + 1
    pdf.rule(end)
    return end


def _row(pdf: Paper, y: float, name: str, figures: Iterable[str], letter: str) -> None:
    pdf.write_line(_LEFT + 2, y, _COLUMNS[0] - 4, name)
    x = _LEFT + _COLUMNS[0]
    for figure, width in zip(figures, _COLUMNS[1:5], strict=True):
        pdf.write_line(x + 1, y, width - 2, figure, "R")
        x += width
    pdf.write_line(x, y, _COLUMNS[5] - 1, letter, "C")


def _sums(pdf: Paper, sheet: Sheet, y: float) -> float:
    """Groups and payments on the left, totals on the right; never torn apart."""
    rows = len(sheet.groups) + len(sheet.payments) + 4
    if y + rows * 5.2 > _BOTTOM:
        y = _new_page(pdf)
    left = _payments(pdf, sheet, _groups(pdf, sheet, y) + 3)
    return max(left, _totals(pdf, sheet, y))


def _groups(pdf: Paper, sheet: Sheet, y: float) -> float:
    words = sheet.words
    pdf.pen(7.5, GREY, bold=True)
    _group_row(pdf, y, (words.group, "", words.base, words.tax))
    y += 4.6
    for row in sheet.groups:
        pdf.set_draw_color(*LIGHT)
        pdf.set_line_width(0.2)
        pdf.line(_LEFT, y, _LEFT + 100, y)
        pdf.pen(8.5)
        _group_row(pdf, y + 0.6, (row.letter, row.name, row.base, row.tax))
        y += 5.2
    return y


def _group_row(pdf: Paper, y: float, cells: tuple[str, str, str, str]) -> None:
    letter, name, base, tax = cells
    pdf.write_line(_LEFT, y, 14, letter)
    pdf.write_line(_LEFT + 14, y, 34, name)
    pdf.write_line(_LEFT + 49, y, 27, base, "R")
    pdf.write_line(_LEFT + 77, y, 23, tax, "R")


def _payments(pdf: Paper, sheet: Sheet, y: float) -> float:
    pdf.pen(7.5, GREY, bold=True)
    y = pdf.write_line(_LEFT, y, 100, sheet.words.payments.upper())
    for label, value in sheet.payments:
        pdf.pen(8.5)
        pdf.write_line(_LEFT, y, 58, label)
        y = pdf.write_line(_LEFT + 60, y, 40, value, "R") + 0.6
    return y


def _totals(pdf: Paper, sheet: Sheet, y: float) -> float:
    x, width = _LEFT + 110, 70.0
    for label, value in sheet.totals:
        pdf.pen(9.5)
        pdf.write_line(x, y, 30, label)
        y = pdf.write_line(x + 30, y, width - 30, value, "R") + 0.8
    pdf.set_draw_color(*GREEN)
    pdf.set_line_width(0.5)
    pdf.line(x, y + 0.8, x + width, y + 0.8)
    pdf.pen(13, bold=True)
    pdf.write_line(x, y + 1.8, 34, sheet.total[0])
    y = pdf.write_line(x + 34, y + 1.8, width - 34, sheet.total[1], "R") + 1
    for label, value in sheet.conversions:
        pdf.pen(8.5, GREY)
        pdf.write_line(x, y, 28, label)
        y = pdf.write_line(x + 28, y, width - 28, value, "R") + 0.4
    return y


def _notes(pdf: Paper, sheet: Sheet, y: float) -> float:
    if not sheet.notes:
        return y
    pdf.pen(9)
    if y + pdf.height_of(_WIDTH, sheet.notes) > _BOTTOM:
        y = _new_page(pdf)
    pdf.pen(9)
    return pdf.write_in(_LEFT, y, _WIDTH, sheet.notes) + 4


def _seal(pdf: Paper, sheet: Sheet, y: float) -> None:
    """The elements in one box: number, authority, time, code and QR are on the same page."""
    words = sheet.words
    height = max(_QR + 6, 20 + 4.8 * (len(sheet.security) + len(sheet.authority)))
    if y + height + 10 > _BOTTOM:
        y = _new_page(pdf)
    if sheet.qr:
        pdf.set_draw_color(*LIGHT)
        pdf.set_line_width(0.3)
        pdf.rect(_LEFT, y, _WIDTH, height, round_corners=True, corner_radius=2)
        pdf.draw_qr(_LEFT + 3, y + 3, _QR, sheet.qr)
        x = _LEFT + _QR + 8
        pdf.pen(7.5, GREY, bold=True)
        end = pdf.write_line(x, y + 4, 120, words.security.upper()) + 0.5
        end = _pairs(pdf, x, end, _WIDTH - _QR - 12, (*sheet.security, *sheet.authority))
        pdf.pen(8, GREY)
        pdf.write_line(x, end + 0.8, 120, words.scan)
        y += height
    pdf.pen(9, GREY)
    pdf.write_line(_LEFT, y + 4, _WIDTH, words.thanks, "C")


def _new_page(pdf: Paper) -> float:
    pdf.add_page()
    return _LEFT


def _number_pages(pdf: Paper, sheet: Sheet) -> None:
    pages = pdf.pages_count
    name = sheet.security[0][1] if sheet.security else sheet.title
    for page in range(1, pages + 1):
        pdf.page = page
        pdf.pen(9)  # each page must hear of its pen
        pdf.pen(7.5, GREY, bold=False)
        pdf.write_line(_LEFT, 285, 90, name)
        pdf.write_line(_LEFT + 90, 285, 90, f"{sheet.words.page} {page}/{pages}", "R")
