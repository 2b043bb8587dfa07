"""shared/money.py: exact amounts with their currency."""

import pytest

from shared.errors import InvalidAmount
from shared.money import Money, scale_of, scales


@pytest.mark.parametrize(
    ("text", "currency", "minor", "wire"),
    [
        ("100.00", "KES", 10_000, "100.00"),
        ("100", "KES", 10_000, "100.00"),
        ("0.5", "KES", 50, "0.50"),
        ("0.01", "USD", 1, "0.01"),
        ("5000", "UGX", 5_000, "5000"),
        ("1.000001", "USDC", 1_000_001, "1.000001"),
        ("999999999999.999999", "USDT", 999_999_999_999_999_999, "999999999999.999999"),
        ("1.234", "TND", 1_234, "1.234"),
    ],
)
def test_amount_is_read_exactly_and_written_with_fixed_scale(
    text: str, currency: str, minor: int, wire: str
) -> None:
    amount = Money.parse(text, currency)

    assert (amount.minor, amount.wire()) == (minor, wire)


@pytest.mark.parametrize(
    ("text", "currency", "rule"),
    [
        ("12.505", "KES", "KES has 2 decimals"),
        ("1.0", "UGX", "UGX has no decimals"),
        ("1.0000001", "USDC", "USDC has 6 decimals"),
        ("-1.00", "KES", "digits only"),
        ("+1.00", "KES", "digits only"),
        ("1e3", "KES", "digits only"),
        ("1,000.00", "KES", "digits only"),
        ("0x10", "KES", "digits only"),
        ("1_000", "KES", "digits only"),
        (" 1.00", "KES", "digits only"),
        ("1.00\n", "KES", "digits only"),
        (".50", "KES", "digits only"),
        ("5.", "KES", "digits only"),
        ("", "KES", "digits only"),
        ("NaN", "KES", "digits only"),
        ("\u0661\u0662.00", "KES", "digits only"),  # Arabic-Indic digits are digits to int()
        ("007.00", "KES", "must not start with zeros"),
        ("00", "KES", "must not start with zeros"),
        ("1000000000000.00", "KES", "at most 12 digits"),
        ("0.00", "KES", "more than zero"),
        ("0", "UGX", "more than zero"),
    ],
)
def test_amount_that_is_no_exact_decimal_is_refused_with_its_rule(
    text: str, currency: str, rule: str
) -> None:
    with pytest.raises(InvalidAmount) as refused:
        Money.parse(text, currency, pointer="/transfer/amount")

    assert rule in refused.value.message
    assert refused.value.errors[0]["pointer"] == "/transfer/amount"
    assert rule in refused.value.errors[0]["detail"]


@pytest.mark.parametrize("value", [100.0, 100, None, b"100", True])
def test_amount_that_is_no_string_is_refused(value: object) -> None:
    with pytest.raises(InvalidAmount):
        Money.parse(value, "KES")  # type: ignore[arg-type]  # what a loose caller might pass


def test_zero_is_an_amount_where_it_is_allowed() -> None:
    assert Money.parse("0.00", "KES", positive=False) == Money(0, "KES")


def test_unknown_currency_is_refused_at_the_currency_field() -> None:
    with pytest.raises(InvalidAmount) as refused:
        Money.parse("1.00", "kes")

    assert refused.value.errors[0]["pointer"] == "/currency"


@pytest.mark.parametrize("minor", [-1, 1 << 63, True, 1.0])
def test_money_holds_only_what_a_bigint_of_minor_units_holds(minor: int) -> None:
    with pytest.raises(AssertionError):
        Money(minor, "KES")


@pytest.mark.parametrize(
    ("currency", "scale"),
    [
        *[("KES", 2), ("UGX", 0), ("TZS", 2), ("RWF", 0), ("CDF", 2), ("ZWG", 2), ("XAF", 0)],
        *[("USD", 2), ("USDC", 6), ("USDT", 6), ("ALGO", 6), ("TND", 3), ("BIF", 0), ("DJF", 0)],
    ],
)
def test_currency_has_the_scale_of_iso_4217_or_of_its_issuer(currency: str, scale: int) -> None:
    assert scale_of(currency) == scale


def test_every_amount_of_every_currency_fits_a_bigint() -> None:
    assert all(10 ** (12 + scale) < 1 << 63 for scale in scales().values())
