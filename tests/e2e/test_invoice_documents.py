"""Documents as they are handed out: originals once, copies counted, nothing before it is signed."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.support.house import House, at_once, new_key, own_house
from tests.support.outlets import Outlet

Json = dict[str, Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    with own_house(
        "documents", functions=("invoices", "merchants"), invoice_key_file=str(key)
    ) as house:
        yield house


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser.new_page()
        browser.close()


@pytest.fixture
def outlet(house: House) -> Outlet:
    return Outlet(house)


# --- on paper


def test_original_is_handed_out_once_and_copies_are_numbered(outlet: Outlet) -> None:
    sale, key = outlet.sealed(), new_key()
    path = f"/invoices/{sale['id']}/prints"

    first = outlet.merchant.post(path, {"format": "text80"}, key)
    again = outlet.merchant.post(path, {"format": "text80"}, key)
    copies = [outlet.merchant.post(path, {"format": "pdf", "lang": "en"}) for _ in range(2)]

    assert (first.status_code, first.headers["Stalela-Copy-No"]) == (201, "0")
    assert first.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "DUPLICATA" not in first.text
    assert sale["sealed"]["auth_code"] in first.text
    assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
    assert [copy.headers["Stalela-Copy-No"] for copy in copies] == ["1", "2"]
    assert copies[0].content != copies[1].content
    listed = outlet.merchant.api.get(path).json()["data"]
    assert [(row["copy_no"], row["format"], row["language"]) for row in listed] == [
        (0, "text80", None),
        (1, "pdf", "en"),
        (2, "pdf", "en"),
    ]


def test_printing_at_once_makes_one_original(outlet: Outlet) -> None:
    path = f"/invoices/{outlet.sealed()['id']}/prints"

    printed = at_once(6, lambda _: outlet.merchant.post(path, {"format": "text58"}))

    assert sorted(one.headers["Stalela-Copy-No"] for one in printed) == list("012345")
    assert sum("DUPLICATA" not in one.text for one in printed) == 1


def test_looking_counts_nothing_and_shows_a_copy(outlet: Outlet) -> None:
    sale = outlet.sealed()

    seen = outlet.merchant.api.get(f"/invoices/{sale['id']}/receipt", params={"format": "text80"})

    assert "COPIE" in seen.text
    assert outlet.merchant.api.get(f"/invoices/{sale['id']}/prints").json()["data"] == []


def test_prints_are_never_rewritten(outlet: Outlet, house: House) -> None:
    outlet.merchant.post(f"/invoices/{outlet.sealed()['id']}/prints", {"format": "html"})

    with pytest.raises(Exception, match="append-only"):
        house.books.run("delete from fiscal.prints")


def test_stranger_prints_nothing(outlet: Outlet, house: House) -> None:
    sale = outlet.sealed()
    stranger = house.merchant()

    assert stranger.api.get(f"/invoices/{sale['id']}/receipt").status_code == 404
    refused = stranger.post(f"/invoices/{sale['id']}/prints", {"format": "pdf"})
    assert refused.status_code == 404


# --- on screens


def test_page_shows_the_document_and_asks_for_nothing_else(outlet: Outlet, page: Page) -> None:
    sale = outlet.sealed()
    url = f"{outlet.house.stack.functions_url}/invoices/{sale['id']}/receipt"
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.set_extra_http_headers({"Authorization": f"Bearer {outlet.merchant.secret}"})

    page.goto(url)

    assert page.locator("h1").inner_text() == "Facture"
    assert page.get_by_text(sale["sealed"]["auth_code"]).is_visible()
    drawn = page.locator(".seal svg").bounding_box()
    assert drawn is not None
    assert drawn["width"] > 100
    assert ([one for one in asked if not one.endswith("/favicon.ico")], complaints) == ([url], [])


@pytest.mark.parametrize(
    ("format_", "media_type", "begin"),
    [
        ("html", "text/html; charset=utf-8", b"<!doctype html>"),
        ("pdf", "application/pdf", b"%PDF-1.7"),
        ("pdf80", "application/pdf", b"%PDF-1.7"),
        ("qr", "image/svg+xml", b"<?xml"),
    ],
)
def test_document_comes_as_what_was_asked_for(
    outlet: Outlet, format_: str, media_type: str, begin: bytes
) -> None:
    path = f"/invoices/{outlet.sealed()['id']}/receipt"

    answer = outlet.merchant.api.get(path, params={"format": format_, "lang": "sw"})

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)
    assert answer.content.startswith(begin)
