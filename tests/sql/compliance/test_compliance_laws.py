"""Laws of limits: whatever is begun, fails, is folded or grows old, a window never overflows."""

from typing import Literal

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.payments.shop import Shop
from tests.support.sql import Books, Refused, translated

MAX_MINOR = 50 * 129_00  # what tier T0 takes in 24 hours, in Kenyan cents
Kind = Literal["begin", "fail", "fold"]

steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "begin", "fail", "fold"]),
        st.integers(1, MAX_MINOR // 2),
    ),
    min_size=1,
    max_size=25,
)


def admit(books: Books, tenant_id: str, amount: int) -> bool:
    """Whether it was let through; a refusal undoes itself alone."""
    try:
        with books.connection.transaction():
            books.run(
                "select compliance.admit(%s, 'sandbox', 'in', 'mpesa', %s, 'KES', null)",
                tenant_id,
                amount,
            )
    except psycopg.Error as error:
        refused = translated(error)
        assert isinstance(refused, Refused)
        assert refused.code == "42206"
        return False
    return True


def give_back(books: Books, tenant_id: str, amount: int) -> None:
    """As compliance.note_outcome does for a transfer that failed."""
    books.run(
        "insert into compliance.releases"
        " (tenant_id, environment, direction, admitted_at, transfers, usd_micros)"
        " values (%s, 'sandbox', 'in', now(), -1, ceil(%s * 1000000.0 / 12900))",
        tenant_id,
        amount,
    )


def counted(books: Books, tenant_id: str) -> tuple[int, int]:
    """(payments, millionths of a dollar) in the tenant's last 24 hours."""
    row = books.row("select * from compliance.usage(%s, 'sandbox', 'in', null, 86400)", tenant_id)
    return row["transfers"], row["usd_micros"]


def in_usd_micros(minor: int) -> int:
    return -(-minor * 1_000_000 // 12_900)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps)
def test_a_window_counts_exactly_what_is_open_and_never_more_than_its_limit(
    shop: Shop, steps: list[tuple[Kind, int]]
) -> None:
    books: Books = shop.books
    still_open: list[int] = []
    with books.connection.transaction(force_rollback=True):
        books.run(
            "insert into compliance.profiles (tenant_id, environment, tier, reason, changed_by)"
            " values (%s, 'sandbox', 'T0', 'a test', 'test')",
            shop.tenant_id,
        )
        for kind, amount in steps:
            if kind == "begin":
                with_it = sum(map(in_usd_micros, [*still_open, amount]))
                passed = admit(books, shop.tenant_id, amount)
                assert passed == (with_it <= 50_000_000)
                still_open += [amount] if passed else []
            elif kind == "fail" and still_open:
                give_back(books, shop.tenant_id, still_open.pop(amount % len(still_open)))
            else:
                books.run("select compliance.fold_releases()")

            expected = (len(still_open), sum(map(in_usd_micros, still_open)))
            assert counted(books, shop.tenant_id) == expected
            assert expected[1] <= 50_000_000
