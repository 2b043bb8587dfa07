"""A sealed document reaches its client's mailbox, with a link that ends; an unsigned one never."""

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from scripts.stack.resend.testing import Post
from tests.support.house import House, own_house
from tests.support.outlets import Outlet
from tests.support.simulator import Json, until


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    functions = ("invoices", "merchants", "receipts")
    with own_house("document-mails", functions=functions, invoice_key_file=str(key)) as house:
        yield house


@pytest.fixture(scope="module")
def post(house: House) -> Iterator[Post]:
    with httpx.Client(base_url=house.stack.mailbox_url, timeout=15, trust_env=False) as http:
        made = Post(house.stack.mailbox_url, http)
        made.settings(requests_per_s=1000, daily_quota=10_000, delivery_delay_s=0.05)
        yield made


@pytest.fixture
def outlet(house: House, post: Post) -> Outlet:
    return Outlet(house)


def client(box: str, **members: str) -> Json:
    return {"client": {"classification": "individual", "email": f"{box}@mail.example"} | members}


def link_in(mail: Json) -> str:
    found = re.search(r"http\S+/receipts/i/\S+", mail["text"])
    assert found
    assert found[0] in mail["html"]
    return found[0]


def follow(house: House, link: str) -> httpx.Response:
    """The link as a mail reader follows it: without any credential."""
    return house.http.get(link, follow_redirects=False)


def mails(outlet: Outlet, invoice_id: str) -> list[Json]:
    answer = outlet.merchant.api.get(f"/receipts/documents/{invoice_id}").raise_for_status()
    return list(answer.json()["data"])


def test_client_gets_the_document_in_the_language_of_its_country(
    outlet: Outlet, house: House, post: Post
) -> None:
    sale = outlet.sealed(**client("amina", name="Amina Ilunga"))

    mail = post.email("amina@mail.example")

    number = sale["fiscal_number"]
    assert mail["subject"] == f"Facture de vente {number} de Acacia Books : 1 160,00 CDF"
    assert "Bonjour Amina Ilunga," in mail["text"]
    assert sale["sealed"]["auth_code"] in mail["html"]
    assert "Consulting" not in mail["text"] + mail["html"]  # its lines are nobody else's business
    found = follow(house, link_in(mail))
    assert (found.status_code, found.headers["Cache-Control"]) == (302, "no-store")
    leads_to = urlsplit(found.headers["Location"])
    assert leads_to.path.endswith("/verify/i")
    assert parse_qs(leads_to.query) == {
        "fn": [sale["fiscal_number"]],
        "ac": [sale["sealed"]["auth_code"].replace("-", "")],
        "ts": [sale["sealed"]["sealed_at"]],
        "fa": [sale["sealed"]["fiscal_authority_id"]],
    }
    (sent,) = until(
        lambda: [one for one in mails(outlet, sale["id"]) if one["status"] == "delivered"],
        "the mail delivered",
    )
    assert (sent["kind"], sent["to"], sent["invoice_id"]) == (
        "document",
        "a***@mail.example",
        sale["id"],
    )


def test_link_ends_when_it_expires_and_when_it_is_revoked(
    outlet: Outlet, house: House, post: Post
) -> None:
    old, revoked = outlet.sealed(**client("old")), outlet.sealed(**client("revoked"))
    links = [link_in(post.email(f"{box}@mail.example")) for box in ("old", "revoked")]
    assert [follow(house, link).status_code for link in links] == [302, 302]
    lasts = "select expires_at > now() + interval '89 days' from fiscal.document_links limit 1"
    assert house.books.value(lasts)

    house.books.run(
        "update fiscal.document_links set expires_at = now() where invoice_id = %s", old["id"]
    )
    ended = outlet.merchant.api.delete(f"/receipts/documents/{revoked['id']}/links")

    assert ended.json() == {"revoked": 1}
    answers = [follow(house, link) for link in links]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (404, "40401"),
        (404, "40401"),
    ]
    assert follow(house, links[0][:-1] + "x").status_code == 404


def test_link_is_kept_as_a_hash(outlet: Outlet, house: House, post: Post) -> None:
    outlet.sealed(**client("hashed"))
    token = link_in(post.email("hashed@mail.example")).rpartition("/")[2]

    kept = house.books.rows("select * from fiscal.document_links")
    bodies = house.books.rows("select * from messages.messages")

    assert token not in str(kept) + str(bodies)


def test_strangers_see_no_mails_and_revoke_nothing(
    outlet: Outlet, house: House, post: Post
) -> None:
    sale = outlet.sealed(**client("mine"))
    link = link_in(post.email("mine@mail.example"))
    stranger = house.merchant().api

    assert stranger.get(f"/receipts/documents/{sale['id']}").status_code == 404
    assert stranger.delete(f"/receipts/documents/{sale['id']}/links").status_code == 404
    assert follow(house, link).status_code == 302


def test_client_without_an_address_gets_nothing(outlet: Outlet, post: Post) -> None:
    silent = outlet.sealed()
    told = outlet.sealed(**client("after"))
    post.email("after@mail.example")  # events are worked on in order

    assert mails(outlet, silent["id"]) == []
    assert len(mails(outlet, told["id"])) == 1
