"""Laws of money: writing and reading agree, and nothing that is no decimal gets in."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidAmount
from shared.money import Money, scales

currencies = st.sampled_from(sorted(scales()))


@st.composite
def amounts(draw: st.DrawFn) -> Money:
    currency = draw(currencies)
    return Money(draw(st.integers(1, 10 ** (12 + scales()[currency]) - 1)), currency)


@given(amounts())
def test_reading_what_was_written_gives_the_amount_back(amount: Money) -> None:
    assert Money.parse(amount.wire(), amount.currency) == amount


@given(amounts())
def test_written_amount_has_exactly_the_decimals_of_its_currency(amount: Money) -> None:
    _, _, fraction = amount.wire().partition(".")

    assert len(fraction) == scales()[amount.currency]


@given(amounts(), st.integers(1, 6))
def test_one_decimal_too_many_is_refused(amount: Money, extra: int) -> None:
    dot = "" if "." in amount.wire() else "."

    with pytest.raises(InvalidAmount):
        Money.parse(amount.wire() + dot + "0" * extra, amount.currency)


@given(st.from_regex(r"[-+]?[0-9.,eE_ ]{0,15}", fullmatch=True), currencies)
def test_text_is_refused_unless_it_is_the_amount_in_digits(text: str, code: str) -> None:
    read = _read(text, code)

    assert read is None or Decimal(read.wire()) == Decimal(text)
    assert read is None or set(text) <= set("0123456789.")


def _read(text: str, code: str) -> Money | None:
    try:
        return Money.parse(text, code, positive=False)
    except InvalidAmount:
        return None
