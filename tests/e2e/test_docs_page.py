"""The API page in a real browser: every operation, a request that works, every error explained."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    expect,
)

from scripts.stack.openapi import operations
from scripts.stack.places import ROOT
from scripts.stack.seed import SECRET_KEY, seed
from scripts.stack.stack import Stack

CODES = ROOT / "shared/public.error_codes.csv"


@pytest.fixture(scope="module")
def docs(stack: Stack) -> str:
    """The page of a stack with a demonstration tenant."""
    seed(stack)
    return f"{stack.functions_url}/docs"


@dataclass
class Visit:
    """One open page, which takes seconds to draw, and what it said and to whom it talked."""

    page: Page
    complaints: list[str]
    hosts: set[str]


@pytest.fixture(scope="module")
def visit(browser: Browser, docs: str) -> Iterator[Visit]:
    made = Visit(browser.new_page(), [], set())
    made.page.on("console", lambda message: made.complaints.extend(complaint(message)))
    made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
    made.page.on("request", lambda request: made.hosts.add(urlsplit(request.url).netloc))
    made.page.goto(docs)
    expect(made.page.locator(".opblock").first).to_be_visible()
    yield made
    made.page.close()


@pytest.fixture
def page(visit: Visit, docs: str) -> Iterator[Page]:
    """The open page; it complains about nothing and talks to nobody else."""
    yield visit.page
    assert visit.complaints == []
    assert visit.hosts <= {urlsplit(docs).netloc, ""}  # "": images in the style sheet


def test_page_shows_every_operation_of_the_document(page: Page, stack: Stack) -> None:
    document = httpx.get(f"{stack.functions_url}/openapi.json").json()

    shown: set[tuple[str, ...]] = set()
    # Only what is near the window is drawn, so the page is read from top to bottom.
    page.evaluate("scrollTo(0, 0)")
    while True:
        for text in page.locator(".opblock").all_inner_texts():
            shown.add(tuple(text.replace("\u200b", "").split("\n")[:3]))
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(60)
        if page.evaluate("scrollY + innerHeight >= document.body.scrollHeight - 2"):
            break

    expected = {
        (verb.upper(), path, operation["summary"]) for verb, path, operation in operations(document)
    }
    assert shown == expected
    page.evaluate("scrollTo(0, 0)")


def test_request_with_the_demonstration_key_takes_a_payment(page: Page, stack: Stack) -> None:
    page.get_by_role("link", name="Create").click()
    create = opened(page, "create-payment-intent")

    create.get_by_role("button", name="Execute").click()

    expect(status(create)).to_have_text("201")
    created = create.locator(".live-responses-table tbody .response-col_description")
    expect(created).to_contain_text('"requires_payment_method"')
    assert f"Bearer {stack.keys[SECRET_KEY]}" in create.locator(".curl").inner_text()


def test_executing_twice_shows_the_first_answer_again(page: Page) -> None:
    page.get_by_role("link", name="Create").click()
    create = opened(page, "create-payment-intent")
    create.get_by_role("button", name="Execute").click()
    expect(status(create)).to_have_text("201")

    create.get_by_role("button", name="Execute").click()

    expect(create.locator(".live-responses-table")).to_contain_text("idempotent-replayed: true")


def test_refused_request_leads_to_the_row_of_its_code(page: Page, docs: str) -> None:
    page.get_by_role("link", name="read", exact=True).click()
    read = opened(page, "get-payment-intent")
    read.get_by_placeholder("payment_intent_id").fill("pi_01kaj3v7wvf4fr8mnp5sye2s6k")
    read.get_by_role("button", name="Execute").click()
    expect(status(read)).to_have_text("404")

    # What the answer names as its type, followed as a person would.
    page.goto(f"{docs}#40401")
    page.reload()

    expect(page.locator(".opblock").first).to_be_visible()
    row = page.locator("tr:target")
    expect(row).to_be_in_viewport()
    expect(row).to_contain_text("Check the id and the environment of the key.")


def test_every_code_has_a_row_with_meaning_and_remedy(page: Page) -> None:
    with CODES.open(newline="") as file:
        codes = list(csv.DictReader(file))

    assert [row.get_attribute("id") for row in page.locator("#errors tbody tr").all()] == [
        code["code"] for code in codes
    ]
    for code in codes:
        row = page.locator(f"[id='{code['code']}']")
        expect(row).to_contain_text(code["title"])
        expect(row).to_contain_text(code["remedy"])


def test_codes_of_an_operation_lead_to_their_rows(page: Page) -> None:
    page.get_by_role("link", name="Create").click()
    create = opened(page, "create-payment-intent")

    create.get_by_role("link", name="42241").click()

    expect(page.locator("tr:target")).to_be_in_viewport()
    expect(page.locator("tr:target")).to_contain_text("IdempotencyConflict")


def test_problem_type_is_an_anchor_of_this_page(stack: Stack, docs: str) -> None:
    problem = httpx.get(f"{stack.functions_url}/payment-intents").json()

    page_url, _, code = problem["type"].partition("#")

    assert page_url == docs
    assert f'<tr id="{code}">' in httpx.get(page_url).text


def test_errors_are_readable_without_a_script(browser: Browser, docs: str) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        plain = context.new_page()
        plain.goto(f"{docs}#42901")

        expect(plain.locator("tr:target")).to_be_in_viewport()
        expect(plain.get_by_role("link", name="the document")).to_be_visible()


def test_key_is_for_pages_of_this_machine_only(stack: Stack, docs: str) -> None:
    key = stack.keys[SECRET_KEY]

    foreign = httpx.get(docs, headers={"Host": "rebound.example"})

    assert key in httpx.get(docs).text
    assert foreign.status_code == 200
    assert key not in foreign.text
    assert "access-control-allow-origin" not in foreign.headers


def test_page_without_a_demonstration_key_says_how_to_get_one(platform: Stack) -> None:
    page = httpx.get(f"{platform.functions_url}/docs").text

    assert "./scripts/up" in page
    assert '"key": null' in page


def test_page_may_load_nothing_from_elsewhere(docs: str) -> None:
    policy = httpx.get(docs).headers["content-security-policy"]

    base = "http://" + (urlsplit(docs).netloc)
    sources = {word for part in policy.split("; ") for word in part.split()[1:]}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:", base}
    assert "script-src 'self';" in policy


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_page_fits_its_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.get_by_role("link", name="Create").click()
    create = opened(page, "create-payment-intent")
    create.get_by_role("button", name="Execute").click()
    expect(status(create)).to_have_text("201")

    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    heights = page.locator(".opblock-summary").evaluate_all(
        "rows => rows.map(row => row.getBoundingClientRect().height)"
    )
    form = create.locator("textarea").bounding_box()

    assert overflow <= 0
    assert min(heights) >= 44
    assert form is not None
    assert form["width"] >= width * 0.7


def complaint(message: ConsoleMessage) -> list[str]:
    """What the console says, unless it is that the API refused what the test asked of it."""
    is_answer = "/functions/v1/payment-intents" in message.location["url"]
    return [] if is_answer and message.text.startswith("Failed to load") else [message.text]


def opened(page: Page, name: str) -> Locator:
    """The operation of this name, unfolded."""
    operation = page.locator(f"[id='operations-payment-intents-{name}']")
    expect(operation.get_by_role("button", name="Execute")).to_be_visible()
    return operation


def status(operation: Locator) -> Locator:
    """The status of the answer to what was executed."""
    return operation.locator(".live-responses-table tbody .response-col_status")
