"""Routes: how rails are ranked, which are left out and why, when a rail is open."""

import json
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.sql.payments.shop import Shop, new_key
from tests.support.sql import Books, Refused, Row, translated

DIMENSIONS = ("cost", "speed", "reliability")
FACTS = {"cost": "cost_minor", "speed": "latency_ms", "reliability": "failure_bps"}
quick = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

rails = st.lists(
    st.builds(
        dict,
        rail=st.sampled_from(["mpesa", "ecocash", "card", "usdc", "zipit"]),
        cost_minor=st.integers(0, 10_000),
        latency_ms=st.integers(0, 100_000),
        failure_bps=st.integers(0, 10_000),
        health=st.sampled_from(["healthy", "deprioritised"]),
        priority=st.integers(1, 50),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda rail: rail["rail"],
)
policies = st.builds(
    dict,
    optimize_for=st.sampled_from(DIMENSIONS),
    fallbacks=st.lists(st.sampled_from(DIMENSIONS), max_size=2),
    preferred_methods=st.lists(st.sampled_from(["mpesa", "card"]), max_size=1),
)
Rank = Callable[..., list[Row]]


@pytest.fixture
def rank(books: Books) -> Rank:
    def ranked(candidates: list[Row], policy: Row | None, hints: list[str] | None = None) -> Any:
        return books.value(
            "select directory.rank(%s, %s, %s::text[])",
            Jsonb(candidates),
            policy and Jsonb(policy),
            hints or [],
        )

    return ranked


def expected_score(candidate: Row, candidates: list[Row], policy: Row) -> Decimal:
    """The formula of the specification, said again in other words."""
    order = list(dict.fromkeys([policy["optimize_for"], *policy["fallbacks"], *DIMENSIONS]))
    total = Decimal(0)
    for weight, dimension in zip(("0.60", "0.25", "0.15"), order, strict=True):
        values = [Decimal(one[FACTS[dimension]]) for one in candidates]
        spread = max(values) - min(values)
        own = Decimal(candidate[FACTS[dimension]])
        total += Decimal(weight) * ((max(values) - own) / spread if spread else 1)
    if candidate["rail"] in policy["preferred_methods"]:
        total += Decimal("0.10")
    if candidate["health"] == "deprioritised":
        total *= Decimal("0.5")
    return min(total, Decimal(1))


@quick
@given(candidates=rails, policy=policies)
def test_a_score_is_the_specified_sum(rank: Rank, candidates: list[Row], policy: Row) -> None:
    for one in rank(candidates, policy):
        close = abs(Decimal(one["score"]) - expected_score(one, candidates, policy))
        assert close <= Decimal("0.000001")


@quick
@given(candidates=rails, policy=st.none() | policies, random=st.randoms(use_true_random=False))
def test_the_order_in_which_rails_are_looked_at_does_not_count(
    rank: Rank, candidates: list[Row], policy: Row | None, random: Any
) -> None:
    shuffled = list(candidates)
    random.shuffle(shuffled)

    assert json.dumps(rank(candidates, policy)) == json.dumps(rank(shuffled, policy))


@quick
@given(candidates=rails, policy=policies)
def test_scores_lie_between_nothing_and_one_and_fall(
    rank: Rank, candidates: list[Row], policy: Row
) -> None:
    scores = [Decimal(one["score"]) for one in rank(candidates, policy)]

    assert all(0 <= score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)


@quick
@given(candidates=rails, policy=policies)
def test_who_is_best_in_everything_and_healthy_comes_first(
    rank: Rank, candidates: list[Row], policy: Row
) -> None:
    best = {
        "rail": "best",
        "cost_minor": -1,
        "latency_ms": -1,
        "failure_bps": -1,
        "health": "healthy",
        "priority": 1,
    }

    assert rank([*candidates, best], policy)[0]["rail"] == "best"


@quick
@given(candidates=rails, policy=policies)
def test_being_preferred_never_costs_a_place(
    rank: Rank, candidates: list[Row], policy: Row
) -> None:
    def place(preferred: list[str]) -> int:
        ranked = rank(candidates, policy | {"preferred_methods": preferred})
        return [one["rail"] for one in ranked].index(candidates[0]["rail"])

    assert place([candidates[0]["rail"]]) <= place([])


@quick
@given(candidates=rails)
def test_without_a_policy_hints_come_first_and_then_the_directorys_order(
    rank: Rank, candidates: list[Row]
) -> None:
    hint = candidates[-1]["rail"]

    ranked = [one["rail"] for one in rank(candidates, None, [hint])]

    rest = sorted(candidates[:-1], key=lambda one: (one["priority"], one["rail"]))
    assert ranked == [hint, *(one["rail"] for one in rest)]


# Real rails


@pytest.fixture
def second(shop: Shop) -> Iterator[str]:
    """A second rail, faster and dearer than M-Pesa, for which the shop has credentials."""
    rail = f"r{uuid.uuid4().hex[:8]}"
    shop.books.run(
        "insert into rails.rails"
        " select (jsonb_populate_record(r, jsonb_build_object('rail', %s::text))).*"
        " from rails.rails as r where r.rail = 'mpesa'",
        rail,
    )
    shop.books.run(
        "insert into directory.rail_facts values (%s, 'KE', 2000, 100, 0, 'healthy', 20)", rail
    )
    shop.books.run(
        "insert into directory.fees (rail, direction, currency, bps, fixed_minor)"
        " values (%s, 'in', 'KES', 300, 0)",
        rail,
    )
    shop.books.run(
        "insert into rails.credentials"
        " (tenant_id, environment, rail, sealed, key_version, masked, created_by)"
        " values (%s, %s, %s, 'sealed', 1, '{}', 'key_0')",
        shop.tenant_id,
        shop.environment,
        rail,
    )
    yield rail
    shop.books.run("update rails.rails set enabled = false where rail = %s", rail)


def routes(shop: Shop, **changes: Any) -> Row:
    """POST /directory/routes."""
    arguments: Row = {
        "intent": "PULL",
        "amount_minor": 100_00,
        "currency": "KES",
        "hints": "{}",
        "alias_type": "msisdn",
        "alias": "+254712345678",
        "policy": None,
    }
    answer = shop.api.call(
        "fn_directory", shop.headers, "directory.rank_routes", **arguments | changes
    )
    return dict(json.loads(answer["body"]))


def excluded(ranked: Row | list[Row]) -> dict[str, str]:
    candidates = ranked["candidates"] if isinstance(ranked, dict) else ranked
    return {one["rail"]: one["excluded"] for one in candidates if one.get("excluded")}


def test_a_policy_decides_between_rails(shop: Shop, second: str) -> None:
    anywhere = {"alias_type": None, "alias": None}

    cheapest = routes(shop, policy={"optimize_for": "cost"}, **anywhere)
    fastest = routes(shop, policy={"optimize_for": "speed"}, **anywhere)
    usual = routes(shop, **anywhere)

    assert (cheapest["rail"], fastest["rail"], usual["rail"]) == ("mpesa", second, "mpesa")
    # 0.60 of cost; of speed and reliability M-Pesa has nothing.
    assert (cheapest["score"], fastest["score"], usual["score"]) == ("0.600000", "0.750000", None)
    assert (cheapest["reason"], usual["reason"]) == ("best_score", "directory_priority")


def test_a_phone_is_reached_by_its_operators_rail(shop: Shop, second: str) -> None:
    ranked = routes(shop, policy={"optimize_for": "speed"})

    assert (ranked["rail"], ranked["reason"]) == ("mpesa", "only_candidate")
    assert excluded(ranked)[second] == "not_reached"


def test_a_ported_number_is_reached_by_the_rail_its_payer_names(shop: Shop) -> None:
    assert routes(shop, alias="+254733123456", hints=["mpesa"])["rail"] == "mpesa"


def test_a_phone_that_no_rail_reaches_is_refused_with_the_reasons(shop: Shop) -> None:
    with pytest.raises(Refused) as caught:
        routes(shop, alias="+254733123456")

    assert caught.value.code == "42202"
    assert {"rail": "mpesa", "excluded": "not_reached"} in caught.value.extras["candidates"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"currency": "USD"}, "currency"),
        ({"amount_minor": 1}, "amount"),
        ({"policy": {"optimize_for": "cost", "excluded_rails": ["mpesa"]}}, "policy"),
        ({"intent": "AUTH"}, "intent"),
    ],
)
def test_a_rule_that_excludes_is_named(shop: Shop, changes: Row, why: str) -> None:
    with pytest.raises(Refused) as caught:
        routes(shop, **changes)

    assert excluded(caught.value.extras["candidates"])["mpesa"] == why


def test_a_closed_rail_says_when_it_opens(shop: Shop, second: str) -> None:
    shop.books.run(
        "insert into directory.windows"
        " select %s, d, '00:00', '00:00:01', 'Africa/Nairobi', null"
        " from generate_series(1, 7) as d",
        second,
    )

    with pytest.raises(Refused) as caught:
        routes(
            shop,
            alias=None,
            alias_type=None,
            policy={"optimize_for": "speed", "excluded_rails": ["mpesa"]},
        )

    assert caught.value.code == "50201"
    assert 0 < caught.value.extras["retry_after"] <= 24 * 3600


@pytest.mark.parametrize(
    ("at", "opens"),
    [
        # Nairobi is three hours ahead: Friday 12:00 there, then 18:00, then Saturday.
        ("2026-12-11 09:00:00+00", "2026-12-11 09:00:00+00"),
        ("2026-12-11 15:00:00+00", "2026-12-14 05:00:00+00"),
        ("2026-12-12 09:00:00+00", "2026-12-14 05:00:00+00"),
        # Christmas Day 2026 is a Friday.
        ("2026-12-25 09:00:00+00", "2026-12-28 05:00:00+00"),
    ],
)
def test_banking_hours_know_time_zones_weekends_and_holidays(
    shop: Shop, second: str, at: str, opens: str
) -> None:
    shop.books.run(
        "insert into directory.windows"
        " select %s, d, '08:00', '17:00', 'Africa/Nairobi', 'KE' from generate_series(1, 5) as d",
        second,
    )

    assert shop.books.value(
        "select directory.next_opening(%s, %s::timestamptz) = %s::timestamptz", second, at, opens
    )


# Transfers


def begin(shop: Shop, **changes: Any) -> Row:
    """POST /transfers up to the rail."""
    arguments: Row = {
        "idempotency_key": new_key(),
        "body_hash": "body",
        "intent": "PULL",
        "rail": None,
        "amount_minor": 100_00,
        "currency": "KES",
        "payer_sealed": "sealed",
        "payer_masked": "+254*",
        "payer_hash": "hash",
        "payee_sealed": None,
        "payee_masked": None,
        "payee_hash": None,
        "description": None,
        "external_ref": None,
        "end_user_ref": None,
        "metadata": {},
        "hints": "{}",
        "alias_type": "msisdn",
        "alias": "+2547123",
        "policy": None,
    }
    return dict(
        shop.api.call("fn_transfers", shop.headers, "payments.begin_direct", **arguments | changes)[
            "instruction"
        ]
    )


def route_of(shop: Shop, transfer_id: str) -> Row:
    answer = shop.api.call(
        "fn_directory", shop.headers, "directory.get_route", transfer_id=transfer_id
    )
    return dict(json.loads(answer["body"]))


def test_a_transfer_that_names_no_rail_is_routed_and_says_why(shop: Shop, second: str) -> None:
    order = begin(shop, policy={"optimize_for": "reliability"})

    route = route_of(shop, order["transfer_id"])

    assert order["rail"] == "mpesa"
    assert (route["rail"], route["reason"], route["score"]) == (
        "mpesa",
        "only_candidate",
        "1.000000",
    )
    assert excluded(route)[second] == "not_reached"
    assert route["policy"] == {"optimize_for": "reliability"}


def test_a_transfer_that_names_its_rail_has_that_as_its_reason(shop: Shop) -> None:
    order = begin(shop, rail="mpesa")

    route = route_of(shop, order["transfer_id"])

    assert (route["reason"], route["candidates"], route["score"]) == ("named_by_caller", [], None)


def test_a_route_is_its_tenants_alone(shop: Shop, api: Any, books: Books) -> None:
    order = begin(shop)
    other = Shop(api, books).open()

    with pytest.raises(Refused) as caught:
        route_of(other, order["transfer_id"])

    assert caught.value.code == "40401"


# Lookups


def look_up(books: Books, alias: str, alias_type: str = "msisdn", at: str = "now") -> list[str]:
    """The institutions of an alias at a moment."""
    return books.column(
        "select institution_id from directory.resolve(%s, %s, %s::timestamptz)",
        alias_type,
        alias,
        at,
    )


def test_the_longest_prefix_wins(books: Books) -> None:
    with books.connection.transaction(force_rollback=True):
        books.run(
            "insert into directory.entries (alias_type, alias, institution_id)"
            " values ('msisdn', '+2547123', 'telkom_ke')"
        )

        assert look_up(books, "+254712345678") == ["telkom_ke"]
        assert look_up(books, "+254712999999") == ["safaricom_ke"]


def test_an_entry_holds_from_its_day_until_its_day(books: Books) -> None:
    with books.connection.transaction(force_rollback=True):
        books.run(
            "insert into directory.entries"
            " (alias_type, alias, institution_id, effective_from, effective_to)"
            " values ('bin', '431940', 'airtel_ke', '2026-01-01', '2026-06-01'),"
            " ('bin', '431940', 'telkom_ke', '2026-06-01', null)"
        )

        found = [
            look_up(books, "43194001", "bin", at)
            for at in ("2025-12-31", "2026-03-01", "2026-06-01")
        ]

    assert found == [[], ["airtel_ke"], ["telkom_ke"]]


def test_a_suspended_institution_is_not_reached(books: Books) -> None:
    with books.connection.transaction(force_rollback=True):
        books.run(
            "update directory.institutions set status = 'suspended'"
            " where institution_id = 'safaricom_ke'"
        )

        assert look_up(books, "+254712345678") == []


@pytest.mark.parametrize(
    ("alias_type", "alias", "pointer"),
    [
        ("msisdn", "0712345678", "/alias"),
        ("bin", "4319", "/alias"),
        ("email", "a@b.example", "/alias_type"),
    ],
)
def test_what_is_no_alias_is_refused(
    books: Books, alias_type: str, alias: str, pointer: str
) -> None:
    try:
        books.rows("select directory.look_up(%s, %s, null)", alias_type, alias)
    except psycopg.Error as error:
        refused = translated(error)

    assert isinstance(refused, Refused)
    assert (refused.code, refused.extras["errors"][0]["pointer"]) == ("42262", pointer)
