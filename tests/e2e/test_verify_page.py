"""The page behind a QR code in a real browser, as a shopper's phone shows it."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from shared.fiscal.printing.elements import Elements
from tests.support.house import House, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import Json

PHONE = {"width": 360, "height": 740}
SAID = {
    ("en", "test"): "Only a test, not an invoice",
    ("en", "verified"): "This invoice is genuine",
    ("en", "not_found"): "No such invoice",
    ("en", "tampered"): "This document was altered",
    ("fr", "test"): "Un essai, pas une facture",
    ("fr", "verified"): "Cette facture est authentique",
    ("fr", "not_found"): "Facture introuvable",
    ("fr", "tampered"): "Ce document a été altéré",
    ("sw", "test"): "Ni jaribio tu, si ankara",
    ("sw", "verified"): "Ankara hii ni halali",
    ("sw", "not_found"): "Ankara haikupatikana",
    ("sw", "tampered"): "Hati hii imebadilishwa",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    with own_house(
        "verify-page", functions=("invoices", "merchants", "verify"), invoice_key_file=str(key)
    ) as house:
        yield house


@pytest.fixture(scope="module")
def invoice(house: House) -> Json:
    return Outlet(house, house.merchant(environment="production", app=None)).sealed()


@pytest.fixture(scope="module")
def trial(house: House) -> Json:
    """A document of the sandbox."""
    return Outlet(house).sealed()


@pytest.fixture
def phone(browser: Browser, house: House) -> Iterator[BrowserContext]:
    """A phone whose browser runs no script, and complains about nothing."""
    with browser.new_context(viewport=PHONE, java_script_enabled=False, locale="en") as context:
        complaints: list[str] = []
        context.on("console", lambda message: complaints.append(message.text))
        yield context
    assert [each for each in complaints if "404" not in each] == []


def address(house: House, invoice: Json, outcome: str) -> str:
    """What the QR of a paper leads to."""
    base = f"{house.stack.functions_url}/verify"
    text = Elements.of(invoice, base).qr_text
    assert urlsplit(text).path.endswith("/verify/i")
    changes = {"tampered": ("ts=20", "ts=19"), "not_found": ("ac=", "ac=0")}
    return text.replace(*changes.get(outcome, ("", "")))


@pytest.mark.parametrize(("language", "outcome"), SAID)
def test_page_says_what_it_found(
    phone: BrowserContext, house: House, invoice: Json, trial: Json, language: str, outcome: str
) -> None:
    page = phone.new_page()
    paper = trial if outcome == "test" else invoice

    page.goto(f"{address(house, paper, outcome)}&lang={language}")

    expect(page.get_by_role("heading", level=1)).to_have_text(SAID[language, outcome])
    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(page.get_by_text(paper["fiscal_number"])).to_be_visible()
    seller = page.get_by_text("Acacia Books")
    expect(seller).to_have_count(1 if outcome in ("verified", "test") else 0)


def test_page_speaks_the_language_of_the_browser_until_asked_otherwise(
    browser: Browser, house: House, invoice: Json
) -> None:
    with browser.new_context(viewport=PHONE, locale="fr-CD") as context:
        page = context.new_page()
        page.goto(address(house, invoice, "verified"))
        expect(page.get_by_role("heading", level=1)).to_have_text(SAID["fr", "verified"])

        page.get_by_role("link", name="Kiswahili").click()

        expect(page.get_by_role("heading", level=1)).to_have_text(SAID["sw", "verified"])


def test_paper_without_a_camera_is_typed(
    phone: BrowserContext, house: House, invoice: Json
) -> None:
    page = phone.new_page()
    page.goto(f"{house.stack.functions_url}/verify/i")
    expect(page.get_by_role("heading", level=1)).to_have_text("Enter what stands on the invoice")

    page.get_by_label("Fiscal number").fill(invoice["fiscal_number"].lower())
    page.get_by_label("Authentication code").fill("K56Y")
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(SAID["en", "not_found"])
    expect(page.get_by_label("Fiscal number")).to_have_value(invoice["fiscal_number"])

    page.get_by_label("Authentication code").fill(invoice["sealed"]["auth_code"])
    page.get_by_role("button", name="Verify").click()

    expect(page.get_by_role("heading", level=1)).to_have_text(SAID["en", "verified"])
    expect(page.get_by_text("1,160.00 CDF")).to_be_visible()


@pytest.mark.parametrize("width", [320, 360, 1280])
@pytest.mark.parametrize("outcome", ["verified", "not_found", "tampered"])
def test_page_fits_its_screen(
    browser: Browser, house: House, invoice: Json, width: int, outcome: str
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 740})
    page.goto(f"{address(house, invoice, outcome)}&lang=fr")

    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    small = [
        box
        for place in page.locator("nav a, button, input:not([type=hidden])").all()
        if (box := place.bounding_box()) and box["height"] < 44
    ]

    page.close()
    assert overflow <= 0
    assert small == []


CONTRAST = """
() => {
  const light = (c) => c.map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour.slice(0, 3);
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim())) continue;
    const front = light(parse(getComputedStyle(node).color).slice(0, 3));
    const back = light(behind(node));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) faint.push(node.textContent + " " + ratio.toFixed(2));
  }
  return faint;
}
"""


@pytest.mark.parametrize("outcome", ["verified", "not_found", "tampered"])
def test_page_can_be_read_by_everybody(
    browser: Browser, house: House, invoice: Json, outcome: str
) -> None:
    page = browser.new_page(viewport=PHONE)
    page.goto(address(house, invoice, outcome))

    faint = page.evaluate(CONTRAST)
    unnamed = [
        field.get_attribute("name")
        for field in page.locator("input:not([type=hidden])").all()
        if not page.locator(f"label[for={field.get_attribute('id')}]").count()
    ]
    headings = [each.evaluate("node => node.tagName") for each in page.get_by_role("heading").all()]

    page.close()
    assert faint == []
    assert unnamed == []
    assert headings[0] == "H1"
    assert set(headings[1:]) == {"H2"}


def test_nothing_on_the_page_runs_or_is_loaded(
    browser: Browser, house: House, invoice: Json
) -> None:
    page = browser.new_page(viewport=PHONE)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    url = address(house, invoice, "verified")

    answer = page.goto(url)

    assert answer is not None
    policy = answer.headers["content-security-policy"]
    page.close()
    assert [each for each in asked if not each.endswith("/favicon.ico")] == [url]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "Accept-Language" in answer.headers["vary"]


@pytest.mark.parametrize("field", ["fn", "ac", "ts", "fa", "lang"])
def test_what_is_typed_stays_text(house: House, invoice: Json, field: str) -> None:
    hostile = "\"><script>alert(1)</script><b x='"
    fields = {"fn": invoice["fiscal_number"], "ac": "K56Y", field: hostile}

    body = house.http.get("/verify/i", params=fields).text

    assert "<script" not in body
    assert "<b x" not in body


def test_page_of_a_busy_address_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    with own_house("verify-busy", functions=("verify",), ip_requests_per_s=50) as house:
        asked = {"fn": "STL-KIN001-000001", "ac": "K56Y"}
        pages = [house.http.get("/verify/i", params=asked | {"lang": "fr"}) for _ in range(31)]
        answers: list[httpx.Response] = [
            house.http.get("/verify/STL-KIN001-000001", params={"auth_code": "K56Y"}),
            house.http.post("/verify/qr", json={"qr_data": "https://v.example/i?fn=A&ac=B"}),
        ]
        keys = house.http.get("/verify/keys")

    assert [page.status_code for page in pages] == [404] * 30 + [429]
    assert "Trop de vérifications" in pages[-1].text
    assert [answer.status_code for answer in answers] == [429, 429]
    assert int(answers[0].headers["Retry-After"]) <= 2
    assert keys.status_code == 200


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_invoice_as_a_page_shows_its_total_on_any_screen(
    browser: Browser, house: House, width: int
) -> None:
    outlet = Outlet(house)
    sold = outlet.sealed(total="11600000.00", price="10000000.00")
    shown = outlet.merchant.api.get(f"/invoices/{sold['id']}/receipt?format=html&lang=fr")
    page = browser.new_page(viewport={"width": width, "height": 740})
    page.set_content(shown.raise_for_status().text)

    overflow = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    total = page.locator(".total .n").bounding_box()

    page.close()
    assert overflow <= 0
    assert total is not None
    assert total["x"] + total["width"] <= width
