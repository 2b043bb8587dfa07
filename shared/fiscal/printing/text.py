"""A document as lines of text, for printers of 58 mm (32 columns) and 80 mm (48 columns).

A column is a character cell: an accent over a letter takes none, a wide ideograph takes two. The QR
code is written as the text it holds; escpos.py has the printer draw it.
"""

import unicodedata
from collections.abc import Iterable, Iterator

from shared.fiscal.printing.sheet import Pair, Sheet

_GAP = 2  # cells between words and the amount on their line
_PLAIN_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " "})  # printers know no others


def render(sheet: Sheet, width: int) -> str:
    """The lines, each at most `width` cells, ending in a newline."""
    above, below = around_code(sheet, width)
    code = _wrapped(sheet.qr, width) if sheet.qr else ()
    return "".join(f"{line}\n" for line in (*above, *code, *below))


def around_code(sheet: Sheet, width: int) -> tuple[list[str], list[str]]:
    """What stands above the QR code, and what stands below it."""
    marks = [line for mark in sheet.marks for line in _centered(f"* {mark} *", width)]
    return _plain([*marks, *_above(sheet, width)]), _plain(
        [*_centered(sheet.words.thanks, width), *marks]
    )


def cells(text: str) -> int:
    """How many columns a printer gives `text`."""
    return sum(map(_cell, text))


def _above(sheet: Sheet, width: int) -> Iterator[str]:
    yield from _head(sheet, width)
    for block in (_identity, _items, _totals, _groups, _payments, _authority, _notes):
        lines = list(block(sheet, width))
        if lines:
            yield "-" * width
            yield from lines
    yield "=" * width
    if sheet.qr:
        yield from _centered(sheet.words.scan, width)


def _plain(lines: Iterable[str]) -> list[str]:
    return [line.rstrip().translate(_PLAIN_SPACES) for line in lines]


def _head(sheet: Sheet, width: int) -> Iterator[str]:
    for line in (sheet.seller, *sheet.seller_lines):
        yield from _centered(line, width)
    yield "=" * width
    yield from _centered(sheet.title.upper(), width)


def _identity(sheet: Sheet, width: int) -> Iterator[str]:
    yield from _pairs((*sheet.security, *sheet.facts), width)
    if sheet.buyer or sheet.buyer_lines:
        yield from _pair(sheet.words.buyer, sheet.buyer, width)
        yield from _pairs(sheet.buyer_lines, width)


def _items(sheet: Sheet, width: int) -> Iterator[str]:
    yield from _pair(sheet.words.article, sheet.amount_label, width)
    for item in sheet.lines:
        yield from _wrapped(item.name, width)
        sold = f"  {item.quantity} x {item.unit_price} {item.discount}".rstrip()
        yield from _pair(sold, f"{item.amount} {item.letter}", width)


def _totals(sheet: Sheet, width: int) -> Iterator[str]:
    yield from _pairs((*sheet.totals, sheet.total, *sheet.conversions), width)


def _groups(sheet: Sheet, width: int) -> Iterator[str]:
    words = sheet.words
    for row in sheet.groups:
        yield from _wrapped(f"{row.letter} {row.name}", width)
        yield from _pair(f"  {words.base} {row.base}", f"{words.tax} {row.tax}", width)


def _payments(sheet: Sheet, width: int) -> Iterator[str]:
    yield from _pairs(sheet.payments, width)


def _authority(sheet: Sheet, width: int) -> Iterator[str]:
    yield from _pairs(sheet.authority, width)


def _notes(sheet: Sheet, width: int) -> Iterator[str]:
    for line in filter(None, sheet.notes.split("\n")):
        yield from _wrapped(line, width)


def _pairs(pairs: Iterable[Pair], width: int) -> Iterator[str]:
    for label, value in pairs:
        yield from _pair(label, value, width)


def _pair(left: str, right: str, width: int) -> Iterator[str]:
    """Words on the left and a value that ends at the edge; below them where both do not fit."""
    if cells(left) + _GAP + cells(right) <= width:
        yield left + " " * (width - cells(left) - cells(right)) + right
        return
    yield from _wrapped(left, width)
    if cells(right) > width:
        yield from _wrapped(right, width)
    else:
        yield " " * (width - cells(right)) + right


def _centered(text: str, width: int) -> Iterator[str]:
    for line in _wrapped(text, width):
        yield " " * ((width - cells(line)) // 2) + line


def _wrapped(text: str, width: int) -> Iterator[str]:
    """Broken between words; a word that is longer than a line is broken where the line ends."""
    line = ""
    for word in filter(None, text.split(" ")):  # spaces that may not break stay whole
        joined = f"{line} {word}" if line else word
        if cells(joined) <= width:
            line = joined
            continue
        if line:
            yield line
        *full, line = _pieces(word, width)
        yield from full
    yield line


def _pieces(word: str, width: int) -> list[str]:
    pieces = [""]
    for character in word:
        if cells(pieces[-1]) + _cell(character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _cell(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
