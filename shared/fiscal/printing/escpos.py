"""A document as a receipt printer takes it: ESC/POS, with its QR code drawn by the printer.

Commands are those that Epson documents and that the printers of others understand: initialise, the
code page of Western Europe, GS ( k for QR codes, feed and cut.
"""

import unicodedata
from typing import Final

from shared.fiscal.printing.sheet import Sheet
from shared.fiscal.printing.text import around_code, cells

_INITIALISE: Final = b"\x1b@"
_CODE_PAGE: Final = b"\x1bt\x10"  # 16: WPC1252
_ENCODING: Final = "cp1252"
_LEFT: Final = b"\x1ba\x00"
_CENTRE: Final = b"\x1ba\x01"
_CUT: Final = b"\x1dVB\x00"  # after a feed to the cutter
_QR: Final = b"\x1d(k"
_MODULE_DOTS: Final = {32: 4, 48: 5}  # 8 dots are 1 mm: at least 25 mm, quiet zone beside it


def render(sheet: Sheet, width: int) -> bytes:
    """The bytes to send, from a clean state to the cut."""
    above, below = around_code(sheet, width)
    parts = [_INITIALISE, _CODE_PAGE, *(_line(line) for line in above)]
    if sheet.qr:
        parts += [_CENTRE, b"\n", _qr(sheet.qr, _MODULE_DOTS[width]), b"\n", _LEFT]
    return b"".join([*parts, *(_line(line) for line in below), b"\n\n", _CUT])


def _line(line: str) -> bytes:
    return b"".join(map(_letter, unicodedata.normalize("NFC", line))) + b"\n"


def _letter(character: str) -> bytes:
    """A letter of the code page; without its accent, or as a question mark, as wide as it was."""
    base = unicodedata.normalize("NFD", character)[0]
    for one in (character, base):
        try:
            return one.encode(_ENCODING)
        except UnicodeEncodeError:
            continue
    return b"?" * cells(character)


def _qr(text: str, module_dots: int) -> bytes:
    """Model 2, the size of a module, correction H; then store the text, and print it."""
    data = text.encode("ascii")
    store = (len(data) + 3).to_bytes(2, "little") + b"1P0" + data
    settings = (b"\x04\x001A2\x00", b"\x03\x001C" + bytes([module_dots]), b"\x03\x001E3")
    return b"".join(_QR + command for command in (*settings, store, b"\x03\x001Q0"))
