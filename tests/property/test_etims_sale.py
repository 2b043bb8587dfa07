"""Laws of what KRA is told of a sale, for any sale."""

from dataclasses import replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from scripts.stack.etims.rules import RATES, check_sale
from shared.authority import exact_json
from shared.authority.base import SealedDocument
from shared.authority.ke.sale import BANDS, lines_of, sale
from tests.property.test_tax_engine import texts
from tests.support.kenya import sealed
from tests.support.sealed import credits_in_parts

CENT = Decimal("0.01")


def _category(band: str) -> dict[str, str]:
    """Zero rated at home is a matter of the article."""
    return {"category": "zero_rated"} if band == "C" else {}


items = st.lists(
    st.fixed_dictionaries(
        {
            "quantity": texts(1, 10**9, 6) | texts(1, 999, 0),
            "unit_price": texts(0, 10**9, 2),
            "tax_group": st.sampled_from(BANDS),
        },
        optional={"discount_percent": texts(0, 10**6, 4)},
    ),
    min_size=1,
    max_size=6,
).map(lambda drafts: [draft | _category(draft["tax_group"]) for draft in drafts])
modes = st.sampled_from(["exclusive", "inclusive"])


def told(drafts: list[dict[str, Any]], **members: Any) -> dict[str, Any]:
    """The body as it arrives at KRA, which its own checks accept."""
    document = sealed(drafts, **members)
    lines = lines_of(document, "5059690800")
    codes = {line.article.key: line.article.code(1) for line in lines}
    body = exact_json.read(exact_json.write(sale(document, lines, codes, RATES, 1, 0)))
    bands = {one["itemCd"]: one["taxTyCd"] for one in body["itemList"]}
    for line in body["itemList"]:  # an article in two bands is two articles
        bands = {line["itemCd"]: line["taxTyCd"]}
        check_sale(body | {"itemList": [line], "totItemCnt": 1, **alone(line)}, bands)
    return dict(body)


def alone(line: dict[str, Any]) -> dict[str, Any]:
    """The totals of a sale of this line only."""
    line["itemSeq"] = 1
    totals: dict[str, Any] = {
        "totTaxblAmt": line["taxblAmt"],
        "totTaxAmt": line["taxAmt"],
        "totAmt": line["totAmt"],
    }
    for band in BANDS:
        is_its_own = band == line["taxTyCd"]
        totals[f"taxblAmt{band}"] = line["taxblAmt"] if is_its_own else Decimal(0)
        totals[f"taxAmt{band}"] = line["taxAmt"] if is_its_own else Decimal(0)
    return totals


@given(items, modes)
def test_kra_hears_of_the_very_amounts_that_were_sealed(
    drafts: list[dict[str, Any]], mode: str
) -> None:
    document = sealed(drafts, price_mode=mode)
    body = told(drafts, price_mode=mode)

    totals = document.payload["totals"]
    assert body["totAmt"] == Decimal(totals["total"])
    assert body["totTaxAmt"] == Decimal(totals["total_tax"])
    assert body["totTaxblAmt"] == Decimal(totals["subtotal"])
    for group in document.payload["tax_groups"]:
        assert body[f"taxblAmt{group['code']}"] == Decimal(group["base_amount"])
        assert body[f"taxAmt{group['code']}"] == Decimal(group["tax_amount"])


@given(items, modes)
def test_a_taxable_amount_is_what_kra_computes_back_from_the_total(
    drafts: list[dict[str, Any]], mode: str
) -> None:
    for line in told(drafts, price_mode=mode)["itemList"]:
        share = 1 + RATES[line["taxTyCd"]] / 100
        assert line["taxblAmt"] == (line["totAmt"] / share).quantize(CENT, ROUND_HALF_UP)


@given(items, modes, texts(100_00, 200_00, 2))
def test_in_dollars_kra_hears_shillings_that_agree_with_each_other_and_with_the_seal(
    drafts: list[dict[str, Any]], mode: str, rate: str
) -> None:
    fx = {"rate": rate, "source": "authority", "as_of": "2026-02-17T00:00:00Z"}
    document = sealed(drafts, price_mode=mode, currency="USD", fx=fx)
    body = told(drafts, price_mode=mode, currency="USD", fx=fx)

    totals, lines = document.payload["totals"], len(drafts)
    assert body["totAmt"] == body["totTaxblAmt"] + body["totTaxAmt"]
    assert abs(body["totAmt"] - Decimal(totals["total"]) * Decimal(rate)) <= CENT / 2 * lines
    # A line's tax was rounded to half a cent of a dollar, and here to half a cent of a shilling.
    rounding = (CENT / 2 * Decimal(rate) + CENT) * lines + CENT
    assert abs(body["totTaxAmt"] - Decimal(totals["tax_in_reporting_currency"])) <= rounding


# Three cents are 3.89 shillings, two and one of them 3.90, and then there is a credit of nothing.
THREE_CENTS = [
    {"quantity": "1", "unit_price": "0.001", **_category("D")},
    {"quantity": "0.01", "unit_price": "3.3334", **_category("D")},
]


@settings(max_examples=60, deadline=None)
@example(THREE_CENTS, "exclusive", "129.75", [Decimal("0.5"), Decimal("0.3")])
@given(
    items,
    modes,
    texts(100_00, 200_00, 2),
    st.lists(st.decimals("0.1", "0.9", places=1), max_size=2),
)
def test_credits_in_parts_never_come_to_more_shillings_than_the_sale(
    drafts: list[dict[str, Any]], mode: str, rate: str, shares: list[Decimal]
) -> None:
    fx = {"rate": rate, "source": "authority", "as_of": "2026-02-17T00:00:00Z"}
    sold = sealed(drafts, price_mode=mode, currency="USD", fx=fx)
    left = shillings(sold)
    credited: list[dict[str, Any]] = []

    for payload in credits_in_parts(dict(sold.payload), shares):
        credit = replace(
            sold, payload=payload, original_payload=sold.payload, credited=tuple(credited)
        )
        left -= shillings(credit)
        assert left >= 0
        credited.append(payload)


def shillings(document: SealedDocument) -> Decimal:
    """What KRA hears that it comes to, its lines agreeing with themselves."""
    lines = lines_of(document, "5059690800")
    for line in lines:
        taxable = (line.total / (1 + line.tax_rate)).quantize(CENT, ROUND_HALF_UP)
        assert (line.taxable, line.supply >= line.total >= 0) == (taxable, True)
    return sum((line.total for line in lines), Decimal(0))
