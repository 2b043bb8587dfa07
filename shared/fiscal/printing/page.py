"""A document as one HTML page: no script, nothing from elsewhere, made to be printed on A4."""

from collections.abc import Iterable
from html import escape
from typing import Final

from shared.fiscal.printing import qr
from shared.fiscal.printing.sheet import GroupRow, Line, Pair, Sheet

# What a browser may do with the page: show it, with its own style.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
@page { size: A4; margin: 14mm }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 8mm; max-width: 210mm; color: #1b1f23; background: #fff;
  font: 10pt/1.45 "Noto Sans", "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums }
header { display: flex; justify-content: space-between; gap: 10mm;
  padding-bottom: 5mm; border-bottom: 2.5pt solid #0b5d4e }
h1, h2, p, dl, dd { margin: 0 }
h1 { font-size: 20pt; line-height: 1.15; color: #0b5d4e; text-align: right }
h2 { font-size: 8pt; letter-spacing: .06em; text-transform: uppercase; color: #5b6670 }
.seller { font-size: 14pt; font-weight: 700 }
.number { font-size: 12pt; font-weight: 700; text-align: right }
.mark { margin: 0 0 4mm; padding: 1.5mm; border: 1.5pt solid #b3261e; color: #b3261e;
  font-weight: 700; letter-spacing: .08em; text-align: center }
.parties { display: grid; grid-template-columns: 1fr 1fr; gap: 10mm; margin: 5mm 0 }
.buyer { font-weight: 700; font-size: 11pt }
dl { display: grid; align-content: start; grid-template-columns: max-content 1fr; gap: .6mm 4mm }
dt { color: #5b6670 }
dd { overflow-wrap: anywhere }
table { width: 100%; border-collapse: collapse }
th { padding: 1.5mm 2mm; background: #0b5d4e; color: #fff; font-size: 8.5pt; text-align: left }
td { padding: 1.6mm 2mm; border-bottom: .5pt solid #d5dade; vertical-align: top }
th.n, td.n { text-align: right; white-space: nowrap }
td small { display: block; color: #5b6670 }
tr { break-inside: avoid }
.sums { display: grid; grid-template-columns: 1.15fr 1fr; gap: 10mm; margin-top: 5mm }
.sums h2 { margin-bottom: 1mm }
.groups th { background: none; color: #5b6670; border-bottom: .5pt solid #5b6670 }
.totals td { border: 0 }
.totals .total td { border-top: 1.5pt solid #0b5d4e; font-size: 13pt; font-weight: 700 }
.seal { display: flex; gap: 6mm; margin-top: 7mm; padding: 4mm; border: .75pt solid #b9c2c9;
  border-radius: 2mm; break-inside: avoid }
.seal svg { width: 34mm; height: 34mm; flex: none }
.seal dl { margin-top: 1.5mm }
.seal p { margin-top: 1.5mm; color: #5b6670 }
.code { font-family: "Noto Sans Mono", "DejaVu Sans Mono", Consolas, monospace; font-weight: 700 }
.notes { margin-top: 5mm; white-space: pre-line }
footer { margin-top: 6mm; color: #5b6670; text-align: center }
@media screen and (max-width: 40rem) {
  body { padding: 4mm }
  header, .seal { flex-wrap: wrap; gap: 4mm }
  h1, .number { text-align: left }
  .parties, .sums { grid-template-columns: 1fr; gap: 5mm }
  .sums > :last-child { order: -1 }
  /* A name has its line, and its figures the next. */
  .items tr { display: grid; grid-template-columns: 2fr 3fr 2fr 3fr 1fr; align-items: baseline }
  .items :is(th, td) { padding: 1mm; border: 0; font-size: 8.5pt; white-space: normal }
  .items :is(th, td):first-child { grid-column: 1 / -1; font-size: 10pt }
  .items thead tr { background: #0b5d4e }
  .items tbody tr { border-bottom: .5pt solid #d5dade }
  .groups :is(th, td) { padding: 1mm }
}
"""


def render(sheet: Sheet) -> str:
    """The page. Whatever merchants wrote is text in it, never markup."""
    words = sheet.words
    number = sheet.security[0][1] if sheet.security else ""
    return f"""<!doctype html>
<html lang="{words.language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(f"{sheet.title} {number}".strip())}</title>
<style>{_STYLE}</style>
</head>
<body>
{"".join(f'<p class="mark">{escape(mark)}</p>' for mark in sheet.marks)}
<header>
<div><p class="seller">{escape(sheet.seller)}</p>{_paragraphs(sheet.seller_lines)}</div>
<div><h1>{escape(sheet.title)}</h1><p class="number">{escape(number)}</p></div>
</header>
<section class="parties">
{_buyer(sheet)}
{_definitions(sheet.facts)}
</section>
{_items(sheet)}
<section class="sums">
<div>{_groups(sheet)}{_payments(sheet)}</div>
{_totals(sheet)}
</section>
{f'<p class="notes">{escape(sheet.notes)}</p>' if sheet.notes else ""}
{_seal(sheet)}
<footer>{escape(words.thanks)}</footer>
</body>
</html>
"""


def _paragraphs(lines: Iterable[str]) -> str:
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _definitions(pairs: Iterable[Pair]) -> str:
    rows = "".join(f"<dt>{escape(label)}</dt><dd>{escape(value)}</dd>" for label, value in pairs)
    return f"<dl>{rows}</dl>"


def _buyer(sheet: Sheet) -> str:
    if not sheet.buyer and not sheet.buyer_lines:
        return ""
    title = f'<h2>{escape(sheet.words.buyer)}</h2><p class="buyer">{escape(sheet.buyer)}</p>'
    return f"<div>{title}{_definitions(sheet.buyer_lines)}</div>"


def _items(sheet: Sheet) -> str:
    words = sheet.words
    head = (
        f"<th>{escape(words.article)}</th>"
        + "".join(
            f'<th class="n">{escape(label)}</th>'
            for label in (words.quantity, words.unit_price, words.discount, sheet.amount_label)
        )
        + "<th></th>"
    )
    body = "".join(_item(item) for item in sheet.lines)
    return f'<table class="items"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _item(item: Line) -> str:
    figures = "".join(
        f'<td class="n">{escape(figure)}</td>'
        for figure in (item.quantity, item.unit_price, item.discount, item.amount)
    )
    name = f"<td>{escape(item.name)}<small>{escape(item.code)}</small></td>"
    return f"<tr>{name}{figures}<td>{escape(item.letter)}</td></tr>"


def _groups(sheet: Sheet) -> str:
    words = sheet.words
    head = (
        f'<th>{escape(words.group)}</th><th></th><th class="n">{escape(words.base)}</th>'
        f'<th class="n">{escape(words.tax)}</th>'
    )
    body = "".join(_group(row) for row in sheet.groups)
    return f'<table class="groups"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _group(row: GroupRow) -> str:
    return (
        f'<tr><td>{escape(row.letter)}</td><td>{escape(row.name)}</td><td class="n">'
        f'{escape(row.base)}</td><td class="n">{escape(row.tax)}</td></tr>'
    )


def _payments(sheet: Sheet) -> str:
    title = f'<h2 style="margin-top:4mm">{escape(sheet.words.payments)}</h2>'
    return f'{title}<table class="totals">{_rows(sheet.payments)}</table>'


def _totals(sheet: Sheet) -> str:
    label, value = sheet.total
    total = f'<tr class="total"><td>{escape(label)}</td><td class="n">{escape(value)}</td></tr>'
    rows = _rows(sheet.totals) + total + _rows(sheet.conversions)
    return f'<table class="totals" style="align-self:start">{rows}</table>'


def _rows(pairs: Iterable[Pair]) -> str:
    return "".join(
        f'<tr><td>{escape(label)}</td><td class="n">{escape(value)}</td></tr>'
        for label, value in pairs
    )


def _seal(sheet: Sheet) -> str:
    if not sheet.qr:
        return ""
    *rest, (label, code) = sheet.security
    elements = _definitions(rest).removesuffix("</dl>")
    elements += f'<dt>{escape(label)}</dt><dd class="code">{escape(code)}</dd></dl>'
    authority = _definitions(sheet.authority) if sheet.authority else ""
    return (
        f'<section class="seal">{qr.svg_inline(sheet.qr)}<div>'
        f"<h2>{escape(sheet.words.security)}</h2>{elements}{authority}"
        f"<p>{escape(sheet.words.scan)}</p></div></section>"
    )
