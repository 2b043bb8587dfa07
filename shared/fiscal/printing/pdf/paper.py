"""A PDF/A-3 to draw on: fonts inside, the document's JSON attached, the same bytes every time."""

import io
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Final

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos
from fpdf.fonts import TTFFont

from shared.fiscal.printing import qr
from shared.fiscal.printing.sheet import Sheet

Ink = tuple[int, int, int]
BLACK: Final[Ink] = (27, 31, 35)
GREY: Final[Ink] = (91, 102, 112)
LIGHT: Final[Ink] = (213, 218, 222)
GREEN: Final[Ink] = (11, 93, 78)
RED: Final[Ink] = (179, 38, 30)
WHITE: Final[Ink] = (255, 255, 255)

_FAMILY: Final = "Noto Sans"
_HERE: Final = Path(__file__).parent
_LINE: Final = 0.47  # mm of a line per point of its type
_UNKNOWN: Final = "\ufffd"  # for letters the fonts do not have; PDF/A allows no missing glyph


class Paper(FPDF):
    """Pages of one size, drawn on from the top; places are in mm from the upper left corner."""

    def __init__(self, width: float, height: float, margin: float, language: str) -> None:
        super().__init__(format=(width, height), enforce_compliance="PDF/A-3B")
        self.alias_nb_pages("")  # merchants may write {nb}, too
        self.set_margins(margin, margin)
        self.set_auto_page_break(auto=False)
        self.c_margin = 0
        self.set_lang(language)
        self.add_font(_FAMILY, fname=_HERE / "NotoSans-Regular.ttf")
        self.add_font(_FAMILY, "B", fname=_HERE / "NotoSans-Bold.ttf")
        self._letters = frozenset(chr(code) for font in self._own_fonts for code in font.cmap)
        self.add_page()

    def written(self, text: str) -> str:
        """`text` in letters that the fonts have."""
        known = self._letters
        return "".join(one if one in known or one == "\n" else _UNKNOWN for one in text)

    def widest(self, texts: Iterable[str]) -> float:
        """The width of the widest of them."""
        return max((self.get_string_width(self.written(text)) for text in texts), default=0.0)

    def pen(self, size: float, ink: Ink = BLACK, *, bold: bool = False) -> None:
        """What is written from now on is of this size in points, and of this colour."""
        self.set_font(_FAMILY, "B" if bold else "", size)
        self.set_text_color(*ink)

    def write_in(self, x: float, y: float, width: float, text: str, align: str = "L") -> float:
        """Wrap `text` into a column; where the column ends."""
        self.set_xy(x, y)
        self.multi_cell(
            width, self._line, self.written(text), align=align, new_x=XPos.LEFT, new_y=YPos.NEXT
        )
        return float(self.get_y())

    def write_line(self, x: float, y: float, width: float, text: str, align: str = "L") -> float:
        """One line, made smaller until it fits; where the line ends."""
        text, size, line = self.written(text), self.font_size_pt, self._line
        while self.get_string_width(text) > width and self.font_size_pt > 3:
            self.set_font_size(self.font_size_pt - 0.25)
        self.set_xy(x, y)
        self.cell(width, line, text, align=align)
        self.set_font_size(size)
        return y + line

    def height_of(self, width: float, text: str) -> float:
        """How high a column of `text` is."""
        height = self.multi_cell(
            width, self._line, self.written(text), dry_run=True, output=MethodReturnValue.HEIGHT
        )
        assert isinstance(height, float)
        return height

    def rule(self, y: float, ink: Ink = LIGHT, thickness: float = 0.2) -> None:
        """A line from margin to margin."""
        self.set_draw_color(*ink)
        self.set_line_width(thickness)
        self.line(self.l_margin, y, self.w - self.r_margin, y)

    def mark(self, y: float, text: str, size: float) -> float:
        """A box across the page with a warning in it; where it ends."""
        width = self.w - self.l_margin - self.r_margin
        self.pen(size, RED, bold=True)
        self.set_draw_color(*RED)
        self.set_line_width(0.4)
        self.rect(self.l_margin, y, width, self._line + 2)
        self.write_line(self.l_margin + 1, y + 1, width - 2, text, "C")
        return y + self._line + 4

    def draw_qr(self, x: float, y: float, size: float, text: str) -> None:
        """The code with its quiet zone, in a square of this size."""
        self.image(io.BytesIO(qr.png(text)), x, y, size, size, alt_text="QR")

    def finished(self, sheet: Sheet, attachment: bytes, at: str) -> bytes:
        """The file. at: the trusted time, so that the same document gives the same bytes."""
        moment = datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        name = sheet.security[0][1] if sheet.security else "document"
        self.set_creation_date(moment)
        self.set_title(f"{sheet.title} {name}")
        self.set_xmp_metadata(_metadata(f"{sheet.title} {name}", sheet.seller, at))
        self.embed_file(
            bytes=attachment,
            basename=f"{name}.json",
            mime_type="application/json",
            associated_file_relationship="Source",
            desc="The document as it was sealed",
            modification_date=moment,
            compress=True,
        )
        return bytes(self.output())

    def discard(self) -> None:
        """Close the fonts of a paper that is not finished."""
        for font in self._own_fonts:
            font.close()

    @property
    def _own_fonts(self) -> list[TTFFont]:
        return [font for font in self.fonts.values() if isinstance(font, TTFFont)]

    @property
    def _line(self) -> float:
        return self.font_size_pt * _LINE


def _metadata(title: str, author: str, at: str) -> str:
    """XMP, which says of what kind the file is. Ours, because the library's tells the time."""
    return f"""<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/">
<pdfaid:part>3</pdfaid:part>
<pdfaid:conformance>B</pdfaid:conformance>
<dc:title><rdf:Alt><rdf:li xml:lang="x-default">{escape(title)}</rdf:li></rdf:Alt></dc:title>
<dc:creator><rdf:Seq><rdf:li>{escape(author)}</rdf:li></rdf:Seq></dc:creator>
<xmp:CreateDate>{at}</xmp:CreateDate>
<xmp:ModifyDate>{at}</xmp:ModifyDate>
<xmp:MetadataDate>{at}</xmp:MetadataDate>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>"""
