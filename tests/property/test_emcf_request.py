"""Whatever is sealed comes to the same at the DGI, computed by rules that share no code of ours."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from scripts.stack.emcf.rules import examine
from shared.authority.base import Acceptance
from shared.authority.cd.request import build
from shared.authority.wire import from_json, to_json
from shared.fiscal.document import Document
from shared.fiscal.engine import unpaid
from tests.support.sealed import congolese, credits_in_parts, line, sealed

Json = dict[str, Any]
FACTS = {"nif": "308123456", "isf": "SFE-0042", "nim": "CD00000001", "token": "…"}
# Whose rate is the same there; TG04 has another one, TG08 and TG09 have none.
GROUPS = ("TG01", "TG02", "TG03", "TG05", "TG06", "TG10", "TG11", "TG12", "TG13", "TG14")
AMOUNTS = st.decimals(Decimal("0.01"), Decimal(99999), places=2).map(str)
PRICES = st.one_of(AMOUNTS, st.decimals(Decimal("0.001"), 999, places=4).map(str))
QUANTITIES = st.one_of(
    st.integers(1, 50).map(str), st.decimals(Decimal("0.01"), 20, places=4).map(str)
)
DISCOUNTS = st.sampled_from(["0", "5", "12.5", "33.33"])


@st.composite
def documents(draw: st.DrawFn) -> Json:
    lines = [
        line(
            number,
            quantity=_plain(draw(QUANTITIES)),
            unit_price=draw(PRICES),
            discount_percent=draw(DISCOUNTS),
            tax_group=draw(st.sampled_from(GROUPS)),
            kind=draw(st.sampled_from(["goods", "service"])),
        )
        for number in range(1, draw(st.integers(1, 4)) + 1)
    ]
    written = congolese(items=lines, price_mode=draw(st.sampled_from(["exclusive", "inclusive"])))
    currency = draw(st.sampled_from(["CDF", "USD"]))
    if currency == "USD":
        rate = str(draw(st.decimals(2000, 3000, places=2)))
        as_of = "2026-11-21T00:00:00Z"
        written |= {"fx": {"rate": rate, "source": "authority", "as_of": as_of}}
    return written | {"totals": {"currency": currency}}


def _plain(number: str) -> str:
    """Without trailing zeros, as a till writes it."""
    return number.rstrip("0").rstrip(".") if "." in number else number


@settings(max_examples=150, deadline=None)
@given(documents())
def test_what_is_sealed_comes_to_the_same_there(written: Json) -> None:
    request, expected = build(sealed(_paid(written)), FACTS)
    theirs = examine(from_json(to_json(request)), "308123456")

    assert (theirs.total, theirs.vat) == (expected.total, expected.vat)
    if theirs.cur_total is not None:
        assert theirs.cur_total == Decimal(_total(written))


# Three cents are 69.14 francs, two and one of them 69.15, and then there is a credit of nothing.
THREE_CENTS = congolese(
    items=[line(unit_price="0.001"), line(2, quantity="0.01", unit_price="3.3334")],
    totals={"currency": "USD"},
    fx={"rate": "2304.75", "source": "authority", "as_of": "2026-11-21T00:00:00Z"},
)


@settings(max_examples=60, deadline=None)
@example(THREE_CENTS, [Decimal("0.5"), Decimal("0.3")])
@given(documents(), st.lists(st.decimals("0.1", "0.9", places=1), max_size=2))
def test_credits_in_parts_never_come_to_more_there_than_the_original(
    written: Json, shares: list[Decimal]
) -> None:
    sold = sealed(_paid(written))
    left, credited = build(sold, FACTS)[1].total, list[Json]()

    for payload in credits_in_parts(dict(sold.payload), shares):
        credit = replace(
            sold,
            payload=payload,
            original=Acceptance("A" * 24, None),
            original_payload=sold.payload,
            credited=tuple(credited),
        )
        theirs = examine(from_json(to_json(build(credit, FACTS)[0])), "308123456")
        left -= theirs.total
        assert left >= 0
        if theirs.cur_total is not None:
            assert theirs.cur_total == Decimal(payload["totals"]["total"])
        credited.append(payload)


def _paid(written: Json) -> Json:
    currency = written["totals"]["currency"]
    return written | {
        "payments": [{"method": "cash", "amount": _total(written), "currency": currency}]
    }


def _total(written: Json) -> str:
    # What there is to pay the engine says; that it is right is another test's business.
    zero = [{"method": "cash", "amount": "0.00", "currency": written["totals"]["currency"]}]
    priced = unpaid(Document.model_validate(written | {"payments": zero}))
    return str(priced.canonical["totals"]["total"])
