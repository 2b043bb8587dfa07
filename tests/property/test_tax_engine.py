"""Laws of the tax engine, for any invoice."""

from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.fiscal.document import Document
from shared.fiscal.engine import Priced, price
from shared.fiscal.rules import jurisdiction

CENT = Decimal("0.01")
GROUPS = [code for code in jurisdiction("CD").manifests["CD-2026-01"].groups if code != "TG07"]


def texts(least: int, most: int, places: int) -> st.SearchStrategy[str]:
    """Decimal strings from `least` to `most`, which count units of 10^-places."""
    return st.integers(least, most).map(lambda units: f"{Decimal(units).scaleb(-places):f}")


lines = st.lists(
    st.fixed_dictionaries(
        {
            "quantity": texts(1, 10**9, 6) | texts(1, 999, 0),
            "unit_price": texts(0, 10**9, 2),
            "tax_group": st.sampled_from(GROUPS),
        },
        optional={"discount_percent": texts(0, 10**6, 4)},
    ),
    min_size=1,
    max_size=12,
)
modes = st.sampled_from(["exclusive", "inclusive"])


def document(items: list[dict[str, Any]], mode: str, total: str) -> Document:
    return Document.model_validate(
        {
            "schema_version": "1.0",
            "jurisdiction": "CD",
            "merchant_tin": "308123456",
            "outlet_id": "outlet-1",
            "pos_terminal_id": "pos-1",
            "cashier_id": "cashier-1",
            "invoice_type": "sale",
            "timestamp": "2026-02-17T04:00:00Z",
            "tax_group_manifest_version": "CD-2026-01",
            "price_mode": mode,
            "client": {"classification": "individual"},
            "items": [
                {"line_no": at, "code": "c", "description": "d", "kind": "goods", **item}
                for at, item in enumerate(items, start=1)
            ],
            "totals": {"currency": "CDF"},
            "payments": [{"method": "cash", "amount": total, "currency": "CDF"}],
        }
    )


def priced(items: list[dict[str, Any]], mode: str) -> Priced:
    """Priced with a payment of what it comes to, computed here by hand from the same lines."""
    return price(document(items, mode, f"{by_hand(items, mode):.2f}"))


def by_hand(items: list[dict[str, Any]], mode: str) -> Decimal:
    """The total, in integers only."""
    total = 0
    groups = jurisdiction("CD").manifests["CD-2026-01"].groups
    for item in items:
        # Cents times 10^6, since quantities have six decimals.
        gross = half_up(cents(item["unit_price"]) * micro(item["quantity"]), 10**6)
        gross -= half_up(gross * percent(item.get("discount_percent", "0")), 10**6)
        rate = groups[item["tax_group"]].rate
        assert rate is not None
        tax = half_up(gross * int(rate * 10_000), 10_000) if mode == "exclusive" else 0
        total += gross + tax
    return Decimal(total).scaleb(-2)


def half_up(value: int, unit: int) -> int:
    return (2 * value + unit) // (2 * unit)


def cents(text: str) -> int:
    return int(Decimal(text).scaleb(2))


def micro(text: str) -> int:
    return int(Decimal(text).scaleb(6))


def percent(text: str) -> int:
    return int(Decimal(text).scaleb(4))


@given(lines, modes)
def test_totals_are_the_sums_of_lines_and_equal_the_sum_by_hand(
    items: list[dict[str, Any]], mode: str
) -> None:
    found = priced(items, mode)
    canonical = found.canonical

    totals = canonical["totals"]
    for total, member in (
        ("subtotal", "line_base"),
        ("total_tax", "tax_amount"),
        ("total", "line_total"),
    ):
        assert Decimal(totals[total]) == sum(Decimal(line[member]) for line in canonical["items"])
    assert Decimal(totals["total"]) == by_hand(items, mode)
    assert Decimal(totals["subtotal"]) + Decimal(totals["total_tax"]) == Decimal(totals["total"])
    assert Decimal(totals["total_tax"]) == sum(
        Decimal(row["tax_amount"]) for row in canonical["tax_groups"]
    )


@given(texts(0, 10**9, 2), st.sampled_from(GROUPS))
def test_inclusive_and_exclusive_agree_within_the_rounding_rule(amount: str, group: str) -> None:
    item = {"quantity": "1", "unit_price": amount, "tax_group": group}
    exclusive = priced([item], "exclusive")

    back = priced([item | {"unit_price": f"{exclusive.total:.2f}"}], "inclusive")

    assert abs(back.subtotal - exclusive.subtotal) <= CENT
    assert back.total == exclusive.total


@given(lines, modes)
def test_adjustment_is_at_most_half_a_cent_per_line_and_group(
    items: list[dict[str, Any]], mode: str
) -> None:
    found = priced(items, mode)

    assert abs(found.adjustment) <= CENT * (len(items) + len(found.groups)) / 2


@given(lines, modes)
def test_same_document_same_bytes(items: list[dict[str, Any]], mode: str) -> None:
    assert priced(items, mode).canonical == priced(items, mode).canonical


@given(st.integers(1, 50), texts(1, 10**7, 2), st.sampled_from(GROUPS), modes)
def test_one_line_of_n_is_n_lines_of_one_within_rounding(
    count: int, each: str, group: str, mode: str
) -> None:
    item = {"quantity": "1", "unit_price": each, "tax_group": group}

    many, one = priced([item] * count, mode), priced([item | {"quantity": str(count)}], mode)

    assert abs(many.total - one.total) <= CENT * count / 2
