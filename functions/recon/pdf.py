"""A session's report as PDF."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from fpdf import FPDF
from fpdf.enums import XPos, YPos

_WIDTH_MM: Final = 180
_LINE_MM: Final = 5.2
_FIGURES: Final = ("count", "matched", "marked", "exceptions", "awaiting", "in", "out", "unmatched")


def as_pdf(report: Mapping[str, Any]) -> bytes:
    """The report, A4. Dated by the session, so the same report gives the same bytes."""
    session = report["session"]
    pdf = FPDF(format="A4")
    pdf.set_creation_date(datetime.fromisoformat(session["updated_at"]))
    pdf.set_title(f"Reconciliation {session['rail']} {session['business_date']}")
    pdf.set_margin(15)
    pdf.set_auto_page_break(auto=True, margin=15)
    pdf.add_page()
    _text(pdf, f"Reconciliation of {session['rail']}, {session['business_date']}", size=16)
    _text(pdf, f"{report['organisation']} · {session['environment']} · {session['time_zone']}")
    _text(pdf, f"Session {session['id']} is {session['status']}")
    for figures in session["figures"]:
        _heading(pdf, f"Figures in {figures['currency']}")
        _table(
            pdf,
            ("", "Lines of the statement", "Settled transfers"),
            [
                (name, str(figures["lines"].get(name, "")), str(figures["transfers"].get(name, "")))
                for name in _FIGURES
            ],
            (40, 70, 70),
        )
    _heading(pdf, "Statements")
    _table(
        pdf,
        ("Period", "Lines", "SHA-256"),
        [
            (f"{one['period_from']} to {one['period_to']}", str(one["lines"]), one["sha256"])
            for one in report["statements"]
        ],
        (45, 20, 115),
    )
    _heading(pdf, "Matched")
    _table(
        pdf,
        ("Rule", "Lines", "Amount"),
        [
            (one["rule"], str(one["lines"]), f"{one['amount']} {one['currency']}")
            for one in report["rules"]
        ],
        (70, 40, 70),
    )
    _heading(pdf, "Exceptions")
    _table(
        pdf,
        ("Kind", "State", "Amount", "Receipt", "Transfer"),
        [_exception(one) for one in report["exceptions"]],
        (38, 32, 30, 28, 52),
    )
    return bytes(pdf.output())


def _exception(one: Mapping[str, Any]) -> tuple[str, ...]:
    receipt = (one["line"] or {}).get("receipt") or one["details"].get("receipt") or ""
    amount = f"{one['amount']} {one['currency']}" if one["amount"] else ""
    state = one["resolution"] or one["status"]
    return (one["kind"], state, amount, str(receipt), one["transfer_id"] or "")


def _heading(pdf: FPDF, text: str) -> None:
    pdf.ln(_LINE_MM)
    _text(pdf, text, size=12)


def _text(pdf: FPDF, text: str, size: int = 9) -> None:
    pdf.set_font("helvetica", size=size)
    pdf.cell(_WIDTH_MM, size * 0.55, _latin(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _table(
    pdf: FPDF, head: Sequence[str], body: Sequence[Sequence[str]], widths: Sequence[int]
) -> None:
    if not body:
        _text(pdf, "none")
        return
    for number, row in enumerate((head, *body)):
        pdf.set_font("helvetica", style="B" if number == 0 else "", size=7.5)
        for cell, width in zip(row, widths, strict=True):
            pdf.cell(width, _LINE_MM, _fitted(pdf, _latin(cell), width), border="B")
        pdf.ln(_LINE_MM)


def _fitted(pdf: FPDF, text: str, width_mm: float) -> str:
    """As much of `text` as its cell holds."""
    while text and pdf.get_string_width(text) > width_mm - 2:
        text = text[:-1]
    return text


def _latin(text: str) -> str:
    # The fonts that every reader has know no other letters; embedding one would be 700 kB a report.
    return text.encode("latin-1", "replace").decode("latin-1")
