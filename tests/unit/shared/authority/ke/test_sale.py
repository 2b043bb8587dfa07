"""What KRA is told, on the worked values."""

from decimal import Decimal
from typing import Any

import pytest

from shared.authority.ke.receipt import grouped, qr_text
from shared.authority.ke.sale import lines_of, moment, payment_code, sale
from tests.support.kenya import PIN, sealed

RATES = {
    "A": Decimal(0),
    "B": Decimal(16),
    "C": Decimal(0),
    "D": Decimal(0),
    "E": Decimal(8),
}


def body_of(items: list[dict[str, Any]], original_no: int = 0, **members: Any) -> dict[str, Any]:
    document = sealed(items, **members)
    lines = lines_of(document, "5059690800")
    codes = {line.article.key: line.article.code(7) for line in lines}
    return sale(document, lines, codes, RATES, 12, original_no)


@pytest.mark.parametrize(
    ("price", "band", "taxable", "tax"),
    [
        ("5800.00", "B", "5000.00", "800.00"),
        ("5000.00", "B", "4310.34", "689.66"),
        ("216.00", "E", "200.00", "16.00"),
        ("99.99", "A", "99.99", "0.00"),
    ],
)
def test_the_worked_values(price: str, band: str, taxable: str, tax: str) -> None:
    body = body_of([{"unit_price": price, "tax_group": band}])

    assert (str(body[f"taxblAmt{band}"]), str(body[f"taxAmt{band}"])) == (taxable, tax)
    assert str(body["totAmt"]) == price


def test_all_fifteen_members_of_the_bands_are_there() -> None:
    body = body_of([{"unit_price": "1.00"}])

    names = [f"{name}{band}" for name in ("taxblAmt", "taxRt", "taxAmt") for band in "ABCDE"]
    assert [name for name in names if name not in body] == []


def test_times_are_those_of_nairobi() -> None:
    # Half past nine in the evening in UTC is the next day there.
    assert f"{moment('2026-02-17T21:30:05Z'):%Y%m%d%H%M%S}" == "20260218003005"
    assert body_of([{"unit_price": "1.00"}])["salesDt"] == "20260218"


def test_a_discount_is_what_the_supply_exceeds_the_total_by() -> None:
    (line,) = body_of([{"unit_price": "100.00", "quantity": "3", "discount_percent": "10"}])[
        "itemList"
    ]

    assert (line["splyAmt"], line["dcAmt"], line["totAmt"], line["dcRt"]) == (300, 30, 270, 10)


def test_a_price_without_tax_is_told_with_it() -> None:
    (line,) = body_of([{"unit_price": "100.00", "quantity": "2"}], price_mode="exclusive")[
        "itemList"
    ]

    assert (line["prc"], line["splyAmt"], line["taxblAmt"], line["taxAmt"]) == (116, 232, 200, 32)


def test_a_credit_names_the_original_and_a_reason() -> None:
    body = body_of(
        [{"unit_price": "100.00"}],
        original_no=4,
        invoice_type="credit_note",
        original_fiscal_number="TST-NBO001-000001",
        credit_reason="returned_goods",
    )

    assert (body["rcptTyCd"], body["orgInvcNo"], body["rfdRsnCd"]) == ("R", 4, "06")
    assert body["rfdDt"] == body["cfmDt"]
    assert body["totAmt"] == 100


@pytest.mark.parametrize(
    ("methods", "code"),
    [
        (("cash",), "01"),
        (("mobile_money",), "06"),
        (("credit",), "02"),
        (("cash", "credit"), "03"),
        (("cash", "card"), "07"),
        (("voucher",), "07"),
    ],
)
def test_one_code_for_all_ways_of_paying(methods: tuple[str, ...], code: str) -> None:
    assert payment_code([{"method": method} for method in methods]) == code


def test_a_buyer_is_named_by_a_pin_and_by_no_other_number() -> None:
    company = {"classification": "company", "name": "Acme Ltd", "tin": "A123456789Z"}
    assert body_of([{"unit_price": "1.00"}], client=company)["custTin"] == "A123456789Z"

    person = {"classification": "individual", "tin": "12345678", "country": "UG"}
    assert body_of([{"unit_price": "1.00"}], client=person)["custTin"] is None


def test_an_item_code_says_what_the_item_is() -> None:
    line, service = lines_of(
        sealed(
            [
                {"unit_price": "1.00", "unit": "kg"},
                {"unit_price": "1.00", "kind": "service", "code": "H"},
            ]
        ),
        "5059690800",
    )

    assert line.article.code(12) == "KE2NTGM0000012"
    assert service.article.code(3) == "KE3NTXU0000003"
    assert line.article.key != service.article.key


def test_what_is_printed_is_grouped_by_four() -> None:
    assert grouped("TE68SLA234J5EAV3N56988LJQ7") == "TE68-SLA2-34J5-EAV3-N569-88LJ-Q7"


def test_the_qr_leads_to_kra() -> None:
    assert qr_text("production", PIN, "00", "QUII27MATATSHFRB") == (
        "https://etims.kra.go.ke/common/link/etims/receipt/indexEtimsReceiptData"
        "?Data=P051234567Q00QUII27MATATSHFRB"
    )
    assert qr_text("sandbox", PIN, "00", "QUII27MATATSHFRB").startswith("https://etims-sbx.kra")


@pytest.mark.parametrize(
    ("pin", "branch", "signature"),
    [("P05123456Q", "00", "Q" * 16), (PIN, "0", "Q" * 16), (PIN, "00", "Q" * 15)],
)
def test_a_qr_with_a_part_of_another_width_is_not_made(
    pin: str, branch: str, signature: str
) -> None:
    with pytest.raises(ValueError, match="must have"):
        qr_text("sandbox", pin, branch, signature)
