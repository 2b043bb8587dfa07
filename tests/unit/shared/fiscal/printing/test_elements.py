"""The five elements, and a QR code that a reader reads."""

from urllib.parse import parse_qs, urlsplit

import pytest
import zxingcpp
from PIL import Image

from shared.fiscal.printing import qr
from shared.fiscal.printing.elements import Elements, authority_block, qr_text

RESOURCE = {
    "fiscal_number": "STL-KIN001-000001",
    "sealed": {
        "fiscal_authority_id": "stalela-cd-01",
        "sealed_at": "2026-02-17T04:00:02Z",
        "auth_code": "K56Y-BV6M-60QQ-5NM4",
    },
    "authority": None,
    "document": {"jurisdiction": "CD"},
}
ISSUED = {
    "code": "X537-E4DB-AJUU-HHXN-FWIS-FEKJ",
    "qr": "RDCDEF01;CD01000042;X537E4DBAJUUHHXNFWISFEKJ;A0712345B;20260217050002",
    "number": None,
    "time": "2026-02-17T04:00:02Z",
    "counters": {"counters": "64/64 FV", "nim": "CD01000042"},
}
TEXT = (
    "https://verify.example/i?fn=STL-KIN001-000001&ac=K56YBV6M60QQ5NM4"
    "&ts=2026-02-17T04%3A00%3A02Z&fa=stalela-cd-01"
)


def test_elements_are_those_of_the_seal() -> None:
    found = Elements.of(RESOURCE, "https://verify.example/")

    assert found.qr_text == TEXT
    assert (found.fiscal_number, found.auth_code) == ("STL-KIN001-000001", "K56Y-BV6M-60QQ-5NM4")


def test_the_authority_s_qr_is_the_one_that_is_printed() -> None:
    issued = Elements.of(RESOURCE | {"authority": ISSUED}, "https://verify.example/")
    without = Elements.of(RESOURCE | {"authority": ISSUED | {"qr": None}}, "https://verify.example")

    assert issued.qr_text == ISSUED["qr"]
    assert without.qr_text == TEXT


def test_what_the_authority_issued_stands_under_its_own_labels() -> None:
    assert list(authority_block(RESOURCE)) == []
    assert list(authority_block(RESOURCE | {"authority": ISSUED})) == [
        ("CODE DEF/DGI", "X537-E4DB-AJUU-HHXN-FWIS-FEKJ"),
        ("DEF NID", "CD01000042"),
        ("DEF Compteurs", "64/64 FV"),
        ("DEF Heure", "2026-02-17 04:00:02 UTC"),
    ]


def test_unsigned_document_has_no_elements() -> None:
    with pytest.raises(AssertionError, match="unsigned"):
        Elements.of(RESOURCE | {"sealed": None}, "https://verify.example")


def test_what_a_url_gives_meaning_to_is_encoded() -> None:
    text = qr_text("https://verify.example", "A&B#1", "AB-CD", "2026-02-17T04:00:02Z", "a b/é")

    assert parse_qs(urlsplit(text).query) == {
        "fn": ["A&B#1"],
        "ac": ["ABCD"],
        "ts": ["2026-02-17T04:00:02Z"],
        "fa": ["a b/é"],
    }


def test_code_is_read_back_at_the_highest_correction() -> None:
    modules = qr.matrix(TEXT)
    size = len(modules)
    picture = Image.new("L", (size, size), 255)
    picture.putdata([0 if dark else 255 for row in modules for dark in row])

    (read,) = zxingcpp.read_barcodes(picture.resize((size * 6, size * 6), Image.Resampling.NEAREST))

    assert (read.text, read.ec_level) == (TEXT, "H")


def test_code_has_four_light_modules_around_it() -> None:
    modules = qr.matrix(TEXT)

    edge = [*modules[:4], *modules[-4:], *(row[:4] + row[-4:] for row in modules)]
    assert not any(any(row) for row in edge)
    assert modules[4][4]


def test_drawing_is_the_same_every_time() -> None:
    assert qr.svg(TEXT) == qr.svg(TEXT)
    assert b"<svg" in qr.svg(TEXT)
