"""The mailbox of the Resend simulator in a real browser: mail appears, is read, tells its fate."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from scripts.stack.resend.testing import API_KEY, Post, posting


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Post]:
    with posting(tmp_path_factory.mktemp("mailbox")) as running:
        yield running


@pytest.fixture
def post(process: Post) -> Post:
    process.control("POST", "reset")
    process.settings(delivery_delay_s=0)
    return process


@pytest.fixture
def page(browser: Browser, post: Post) -> Iterator[Page]:
    """An open page of the mailbox that reports nothing on the console."""
    opened = browser.new_page(base_url=post.url)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto("/")
    yield opened
    opened.close()
    assert complaints == []


def send(post: Post, to: str = "wanjiru@mail.example", **changes: Any) -> httpx.Response:
    mail = {
        "from": "Stalela <receipts@stalela.example>",
        "to": [to],
        "subject": "Receipt for KES 100.00",
        "text": "Thank you.",
        "html": "<h1>Payment received</h1>",
    } | changes
    headers = {"authorization": f"Bearer {API_KEY}"}
    return post.http.post("/emails", json=mail, headers=headers).raise_for_status()


def test_mail_appears_by_itself_and_is_read(page: Page, post: Post) -> None:
    expect(page.get_by_text("No mail yet.")).to_be_visible()

    send(post)
    page.get_by_role("link", name="Receipt for KES 100.00").click()

    shown = page.get_by_role("article")
    expect(shown).to_contain_text("wanjiru@mail.example")
    expect(shown).to_contain_text("delivered")
    frame = page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Payment received")).to_be_visible()
    page.get_by_text("As plain text").click()
    expect(shown).to_contain_text("Thank you.")


def test_mail_that_bounced_says_so(page: Page, post: Post) -> None:
    send(post, "bounced@mail.example")

    expect(page.get_by_role("link", name="bounced@mail.example")).to_contain_text("bounced")


def test_mail_cannot_run_anything(browser: Browser, post: Post) -> None:
    page = browser.new_page(base_url=post.url)
    hostile = "<script>parent.document.title = 'owned'</script><p>still here</p>"

    send(post, subject="<b>bold</b>", html=hostile)
    page.goto("/")
    page.get_by_role("link", name="<b>bold</b>").click()

    expect(page.frame_locator("iframe").get_by_text("still here")).to_be_visible()
    expect(page).to_have_title("Mailbox · Resend simulator")
    page.close()


def test_mailbox_works_without_a_script(browser: Browser, post: Post) -> None:
    send(post)
    with browser.new_context(java_script_enabled=False, base_url=post.url) as context:
        plain = context.new_page()
        plain.goto("/")

        plain.get_by_role("link", name="Receipt for KES 100.00").click()

        expect(plain.get_by_role("article")).to_contain_text("wanjiru@mail.example")
        expect(plain.locator("meta[http-equiv=refresh]")).to_have_count(1)


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_mailbox_fits_its_screen(browser: Browser, post: Post, width: int) -> None:
    send(post, f"{'long' * 14}@mail.example", subject="A" * 70)
    opened = browser.new_page(base_url=post.url, viewport={"width": width, "height": 800})
    opened.goto("/")
    opened.get_by_role("link").first.click()

    overflow = opened.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    height = opened.get_by_role("link").first.bounding_box()

    opened.close()
    assert overflow <= 0
    assert height is not None
    assert height["height"] >= 44
