"""Sealed rail credentials: kept per tenant and environment, shown masked, sealed anew."""

import pytest

from tests.sql.payments.shop import Answer, Shop
from tests.support.sql import Api, Books, Refused, Row

FUNCTION = "fn_merchants"


@pytest.fixture
def owner(shop: Shop, books: Books) -> Shop:
    """A shop that has not stored credentials yet."""
    books.run("delete from rails.credentials where tenant_id = %s", shop.tenant_id)
    return shop


def put(shop: Shop, **changes: object) -> Answer:
    """PUT /merchants/credentials/mpesa."""
    arguments: Row = {
        "tenant_id": shop.tenant_id,
        "environment": shop.environment,
        "rail": "mpesa",
        "sealed": "sealed by key 1",
        "key_version": 1,
        "masked": {"shortcode": "600***"},
        "tested": False,
    }
    return Answer.of(
        shop.api.call(FUNCTION, shop.headers, "rails.put_credentials", **arguments | changes)
    )


def test_put_stores_first_and_replaces_after(owner: Shop, books: Books) -> None:
    first, second = put(owner), put(owner, sealed="others", tested=True)

    assert (first.status, second.status) == (201, 200)
    assert (first.body["revision"], second.body["revision"]) == (1, 2)
    assert (first.body["tested_at"], second.body["tested_at"] is None) == (None, False)
    assert (
        books.value("select sealed from rails.credentials where tenant_id = %s", owner.tenant_id)
        == "others"
    )


def test_what_is_shown_is_masked(owner: Shop, api: Api) -> None:
    put(owner)

    listed = Answer.of(api.call(FUNCTION, owner.headers, "rails.list_credentials"))

    (entry,) = listed.body["data"]
    assert entry["credentials"] == {"shortcode": "600***"}
    assert "sealed" not in str(listed.body)


def test_every_change_of_credentials_is_audited(owner: Shop, api: Api, books: Books) -> None:
    put(owner)
    put(owner)
    api.call(FUNCTION, owner.headers, "rails.delete_credentials", rail="mpesa")

    actions = books.column(
        "select action || coalesce(' ' || (details ->> 'revision'), '') from public.audit_log"
        " where tenant_id = %s order by audit_id",
        owner.tenant_id,
    )
    assert actions == ["credentials.put 1", "credentials.put 2", "credentials.deleted"]


@pytest.mark.parametrize("change", [{"tenant_id": "tn_other"}, {"environment": "production"}])
def test_credentials_sealed_for_somebody_else_are_not_stored(
    owner: Shop, books: Books, change: Row
) -> None:
    with pytest.raises(Refused) as refused:
        put(owner, **change)

    assert refused.value.code == "40401"
    assert (
        books.column("select 1 from rails.credentials where tenant_id = %s", owner.tenant_id) == []
    )


def test_credentials_of_a_rail_that_does_not_exist_are_refused(owner: Shop) -> None:
    with pytest.raises(Refused) as refused:
        put(owner, rail="shells")

    assert refused.value.code == "40401"


@pytest.mark.parametrize(
    "function",
    ["rails.open_credentials", "rails.record_credentials_test", "rails.delete_credentials"],
)
def test_another_environments_credentials_do_not_exist(
    owner: Shop, api: Api, books: Books, function: str
) -> None:
    put(owner)
    production = Shop(api, books, owner.tenant_id, "production")
    headers = production.add_key("secret", ["*"])

    with pytest.raises(Refused) as refused:
        api.call(FUNCTION, headers, function, rail="mpesa")

    assert refused.value.code == "40401"
    assert Answer.of(api.call(FUNCTION, headers, "rails.list_credentials")).body["data"] == []


def test_open_gives_the_seal_and_what_it_is_bound_to(owner: Shop, api: Api) -> None:
    put(owner)

    opened = api.call(FUNCTION, owner.headers, "rails.open_credentials", rail="mpesa")

    assert opened == {
        "tenant_id": owner.tenant_id,
        "environment": "sandbox",
        "rail": "mpesa",
        "sealed": "sealed by key 1",
    }


def test_credentials_need_their_own_scope(owner: Shop, api: Api) -> None:
    headers = owner.add_key("developer", ["payments:read", "payments:write"])

    with pytest.raises(Refused) as refused:
        api.call(FUNCTION, headers, "rails.list_credentials")

    assert refused.value.code == "40311"
    assert "credentials:manage" in refused.value.message


def test_a_passed_test_is_noted(owner: Shop, api: Api) -> None:
    put(owner)

    answer = Answer.of(
        api.call(FUNCTION, owner.headers, "rails.record_credentials_test", rail="mpesa")
    )

    assert answer.body["tested_at"] is not None


def test_a_newer_master_key_reaches_every_seal(owner: Shop, api: Api, books: Books) -> None:
    put(owner)

    claimed = api.call_set(FUNCTION, {}, "rails.claim_reseal", below_version=2, max_rows=1000)

    mine = [entry for entry in claimed if entry["tenant_id"] == owner.tenant_id]
    assert [entry["sealed"] for entry in mine] == ["sealed by key 1"]
    assert reseal(api, mine[0]) is True
    assert mine[0] not in api.call_set(
        FUNCTION, {}, "rails.claim_reseal", below_version=2, max_rows=1000
    )
    stored = books.row("select * from rails.credentials where tenant_id = %s", owner.tenant_id)
    assert (stored["sealed"], stored["key_version"], stored["revision"]) == (
        "sealed by key 2",
        2,
        1,
    )


def test_a_new_seal_does_not_overwrite_credentials_that_were_replaced_meanwhile(
    owner: Shop, api: Api, books: Books
) -> None:
    put(owner)
    claimed = api.call_set(FUNCTION, {}, "rails.claim_reseal", below_version=2, max_rows=1000)
    put(owner, sealed="replaced")
    (mine,) = [entry for entry in claimed if entry["tenant_id"] == owner.tenant_id]

    stored = reseal(api, mine)

    assert stored is False
    assert (
        books.value("select sealed from rails.credentials where tenant_id = %s", owner.tenant_id)
        == "replaced"
    )


def reseal(api: Api, entry: Row) -> bool:
    """Give back what rails.claim_reseal handed out, sealed by key 2."""
    arguments = entry | {"sealed": "sealed by key 2", "key_version": 2}
    return bool(api.call(FUNCTION, {}, "rails.record_reseal", **arguments))
