"""QR codes: model 2, error correction H, a quiet zone of four modules."""

import io
from typing import Final

import segno

QUIET: Final = 4
_SCALE: Final = 8


def matrix(text: str) -> list[list[bool]]:
    """The dark modules, row by row, quiet zone included."""
    return [[bool(module) for module in row] for row in _code(text).matrix_iter(border=QUIET)]


def svg(text: str) -> bytes:
    """A drawing of its own; it scales to any size without losing an edge."""
    drawn = io.BytesIO()
    _code(text).save(
        drawn, kind="svg", border=QUIET, scale=_SCALE, light="#fff", title="QR", omitsize=True
    )
    return drawn.getvalue()


def png(text: str) -> bytes:
    """The same drawing as pixels, for what cannot draw."""
    drawn = io.BytesIO()
    _code(text).save(drawn, kind="png", border=QUIET, scale=_SCALE)
    return drawn.getvalue()


def svg_inline(text: str) -> str:
    """The same drawing as an element of an HTML page."""
    return str(_code(text).svg_inline(border=QUIET, light="#fff", title="QR", omitsize=True))


def _code(text: str) -> segno.QRCode:
    return segno.make_qr(text, error="h")
