"""One invoice on paper and on screens: everything is there, nothing is more, always the same."""

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pypdfium2
import pytest
import zxingcpp

from shared.fiscal.printing.press import Format, Print, printed
from shared.fiscal.printing.text import cells
from shared.fiscal.printing.wording import WORDS, Words

Json = dict[str, Any]
Facts = Callable[..., Json]
VERIFY = "https://verify.example"
QR = (
    "https://verify.example/i?fn=STL-KIN001-000001&ac=K56YBV6M60QQ5NM4"
    "&ts=2026-02-17T04%3A00%3A02Z&fa=stalela-cd-01"
)
ELEMENTS = ("STL-KIN001-000001", "stalela-cd-01", "2026-02-17 04:00:02 UTC", "K56Y-BV6M-60QQ-5NM4")
PAID = [{"method": "cash", "amount": "1160.00", "currency": "CDF"}]
ORIGINAL = Print(copy_no=0)


def text_of(facts: Json, format_: Format, which: Print = ORIGINAL) -> str:
    """What a reader reads, its spaces made equal."""
    content = printed(facts, which, VERIFY, format_)
    if format_ in (Format.PDF, Format.PDF80):
        read = "\n".join(page.get_textpage().get_text_range() for page in pages(content))
    else:
        read = content.decode()
    if format_ is Format.HTML:
        read = unescape(re.sub(r"<[^>]+>", " ", read.partition("</style>")[2]))
    return re.sub(r"\s+", " ", read)


def pages(content: bytes) -> list[pypdfium2.PdfPage]:
    return list(pypdfium2.PdfDocument(content))


READABLE = [Format.TEXT58, Format.TEXT80, Format.HTML, Format.PDF, Format.PDF80]


@pytest.mark.parametrize("format_", READABLE)
def test_every_format_has_seller_elements_lines_and_totals(facts: Facts, format_: Format) -> None:
    read = text_of(facts({"description": "Médicament générique"}), format_)

    for part in (*ELEMENTS, "Librairie de l'Équateur", "308123456", "Médicament générique"):
        assert part in read, part
    for amount in ("100 000,00", "16 000,00", "116 000,00", "TVA 16 %", "Espèces"):
        assert amount in read, amount


@pytest.mark.parametrize("format_", READABLE)
@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("kg", "2,5 kg"),
        ("", "Article"),
        ("boîte de douze flacons de 50 ml", "Article (boîte de douze flacons de 50 ml)"),
    ],
)
def test_line_says_its_unit(facts: Facts, format_: Format, unit: str, said: str) -> None:
    item = {"quantity": "2.5", "unit_price": "40000.00"} | ({"unit": unit} if unit else {})

    read = text_of(facts(item), format_)

    assert said in read
    assert "Article ()" not in read


@pytest.mark.parametrize("format_", [Format.PDF, Format.PDF80])
def test_telephone_reads_the_code_on_paper(facts: Facts, format_: Format) -> None:
    *_, last = pages(printed(facts(), ORIGINAL, VERIFY, format_))

    (read,) = zxingcpp.read_barcodes(last.render(scale=2).to_pil())  # 144 dpi, as a poor printer

    assert read.text == QR


@pytest.mark.parametrize("format_", list(Format))
def test_same_document_gives_the_same_bytes(facts: Facts, format_: Format) -> None:
    document = facts()

    assert printed(document, ORIGINAL, VERIFY, format_) == printed(
        document, ORIGINAL, VERIFY, format_
    )


@pytest.mark.parametrize("format_", READABLE)
@pytest.mark.parametrize(
    ("which", "mark"), [(Print(0), None), (Print(2), "DUPLICATA 2"), (Print(None), "COPIE")]
)
def test_only_the_original_is_unmarked(
    facts: Facts, format_: Format, which: Print, mark: str | None
) -> None:
    read = text_of(facts(), format_, which)

    assert (mark in read) if mark else ("DUPLICATA" not in read and "COPIE" not in read)


@pytest.mark.parametrize("format_", READABLE)
def test_document_of_the_sandbox_says_so(facts: Facts, format_: Format) -> None:
    assert "SANS VALEUR FISCALE" in text_of(facts(environment="sandbox"), format_)


@pytest.mark.parametrize("language", sorted(WORDS))
@pytest.mark.parametrize("format_", READABLE)
def test_document_speaks_the_language_asked_for(
    facts: Facts, format_: Format, language: str
) -> None:
    words = WORDS[language]

    read = text_of(facts(), format_, Print(0, language))

    for word in (words.total, words.code, words.methods["cash"], words.thanks):
        assert word in read, word


def test_languages_have_the_same_words() -> None:
    first, *others = WORDS.values()
    for other in others:
        for name in ("titles", "methods", "reasons", "treatments"):
            assert keys(first, name) == keys(other, name)


def keys(words: Words, name: str) -> set[str]:
    return set(getattr(words, name))


# --- text


@pytest.mark.parametrize(("format_", "width"), [(Format.TEXT58, 32), (Format.TEXT80, 48)])
def test_no_line_is_wider_than_the_paper(facts: Facts, format_: Format, width: int) -> None:
    document = facts(
        {"description": "Ŋ\u0301gɔ̃ " * 30, "unit_price": "999999999999.99", "quantity": "3.5"},
        {"description": "漢字" * 40, "code": "X" * 50},
        payments=[{"method": "cash", "amount": "4060000115999.97", "currency": "CDF"}],
        client={"classification": "company", "name": "N" * 200, "tin": "A1234567X"},
        notes="mot " * 100,
    )

    lines = printed(document, Print(12), VERIFY, format_).decode().splitlines()

    assert [line for line in lines if cells(line) > width] == []
    assert max(map(cells, lines)) == width


@pytest.mark.parametrize(("format_", "width"), [(Format.TEXT58, 32), (Format.TEXT80, 48)])
def test_amounts_end_at_the_edge(facts: Facts, format_: Format, width: int) -> None:
    small = facts({"unit_price": "1000.00"}, payments=PAID)
    lines = printed(small, ORIGINAL, VERIFY, format_).decode().splitlines()

    totals = [line for line in lines if line.startswith(("Total", "TOTAL", "Espèces"))]
    assert [len(line) for line in totals] == [width] * 4
    assert "  1 x 1 000,00" + "1 000,00 TG02".rjust(width - 14) in lines


def test_accents_take_no_cell() -> None:
    assert (cells("é"), cells("e\u0301"), cells("漢"), cells("Ŋgɔ̃")) == (1, 1, 2, 3)


def test_blocks_come_in_the_order_of_the_law(facts: Facts) -> None:
    read = text_of(facts(notes="Garantie"), Format.TEXT80)

    order = ["Librairie", "N° fiscal", "Autorité", "Scellé", "Code d'auth", "Article", "TVA 16",
             "Espèces", "Garantie", "https://"]  # fmt: skip
    places = [read.index(part) for part in order]
    assert places == sorted(places)


# --- receipt printers


@pytest.mark.parametrize(
    ("format_", "same", "dots"),
    [(Format.ESCPOS58, Format.TEXT58, 4), (Format.ESCPOS80, Format.TEXT80, 5)],
)
def test_printer_gets_the_text_and_draws_the_code(
    facts: Facts, format_: Format, same: Format, dots: int
) -> None:
    given = facts({"description": "Médicament générique"})

    content = printed(given, ORIGINAL, VERIFY, format_)

    size = (len(QR) + 3).to_bytes(2, "little")
    code = b"".join(
        b"\x1d(k" + command
        for command in (
            b"\x04\x001A2\x00",  # model 2
            b"\x03\x001C" + bytes([dots]),
            b"\x03\x001E3",  # correction H
            size + b"1P0" + QR.encode(),
            b"\x03\x001Q0",
        )
    )
    before, _, after = content.partition(code)
    assert before.startswith(b"\x1b@\x1bt\x10")
    assert after.endswith(b"\x1dVB\x00")
    above = before.removeprefix(b"\x1b@\x1bt\x10").removesuffix(b"\x1ba\x01\n")
    text = printed(given, ORIGINAL, VERIFY, same).decode()
    assert text.startswith(above.decode("cp1252"))
    assert "Médicament générique" in above.decode("cp1252")


def test_printer_gets_letters_it_has(facts: Facts) -> None:
    given = facts({"description": "Ŋgɔ\u0303 漢 ē, é"})

    content = printed(given, ORIGINAL, VERIFY, Format.ESCPOS80)

    assert "\n?g? ?? e, é\n".encode("cp1252") in content


# --- HTML


def test_page_runs_nothing_and_asks_nobody(facts: Facts) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>"

    content = printed(facts({"description": evil}, notes=evil), ORIGINAL, VERIFY, Format.HTML)

    page = content.decode()
    assert "<script" not in page
    assert "<img" not in page
    assert not re.search(r"<[^>]*\b(src|href|on\w+)=", page)
    assert page.count("&lt;script&gt;") == 2


# --- PDF


def test_pdf_says_that_it_is_made_for_archives(facts: Facts) -> None:
    content = printed(facts(), ORIGINAL, VERIFY, Format.PDF)

    assert b"<pdfaid:part>3</pdfaid:part>" in content
    assert b"<pdfaid:conformance>B</pdfaid:conformance>" in content
    assert b"/GTS_PDFA1" in content
    assert content.count(b"/FontFile2") == 2  # both fonts are inside
    assert b"/AFRelationship /Source" in content
    assert b"/JavaScript" not in content


def test_pdf_carries_the_document_itself(facts: Facts) -> None:
    given = facts()
    document = pypdfium2.PdfDocument(printed(given, ORIGINAL, VERIFY, Format.PDF))

    (attached,) = [document.get_attachment(at) for at in range(document.count_attachments())]

    resource = json.loads(given["resource"])
    assert attached.get_name() == "STL-KIN001-000001.json"
    assert json.loads(bytes(attached.get_data())) == {
        name: value for name, value in resource.items() if name != "credited_amount"
    }


def test_letters_that_the_fonts_lack_are_shown_as_such(facts: Facts) -> None:
    read = text_of(facts({"description": "Thé 漢 {nb} ɔ́ ŋ"}), Format.PDF)

    assert "Thé \ufffd {nb} ɔ́ ŋ" in read


@pytest.mark.parametrize("format_", [Format.PDF, Format.PDF80])
def test_long_documents_lose_no_line(facts: Facts, format_: Format) -> None:
    lines = [{"unit_price": "1.00", "description": f"Ligne {n:03d} " * 12} for n in range(500)]
    payments = [{"method": "cash", "amount": "580.00", "currency": "CDF"}]

    content = printed(facts(*lines, payments=payments), ORIGINAL, VERIFY, format_)

    read = text_of(facts(*lines, payments=payments), format_)
    assert [n for n in range(500) if f"Ligne {n:03d}" not in read] == []
    assert len(pages(content)) > 1
    assert all(page.get_height() <= 14400 for page in pages(content))
    if format_ is Format.PDF:
        assert f"Page 1/{len(pages(content))}" in read
