"""A report as PDF, A4: what it is about, its totals, then every tax group."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from fpdf import FPDF
from fpdf.enums import Align, XPos, YPos

from functions.reports.files import about
from shared.fiscal.printing.figures import number, percentage, utc_text
from shared.fiscal.printing.wording import WORDS

_WIDTH_MM: Final = 180
_LINE_MM: Final = 5.2
_WORDS: Final = WORDS["en"]
_TITLES: Final = {"z": "Z report", "x": "X report", "periodic": "Periodic report"}
_SIDES: Final = ("sales", "credits", "net")
_TAXES: Final = ("Base sold", "Tax sold", "Base credited", "Tax credited", "Net tax")
# What stands in the heading already.
_HEADED: Final = ("schema_version", "report_type", "fiscal_number", "merchant_name", "outlet_name")
# What a reader looks for first; the rest follows as it is named.
_FIRST: Final = (
    "jurisdiction",
    "merchant_tin",
    "outlet_code",
    "business_date",
    "from",
    "to",
    "opened_at",
    "closed_at",
    "sequence_start",
    "sequence_end",
    "invoice_count",
    "credit_count",
    "offline_count",
    "gap_detected",
)


def as_pdf(report: Mapping[str, Any], sealed: Mapping[str, Any] | None) -> bytes:
    """The report. Dated by itself, so the same report gives the same bytes."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(datetime.fromisoformat(report["generated_at"]))
    title = f"{_TITLES[report['report_type']]} {report.get('fiscal_number', '')}".strip()
    pdf.set_title(title)
    pdf.set_lang("en")
    pdf.core_fonts_encoding = "windows-1252"
    pdf.set_margin(15)
    pdf.set_auto_page_break(auto=True, margin=15)
    pdf.add_page()
    _text(pdf, title, size=16)
    place = report.get("outlet_name", "all outlets")
    _text(pdf, f"{report['merchant_name']} · {place}", size=11)
    if report["environment"] == "sandbox":
        _text(pdf, "SANDBOX: of no fiscal value", size=11)
    facts = {name: value for name, value in about(report).items() if name not in _HEADED}
    _facts(pdf, {name: facts.pop(name) for name in _FIRST if name in facts} | facts)
    _sums(pdf, report)
    _seal(pdf, report, sealed)
    return bytes(pdf.output())


def _sums(pdf: FPDF, report: Mapping[str, Any]) -> None:
    _heading(pdf, "Totals")
    _table(
        pdf,
        ("Currency", "", "Before tax", "Tax", "Total"),
        [_sided(one, side) for one in report["grand_totals"] for side in _SIDES],
        (20, 25, 45, 45, 45),
    )
    _heading(pdf, "Tax groups")
    _table(
        pdf,
        ("Group", "Rate", "Currency", *_TAXES),
        [
            (one["code"], _rate(one["rate"]), one["currency"], *_taxes(one))
            for one in report["tax_totals"]
        ],
        (16, 14, 18, 30, 26, 30, 22, 24),
    )
    _heading(pdf, f"Tax return, in {report['tax_return']['currency']}")
    _table(
        pdf,
        ("Group", "Rate", *_TAXES),
        [(one["code"], _rate(one["rate"]), *_taxes(one)) for one in report["tax_return"]["groups"]],
        (20, 18, 32, 28, 32, 24, 26),
    )
    pdf.ln(_LINE_MM)
    _table(
        pdf,
        ("Treatment", *_TAXES),
        [
            (one["treatment"].capitalize(), *_taxes(one))
            for one in report["tax_return"]["by_treatment"]
        ],
        (38, 32, 28, 32, 24, 26),
    )
    _heading(pdf, "Payments")
    _table(
        pdf,
        ("Method", "Currency", "Received", "Given back", "Net"),
        [
            (
                _label(one["method"]),
                one["currency"],
                *(_amount(one[side]["amount"]) for side in _SIDES),
            )
            for one in report["payments"]
        ],
        (45, 25, 40, 35, 35),
    )
    if "payment_totals" in report:  # a Z of schema 1.0 has none
        _heading(pdf, "Totals by means of payment")
        _table(
            pdf,
            ("Method", "Currency", "", "Before tax", "Tax", "Total"),
            [
                (_label(one["method"]), *_sided(one, side))
                for one in report["payment_totals"]
                for side in _SIDES
            ],
            (38, 20, 20, 36, 32, 34),
        )
    _heading(pdf, "Documents")
    _table(
        pdf,
        ("Type", "Count"),
        [(_label(name), str(count)) for name, count in report["counts_by_type"].items()],
        (60, 40),
    )


def _sided(one: Mapping[str, Any], side: str) -> tuple[str, ...]:
    sums = (_amount(one[side][member]) for member in ("subtotal", "total_tax", "total"))
    return (one["currency"], side.capitalize(), *sums)


def _taxes(one: Mapping[str, Any]) -> tuple[str, ...]:
    sold, credited = one["sales"], one["credits"]
    figures = (sold["base"], sold["tax"], credited["base"], credited["tax"], one["net"]["tax"])
    return tuple(map(_amount, figures))


def _seal(pdf: FPDF, report: Mapping[str, Any], sealed: Mapping[str, Any] | None) -> None:
    if "perpetual_totals" in report:
        _heading(pdf, "Since the outlet opened")
        _table(
            pdf,
            ("Currency", "Sales", "Credits", "Net", "Tax"),
            [
                (one["currency"], *(_amount(one[m]) for m in ("sales", "credits", "net", "tax")))
                for one in report["perpetual_totals"]
            ],
            (20, 40, 40, 40, 40),
        )
    if sealed is None:
        if report["report_type"] == "z":
            _heading(pdf, "Not signed yet: download it again in some seconds")
        return
    _heading(pdf, "Seal")
    members = ("auth_code", "sealed_at", "key_id", "signature_alg", "ledger_hash")
    _facts(pdf, {member: sealed[member] for member in members})


def _facts(pdf: FPDF, facts: Mapping[str, str]) -> None:
    for name, value in facts.items():
        pdf.set_font("helvetica", style="B", size=7.5)
        pdf.cell(42, _LINE_MM, _label(name))
        pdf.set_font("helvetica", size=7.5)
        shown = _western(_fact(name, value))
        pdf.cell(_WIDTH_MM - 42, _LINE_MM, shown, new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _heading(pdf: FPDF, text: str) -> None:
    pdf.ln(_LINE_MM)
    if pdf.will_page_break(5 * _LINE_MM):  # a heading stays with what it heads
        pdf.add_page()
    _text(pdf, text, size=12)


def _text(pdf: FPDF, text: str, size: int) -> None:
    pdf.set_font("helvetica", size=size)
    pdf.cell(_WIDTH_MM, size * 0.55, _western(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _table(
    pdf: FPDF, head: Sequence[str], body: Sequence[Sequence[str]], widths: Sequence[int]
) -> None:
    if not body:
        _text(pdf, "None", size=9)
        return
    # A column of amounts ends where its name ends.
    aligns = [Align.R if _is_amount(cell) else Align.L for cell in body[0]]
    _row(pdf, head, widths, aligns, style="B")
    for row in body:
        if pdf.will_page_break(_LINE_MM):
            pdf.add_page()
            _row(pdf, head, widths, aligns, style="B")
        _row(pdf, row, widths, aligns)


def _row(
    pdf: FPDF, cells: Sequence[str], widths: Sequence[int], aligns: Sequence[Align], style: str = ""
) -> None:
    pdf.set_font("helvetica", style=style, size=7.5)
    for cell, width, align in zip(cells, widths, aligns, strict=True):
        pdf.cell(width, _LINE_MM, _western(cell), border="B", align=align)
    pdf.ln(_LINE_MM)


def _is_amount(cell: str) -> bool:
    return cell.lstrip("-")[:1].isdigit()


def _amount(text: str) -> str:
    return number(text, _WORDS)


def _rate(fraction: str) -> str:
    return percentage(fraction, _WORDS) if fraction else ""


def _label(name: str) -> str:
    """Write "merchant_tin" as Merchant TIN."""
    words = name.replace("_", " ")
    return (words[:1].upper() + words[1:]).replace(" tin", " TIN").replace(" id", " ID")


def _fact(name: str, value: str) -> str:
    if name.endswith("_at"):
        return utc_text(value)
    return {"true": "yes", "false": "no"}.get(value, value)


def _western(text: str) -> str:
    # The fonts that every reader has know no other letters; embedding one would be 700 kB a report.
    return text.encode("windows-1252", "replace").decode("windows-1252")
