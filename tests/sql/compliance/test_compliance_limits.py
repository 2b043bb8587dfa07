"""Tiers and limits: who may move how much, counted when a transfer begins."""

from typing import Any

import psycopg
import pytest

from scripts.stack.database import Database
from tests.sql.payments.shop import Shop, open_shop
from tests.support.sql import Api, Books, Refused, at_once, connections, digest, translated

KES_A_DOLLAR = 129


def known_as(shop: Shop, tier: str) -> Shop:
    """The same shop with this tier."""
    shop.books.run(
        "insert into compliance.profiles (tenant_id, environment, tier, reason, changed_by)"
        " values (%s, %s, %s, 'a test', 'test')",
        shop.tenant_id,
        shop.environment,
        tier,
    )
    return shop


def kes(whole: int) -> int:
    """Shillings in minor units."""
    return whole * 100


def refused(shop: Shop, amount_minor: int, **changes: Any) -> Refused:
    """What a confirm of this amount is refused with."""
    intent_id = shop.new_intent(amount_minor=amount_minor)
    with pytest.raises(Refused) as caught:
        shop.begin(intent_id, **changes)
    return caught.value


def used(shop: Shop) -> list[int]:
    """Transfers in the day's buckets of the tenant."""
    return shop.books.column(
        "select transfers from compliance.usage(%s, %s, 'in', null, 86400)",
        shop.tenant_id,
        shop.environment,
    )


def age(shop: Shop, hours: int) -> None:
    """Make everything this shop began that much older."""
    shop.books.run(
        "update compliance.tenant_velocity set bucket_at = bucket_at - make_interval(hours => %s)"
        " where tenant_id = %s",
        hours,
        shop.tenant_id,
    )


def test_a_sandbox_tenant_has_no_limits_and_no_counters(shop: Shop) -> None:
    shop.send(shop.new_intent(amount_minor=kes(250_000)))

    assert (
        shop.books.value(
            "select count(*) from compliance.tenant_velocity where tenant_id = %s", shop.tenant_id
        )
        == 0
    )


def test_a_production_tenant_starts_at_the_tier_of_the_setting(api: Api, books: Books) -> None:
    shop = open_shop(api, books, environment="production")

    shop.send(shop.new_intent(amount_minor=kes(250_000)))
    shop.send(shop.new_intent(amount_minor=kes(250_000)))
    over = refused(shop, kes(250_000))

    assert (over.code, over.extras["limit"], over.extras["tier"]) == (
        "42206",
        "t2_tenant_day_value",
        "T2",
    )


def test_more_than_a_tier_takes_at_once_needs_a_higher_tier(shop: Shop) -> None:
    known_as(shop, "T0")

    over = refused(shop, kes(50 * KES_A_DOLLAR + 1))

    assert over.code == "42204"
    assert over.message == "Tier T0 takes payments of at most 6450.00 KES."
    assert over.extras["errors"] == [{"pointer": "/amount", "detail": "at most 6450.00 KES"}]


def test_exactly_the_maximum_passes(shop: Shop) -> None:
    known_as(shop, "T0").send(shop.new_intent(amount_minor=kes(50 * KES_A_DOLLAR)))

    assert used(shop) == [1]


def test_a_full_window_says_which_and_when_there_is_room(shop: Shop) -> None:
    known_as(shop, "T0").send(shop.new_intent(amount_minor=kes(6000)))

    over = refused(shop, kes(1000))

    assert (over.code, over.extras["limit"]) == ("42206", "t0_tenant_day_value")
    assert "at most 6450.00 KES in 24 hours in all" in over.message
    assert over.extras["room_at"] in over.message
    # A bucket of an hour counts until its last moment is a day old.
    assert 24 * 3600 <= over.extras["retry_after"] <= 25 * 3600


def test_there_is_room_again_when_the_window_has_passed(shop: Shop) -> None:
    known_as(shop, "T0").send(shop.new_intent(amount_minor=kes(6000)))
    age(shop, hours=26)

    shop.send(shop.new_intent(amount_minor=kes(6000)))

    assert used(shop) == [1]


def test_a_party_has_windows_of_its_own(shop: Shop) -> None:
    known_as(shop, "T0")
    for _ in range(5):
        shop.send(shop.new_intent(amount_minor=kes(1)))

    over = refused(shop, kes(1))
    shop.send(shop.new_intent(amount_minor=kes(1)), payer_hash=digest("somebody else"))

    assert (over.code, over.extras["limit"]) == ("42206", "t0_party_hour_count")
    assert "at most 5 payments in an hour with one party" in over.message


def test_a_failed_attempt_gives_its_share_back(shop: Shop) -> None:
    known_as(shop, "T0")
    attempt = shop.send(shop.new_intent(amount_minor=kes(6000)))

    shop.release(attempt)

    assert used(shop) == [0]
    shop.send(shop.new_intent(amount_minor=kes(6000)))


def test_what_was_given_back_is_folded_into_the_counters(shop: Shop) -> None:
    known_as(shop, "T0")
    for _ in range(3):
        shop.release(shop.send(shop.new_intent(amount_minor=kes(1000))))
    shop.send(shop.new_intent(amount_minor=kes(1000)))

    shop.books.run("select compliance.fold_releases()")

    assert used(shop) == [1]
    assert shop.books.column(
        "select distinct transfers from compliance.tenant_velocity where tenant_id = %s",
        shop.tenant_id,
    ) == [1]
    assert (
        shop.books.value(
            "select count(*) from compliance.releases where tenant_id = %s", shop.tenant_id
        )
        == 0
    )


def test_a_late_success_takes_its_share_again(shop: Shop) -> None:
    known_as(shop, "T0")
    attempt = shop.send(shop.new_intent(amount_minor=kes(6000)))
    shop.release(attempt)

    shop.books.run(
        "select payments.advance_transfer(%s, 'settle', 'operator')", attempt.transfer_id
    )

    assert used(shop) == [1]


def test_twenty_at_once_never_pass_a_limit_together(
    module_database: Database, shop: Shop, books: Books
) -> None:
    known_as(shop, "T0")
    intents = [shop.new_intent(amount_minor=kes(1000)) for _ in range(20)]

    with connections(module_database, 20) as opened:
        results = at_once(
            [
                lambda at=at, intent=intent: Shop(
                    at, books, shop.tenant_id, shop.environment
                ).begin(intent, payer_hash=digest(intent))
                for at, intent in zip(opened, intents, strict=True)
            ]
        )

    begun = [result for result in results if not isinstance(result, Refused)]
    assert len(begun) == 6
    assert {result.code for result in results if isinstance(result, Refused)} == {"42206"}
    assert used(shop) == [6]


def test_a_refused_transfer_leaves_the_intent_as_it_was(shop: Shop) -> None:
    known_as(shop, "T0")
    intent_id = shop.new_intent(amount_minor=kes(7000))

    with pytest.raises(Refused):
        shop.begin(intent_id)

    assert shop.get(intent_id)["status"] == "requires_payment_method"


@pytest.mark.parametrize(
    ("country", "tier", "amount", "code", "limit"),
    [
        ("UG", "T0", 1, "42204", "corridor"),
        ("UG", "T1", 501 * KES_A_DOLLAR, "42206", "t1_transfer_regional"),
        ("FR", "T1", 1, "42204", "corridor"),
    ],
)
def test_a_corridor_has_its_own_rules(
    shop: Shop, country: str, tier: str, amount: int, code: str, limit: str
) -> None:
    known_as(shop, tier)
    shop.books.run(
        "update public.tenants set country = %s where tenant_id = %s", country, shop.tenant_id
    )

    over = refused(shop, kes(amount))

    assert (over.code, over.extras["limit"]) == (code, limit)


def test_the_lowest_tier_pays_nothing_out(shop: Shop) -> None:
    known_as(shop, "T0")

    with pytest.raises(Refused) as caught:
        admit(shop, "out")

    assert (caught.value.code, caught.value.extras["limit"]) == ("42204", "direction")


def test_a_currency_that_nobody_can_compare_passes_no_limit(shop: Shop) -> None:
    known_as(shop, "T1")

    with pytest.raises(Refused) as caught:
        admit(shop, "in", currency="DJF")

    assert (caught.value.code, caught.value.extras["limit"]) == ("42206", "currency")


def test_a_frozen_party_is_refused_to_everybody(shop: Shop) -> None:
    shop.books.run(
        "insert into compliance.freezes"
        " (freeze_id, environment, party_hashes, party_masked, reason, frozen_by)"
        " values (%s, 'sandbox', %s, '+254*', 'a court order', 'test')",
        f"frz_{shop.tenant_id}",
        [digest("frozen")],
    )

    over = refused(shop, kes(1), payer_hash=digest("frozen"))

    assert (over.code, over.extras["reason"]) == ("42201", "frozen")


def test_old_counters_are_purged_and_current_ones_stay(shop: Shop) -> None:
    known_as(shop, "T0").send(shop.new_intent(amount_minor=kes(1)))
    age(shop, hours=24 * 40)
    shop.send(shop.new_intent(amount_minor=kes(1)))

    shop.books.run("select compliance.purge_velocity()")

    assert (
        shop.books.value(
            "select count(*) from compliance.tenant_velocity where tenant_id = %s", shop.tenant_id
        )
        == 3
    )


def admit(shop: Shop, direction: str, currency: str = "KES") -> None:
    """compliance.admit as SQL calls it."""
    try:
        shop.books.rows(
            "select compliance.admit(%s, %s, %s, 'mpesa', 100, %s, null)",
            shop.tenant_id,
            shop.environment,
            direction,
            currency,
        )
    except psycopg.Error as error:
        raise translated(error) from error
