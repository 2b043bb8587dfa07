"""public.format_amount: minor units as the decimal string of the wire."""

from decimal import Decimal

import pytest

from tests.sql.public.house import House


@pytest.mark.parametrize(
    ("minor", "currency", "wire"),
    [
        (10_000, "KES", "100.00"),
        (5, "KES", "0.05"),
        (0, "KES", "0.00"),
        (-5, "KES", "-0.05"),
        (-12_345, "KES", "-123.45"),
        (1, "USDC", "0.000001"),
        (9_223_372_036_854_775_807, "KES", "92233720368547758.07"),
        (-9_223_372_036_854_775_808, "KES", "-92233720368547758.08"),
    ],
)
def test_an_amount_has_exactly_the_decimals_of_its_currency(
    house: House, minor: int, currency: str, wire: str
) -> None:
    assert house.one("select public.format_amount(%s, %s)", minor, currency) == wire


def test_every_currency_reads_back_as_the_same_amount(house: House) -> None:
    rows = house.run(
        "select public.format_amount(1234567890123, code) as wire, scale from public.currencies"
    )

    assert len(rows) >= 5
    assert {Decimal(row["wire"]).scaleb(row["scale"]) for row in rows} == {Decimal(1234567890123)}


def test_a_currency_without_decimals_has_no_point(empty_house: House) -> None:
    empty_house.run(
        "insert into public.currencies (code, scale, name) values ('XTS', 0, 'Test') returning code"
    )

    assert empty_house.one("select public.format_amount(-1500, 'XTS')") == "-1500"


def test_eighteen_decimals_are_all_kept(empty_house: House) -> None:
    empty_house.run(
        "insert into public.currencies (code, scale, name) values ('XTS', 18, 'Test')"
        " returning code"
    )

    assert (
        empty_house.one("select public.format_amount(9223372036854775807, 'XTS')")
        == "9.223372036854775807"
    )


def test_an_unknown_currency_has_no_amount(house: House) -> None:
    assert house.one("select public.format_amount(1, 'NONE')") is None
