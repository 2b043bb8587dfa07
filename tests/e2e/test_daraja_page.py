"""The page of the Daraja simulator in a real browser: prompts appear, are decided, are booked."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from scripts.stack.daraja.testing import Customer, Receiver, Simulator, receiving, simulating

PHONE = "254712345678"  # no scenario ends in 78
SHOWN = "254 712 345 678"


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with simulating(tmp_path_factory.mktemp("daraja")) as simulator:
        yield simulator


@pytest.fixture
def simulator(process: Simulator) -> Simulator:
    process.control("POST", "reset")
    return process


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def customer(simulator: Simulator, receiver: Receiver) -> Customer:
    return Customer(simulator, f"{receiver.url}/in/k/1")


@pytest.fixture
def page(browser: Browser, simulator: Simulator) -> Iterator[Page]:
    """An open page of the simulator that reports nothing on the console."""
    opened = browser.new_page(base_url=simulator.url)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto("/")
    yield opened
    opened.close()
    assert complaints == []


def test_prompt_appears_by_itself_and_shows_who_asks_for_what(
    page: Page, customer: Customer
) -> None:
    expect(page.get_by_text("No prompt is open.")).to_be_visible()

    customer.push(PHONE, amount=1500, AccountReference="INV-20418")

    phone = page.get_by_role("article", name="Pay KSh 1,500 to Acacia Books?")
    expect(phone).to_be_visible()
    expect(phone).to_contain_text("INV-20418")
    expect(phone).to_contain_text("600174")
    expect(phone).to_contain_text(SHOWN)
    expect(page.get_by_text("No prompt is open.")).to_be_hidden()


def test_pin_pays_and_the_payment_is_in_the_books(
    page: Page, customer: Customer, receiver: Receiver
) -> None:
    customer.push(PHONE, amount=1500)

    page.get_by_label("PIN").fill("4321")
    page.get_by_role("button", name="Send").click()

    receiver.wait()
    (entry,) = customer.simulator.books()
    expect(page.get_by_role("region", name="Books")).to_contain_text(entry["receipt"])
    expect(page.get_by_role("region", name="History")).to_contain_text("paid")
    expect(page.get_by_role("article")).to_have_count(0)


@pytest.mark.parametrize(
    ("pin", "button", "outcome"), [("0000", "Send", "wrong PIN"), ("", "Cancel", "cancelled")]
)
def test_payer_does_not_pay(
    page: Page, customer: Customer, pin: str, button: str, outcome: str
) -> None:
    customer.push(PHONE)

    page.get_by_label("PIN").fill(pin)
    page.get_by_role("button", name=button).click()

    expect(page.get_by_role("region", name="History")).to_contain_text(outcome)
    assert customer.simulator.books() == []


def test_ignored_prompt_leaves_the_phone_and_ends_unanswered(
    page: Page, customer: Customer
) -> None:
    customer.push(PHONE)

    page.get_by_role("button", name="Ignore").click()

    history = page.get_by_role("region", name="History")
    expect(history).to_contain_text("ignored, waiting")
    expect(page.get_by_role("article")).to_have_count(0)
    customer.simulator.settings(speed=1000)
    expect(history).to_contain_text("no answer 1037")


def test_half_typed_pin_survives_other_prompts(page: Page, customer: Customer) -> None:
    customer.push(PHONE)
    page.get_by_label("PIN").fill("43")

    customer.push("254712345699", amount=7)

    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_label("PIN").first).to_have_value("43")


def test_mode_button_lets_prompts_pay_by_themselves(page: Page, simulator: Simulator) -> None:
    page.get_by_role("button", name="Pay by itself").click()

    pressed = page.get_by_role("button", name="Pay by itself", pressed=True)
    expect(pressed).to_be_visible()
    assert simulator.control("GET", "settings")["mode"] == "auto"


def test_text_from_the_wire_is_shown_as_text(page: Page, customer: Customer) -> None:
    customer.push(PHONE, AccountReference="<b>x</b>&")

    expect(page.get_by_role("article")).to_contain_text("<b>x</b>&")


def test_page_works_without_a_script(
    browser: Browser, customer: Customer, receiver: Receiver
) -> None:
    customer.push(PHONE)
    with browser.new_context(java_script_enabled=False) as context:
        plain = context.new_page()
        plain.goto(customer.simulator.url)

        plain.get_by_label("PIN").fill("4321")
        plain.get_by_role("button", name="Send").click()

        expect(plain.get_by_role("region", name="History")).to_contain_text("paid")
        expect(plain.locator("meta[http-equiv=refresh]")).to_have_count(1)
    assert len(receiver.wait()) == 1


def test_page_refuses_a_pin_of_three_digits(customer: Customer) -> None:
    asked = customer.push(PHONE).json()["CheckoutRequestID"]

    answer = customer.simulator.http.post(f"/page/prompts/{asked}", data={"pin": "123"})

    assert answer.headers["location"].startswith("/?problem=")
    assert customer.simulator.prompt(PHONE)["state"] == "open"


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_page_fits_its_screen(
    browser: Browser, customer: Customer, width: int, tmp_path: Path
) -> None:
    customer.push(PHONE, AccountReference="INV-20418-XY")
    opened = browser.new_page(viewport={"width": width, "height": 800})
    opened.goto(customer.simulator.url)

    overflow = opened.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    sizes = (
        opened.get_by_role("article")
        .get_by_role("button")
        .evaluate_all("keys => keys.map(key => key.getBoundingClientRect().height)")
    )

    opened.close()
    assert overflow <= 0
    assert min(sizes) >= 44


def test_statement_is_a_download_beside_the_books(
    page: Page, simulator: Simulator, receiver: Receiver
) -> None:
    simulator.deposit(PHONE, 1500, "rent nov 4B")
    expect(page.locator("#books")).to_contain_text("rent nov 4B")

    with page.expect_download() as downloading:
        page.get_by_role("link", name="Statement of 600174, today").click()

    lines = downloading.value.path().read_text().splitlines()
    assert downloading.value.suggested_filename.startswith("ORG_600174_All Accounts_Completed")
    assert lines[-1].endswith(",rent nov 4B")
