"""Drafts: kept, replaced, given up, or sealed once, exactly as they were shown."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.house import House, at_once, new_key, own_house
from tests.support.outlets import Outlet

Json = dict[str, Any]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    key = tmp_path_factory.mktemp("signing") / "key.pem"
    with own_house(
        "drafts", functions=("invoices", "merchants"), invoice_key_file=str(key)
    ) as house:
        yield house


class Shop(Outlet):
    """An outlet that prepares documents before it seals them."""

    def draft(self, purpose: str = "invoice", **members: Any) -> Json:
        body = {"purpose": purpose, "document": self.document(**members)}
        answer = self.merchant.post("/invoices/drafts", body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def moves(self, draft: Json) -> list[tuple[str | None, str]]:
        """What is on record of a draft."""
        rows = self.house.books.rows(
            "select from_status, to_status, actor from fiscal.events where subject_id = %s"
            " order by seq",
            draft["id"],
        )
        assert all(row["actor"] for row in rows)
        return [(row["from_status"], row["to_status"]) for row in rows]


@pytest.fixture
def shop(house: House) -> Shop:
    return Shop(house)


def test_draft_is_sealed_as_it_was_shown_and_once(shop: Shop) -> None:
    draft = shop.draft(notes="As agreed")
    path = f"/invoices/drafts/{draft['id']}/seal"

    answers = at_once(4, lambda _: shop.merchant.api.post(path))

    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["id"] for answer in answers}) == 1
    sealed = answers[0].json()
    assert sealed["document"] == draft["preview"]["document"]
    after = shop.merchant.api.get(f"/invoices/drafts/{draft['id']}").json()
    assert (after["status"], after["invoice_id"]) == ("sealed", sealed["id"])
    assert len(shop.chain()) == 1
    assert shop.moves(draft) == [(None, "draft"), ("draft", "sealed")]


def test_draft_takes_no_number(shop: Shop) -> None:
    draft, key = shop.draft(), new_key()
    body = {"document": shop.document()}

    twice = [shop.merchant.post("/invoices/drafts", body, key).json()["id"] for _ in range(2)]

    assert twice[0] == twice[1] != draft["id"]
    assert draft["document"]["items"][0].keys() < draft["preview"]["document"]["items"][0].keys()
    assert shop.chain() == []


def test_draft_is_replaced_at_the_version_that_was_read(shop: Shop) -> None:
    draft = shop.draft()
    path = f"/invoices/drafts/{draft['id']}"
    other = shop.document(price="2000.00", total="2320.00")

    answers = at_once(
        3, lambda _: shop.merchant.api.put(path, json={"version": 1, "document": other})
    )

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    after = shop.merchant.api.get(path).json()
    assert (after["version"], after["preview"]["document"]["totals"]["total"]) == (2, "2320.00")


def test_draft_that_cannot_be_sealed_says_why_and_may_be_mended(shop: Shop) -> None:
    first = shop.draft(invoice_ref="F-1")
    second = shop.draft(invoice_ref="F-1")
    path = f"/invoices/drafts/{second['id']}"
    shop.merchant.api.post(f"/invoices/drafts/{first['id']}/seal").raise_for_status()

    refused = shop.merchant.api.post(f"{path}/seal")
    failed = shop.merchant.api.get(path).json()
    mended = {"version": 1, "document": shop.document(invoice_ref="F-2")}
    shop.merchant.api.put(path, json=mended).raise_for_status()
    sealed = shop.merchant.api.post(f"{path}/seal")

    assert refused.status_code == 422
    assert (failed["status"], failed["error"]["code"]) == ("validation_failed", "42275")
    assert sealed.status_code == 201
    assert shop.moves(second) == [
        (None, "draft"),
        ("draft", "validation_failed"),
        ("validation_failed", "draft"),
        ("draft", "sealed"),
    ]


def test_document_that_breaks_a_rule_is_no_draft(shop: Shop) -> None:
    body = {"document": shop.document(totals={"currency": "CDF", "total": "1.00"})}

    refused = shop.merchant.post("/invoices/drafts", body)

    assert (refused.status_code, refused.json()["code"]) == (422, "42273")


def test_draft_that_was_given_up_stays_readable(shop: Shop) -> None:
    draft = shop.draft()
    path = f"/invoices/drafts/{draft['id']}"

    gone = [shop.merchant.api.delete(path) for _ in range(2)]
    refused = shop.merchant.api.post(f"{path}/seal")

    assert [answer.json()["status"] for answer in gone] == ["cancelled"] * 2
    assert (refused.status_code, refused.json()["current_state"]) == (409, "cancelled")
    assert shop.moves(draft) == [(None, "draft"), ("draft", "cancelled")]


def test_sealed_draft_is_not_given_up(shop: Shop) -> None:
    path = f"/invoices/drafts/{shop.draft()['id']}"
    shop.merchant.api.post(f"{path}/seal").raise_for_status()

    assert shop.merchant.api.delete(path).status_code == 409


@pytest.mark.parametrize(
    ("purpose", "mark"), [("proforma", "CECI N'EST PAS UNE FACTURE"), ("training", "FORMATION")]
)
@pytest.mark.parametrize("format_", ["text80", "html"])
def test_what_is_never_sealed_is_printed_with_its_mark_alone(
    shop: Shop, purpose: str, mark: str, format_: str
) -> None:
    path = f"/invoices/drafts/{shop.draft(purpose)['id']}"

    drawn = shop.merchant.api.get(f"{path}/receipt", params={"format": format_})
    refused = shop.merchant.api.post(f"{path}/seal")

    text = drawn.text.replace("&#x27;", "'")
    assert mark in text
    assert "1 160,00" in text.replace("\u202f", " ")
    for element in ("N° fiscal", "authentification", "/i?fn=", "<svg"):
        assert element not in text
    assert (refused.status_code, refused.json()["current_state"]) == (409, purpose)


@pytest.mark.parametrize("format_", ["pdf", "pdf80"])
def test_proforma_is_a_pdf_too(shop: Shop, format_: str) -> None:
    path = f"/invoices/drafts/{shop.draft('proforma')['id']}/receipt"

    drawn = shop.merchant.api.get(path, params={"format": format_})

    assert (drawn.status_code, drawn.content[:8]) == (200, b"%PDF-1.7")


def test_draft_of_an_invoice_is_not_printed(shop: Shop) -> None:
    refused = shop.merchant.api.get(f"/invoices/drafts/{shop.draft()['id']}/receipt")

    assert (refused.status_code, refused.json()["code"]) == (409, "40911")


def test_stale_drafts_are_found(shop: Shop, house: House) -> None:
    old, new = shop.draft(), shop.draft()
    house.books.run(
        "update fiscal.drafts set updated_at = now() - interval '73 hours' where draft_id = %s",
        old["id"],
    )
    api = shop.merchant.api

    stale = api.get("/invoices/drafts", params={"is_stale": True}).json()["data"]
    fresh = api.get("/invoices/drafts", params={"is_stale": False}).json()["data"]

    assert [row["id"] for row in stale] == [old["id"]]
    assert [row["id"] for row in fresh] == [new["id"]]
    page = api.get("/invoices/drafts", params={"limit": 1}).json()
    assert (page["data"][0]["id"], page["pagination"]["next_cursor"]) == (new["id"], new["id"])
    rest = api.get("/invoices/drafts", params={"cursor": new["id"], "status": "draft"}).json()
    assert [row["id"] for row in rest["data"]] == [old["id"]]


def test_cashier_sees_the_drafts_of_their_outlet(shop: Shop, house: House) -> None:
    other = Shop(house, shop.merchant)
    mine, theirs = shop.draft(), other.draft()
    cashier = shop.cashier()

    seen = cashier.get("/invoices/drafts").json()["data"]

    assert [row["id"] for row in seen] == [mine["id"]]
    assert cashier.delete(f"/invoices/drafts/{theirs['id']}").status_code == 404
    assert house.merchant().api.get(f"/invoices/drafts/{mine['id']}").status_code == 404
