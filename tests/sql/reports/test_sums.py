"""What reports add up to, for any documents: by hand, X and Z, Zs and periods, and for ever."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import InvoiceRuleBroken
from tests.sql.reports.till import Till, line
from tests.support.sql import Api, Books, Row

Cell = tuple[str, ...]
Sums = Counter[Cell]

amounts = st.integers(1, 10**7).map(lambda cents: f"{Decimal(cents).scaleb(-2):f}")
groups = st.sampled_from(["TG01", "TG02", "TG03", "TG04", "TG08"])
# Means of payment, and what part of the document each pays; the last one pays the rest.
methods = st.sampled_from(["cash", "mobile_money", "card"])
payments = st.lists(st.tuples(methods, st.integers(0, 100)), min_size=1, max_size=6)
documents = st.tuples(
    st.lists(st.tuples(amounts, groups), min_size=1, max_size=3),
    st.sampled_from(["CDF", "USD"]),
    payments,
    st.booleans(),  # whether its first line is credited at once
)
days_of_documents = st.lists(st.lists(documents, max_size=3), min_size=2, max_size=3)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(days=days_of_documents)
def test_reports_add_up(days: list[list[Any]], api: Api, books: Books) -> None:
    till, sealed = Till(api, books).open(), []

    for day in days:
        morning, at_noon = sold(till, day[:1]), x(till)
        afternoon, at_night = sold(till, day[1:]), x(till)
        z = till.close()["report"]
        till.another_day()
        sealed += morning + afternoon
        assert total([sums(at_noon), by_hand(afternoon)]) == sums(z) == by_hand(morning + afternoon)
        assert figures(at_night) == figures(z)
        assert methods_together(at_noon) == grand_totals(at_noon)
        assert methods_together(z) == grand_totals(z)
        assert z["invoice_count"] == len(morning + afternoon)

    zs = till.reports()
    period = till.periodic()
    assert sums(period) == by_hand(sealed) == total(sums(z) for z in zs)
    assert methods_together(period) == grand_totals(period)
    assert period["report_count"] == len(zs)
    assert period["invoice_count"] == len(sealed)
    assert for_ever(zs[-1]) == {
        cell: amount for cell, amount in by_hand(sealed).items() if cell[-1] == "total"
    }


def test_tax_is_divided_among_the_means_of_payment(till: Till) -> None:
    # 100.00 with 13.79 of tax: a third is 4.596…, so 4.60, 4.59 and 4.60.
    thirds = [("cash", "33.33"), ("card", "33.33"), ("mobile_money", "33.34")]
    till.seal(till.document(line("100.00"), payments=[paid(*third) for third in thirds]))

    z = till.close()["report"]

    assert {row["method"]: row["sales"] for row in z["payment_totals"]} == {
        "cash": {"subtotal": "28.73", "total_tax": "4.60", "total": "33.33"},
        "card": {"subtotal": "28.74", "total_tax": "4.59", "total": "33.33"},
        "mobile_money": {"subtotal": "28.74", "total_tax": "4.60", "total": "33.34"},
    }
    assert z["schema_version"] == "1.1"


def test_payment_in_another_currency_counts_in_the_documents(till: Till) -> None:
    dollars = paid("cash", "2.00", "USD") | {"fx_rate": "2826.00"}
    till.seal(till.document(line("10000.00"), payments=[dollars, paid("card", "4348.00")]))

    found = x(till)

    assert [(row["method"], row["currency"]) for row in found["payments"]] == [
        ("card", "CDF"),
        ("cash", "USD"),
    ]
    assert [
        (row["method"], row["currency"], row["sales"]["total"]) for row in found["payment_totals"]
    ] == [("card", "CDF", "4348.00"), ("cash", "CDF", "5652.00")]
    assert methods_together(found) == grand_totals(found)


def test_free_document_has_a_means_of_payment_and_no_tax(till: Till) -> None:
    till.seal(till.document(line("0.00"), payments=[paid("voucher", "0.00")]))

    (row,) = x(till)["payment_totals"]

    assert row["sales"] == {"subtotal": "0.00", "total_tax": "0.00", "total": "0.00"}


def test_payments_above_the_total_are_refused(till: Till) -> None:
    with pytest.raises(InvoiceRuleBroken, match=r"come to 120\.00 and the invoice to 100\.00"):
        till.seal(till.document(line("100.00"), payments=[paid("cash", "120.00")]))


def test_z_from_before_payment_totals_stays_what_it_was_and_counts(till: Till) -> None:
    sold(till, [([("1000.00", "TG02")], "CDF", [("cash", 0)], True)])
    z = till.close()
    told = z["report"]["payment_totals"]
    till.books.run("set session_replication_role = replica")
    till.books.run(
        "update fiscal.reports as r set body = z.body, canonical_payload_hash ="
        " encode(sha256(convert_to(z.body, 'UTF8')), 'hex')"
        " from (select fiscal.canonical_text((body::jsonb - 'payment_totals')"
        '   || \'{"schema_version": "1.0"}\') as body'
        "   from fiscal.reports where report_id = %s) as z where r.report_id = %s",
        z["id"],
        z["id"],
    )
    till.books.run(
        "update fiscal.fiscal_ledger as l set canonical_payload_hash = r.canonical_payload_hash,"
        " entry_hash = encode(sha256(convert_to(concat_ws(E'\n', l.fiscal_number,"
        "   r.canonical_payload_hash, l.sealed_at, l.previous_hash), 'UTF8')), 'hex')"
        " from fiscal.reports as r"
        " where r.fiscal_number = l.fiscal_number and r.report_id = %s",
        z["id"],
    )
    till.books.run("set session_replication_role = origin")

    (old,) = till.reports()

    assert (old["schema_version"], "payment_totals" in old) == ("1.0", False)
    assert till.periodic()["payment_totals"] == told


def test_x_says_what_documents_wait_for(till: Till, books: Books) -> None:
    invoice = till.seal()
    books.run(
        "insert into sync.authority_sync_queue (tenant_id, environment, outlet_id, jurisdiction,"
        " kind, subject, invoice_id, next_attempt_at)"
        " values (%s, 'sandbox', %s, 'CD', 'document', %s, %s, 'infinity')"
        " on conflict do nothing",
        till.tenant_id,
        till.outlet_id,
        invoice["id"],
        invoice["id"],
    )

    assert x(till)["platform_status"] == {
        "signer": "ok",
        "pending_signature": 1,
        "pending_sync": 1,
        "next_sequence": 2,
    }


def sold(till: Till, day: list[Any]) -> list[Row]:
    """The sealed documents, credits too."""
    made = []
    for items, currency, shares, is_credited in day:
        lines = [
            line(amount, code=f"C{at}", tax_group=group) for at, (amount, group) in enumerate(items)
        ]
        due = sum(Decimal(amount) for amount, _ in items)
        sale = till.seal(
            till.document(*lines, currency=currency, payments=divided(due, shares, currency))
        )
        made.append(sale)
        if is_credited:
            made.append(till.credit(sale, lines[0]))
    return made


def divided(due: Decimal, shares: list[tuple[str, int]], currency: str) -> list[Row]:
    """Payments that come to what is due: a part of the rest each, the last one all of it."""
    made = []
    for method, percent in shares[:-1]:
        part = (due * percent / 100).quantize(Decimal("0.01"))
        made.append(paid(method, f"{part}", currency))
        due -= part
    return [*made, paid(shares[-1][0], f"{due:.2f}", currency)]


def paid(method: str, amount: str, currency: str = "CDF") -> Row:
    return {"method": method, "amount": amount, "currency": currency}


def methods_together(report: Row) -> Sums:
    """All means of payment added up."""
    found: Sums = Counter()
    for row in report["payment_totals"]:
        for side, member in pairs(row):
            found["grand", row["currency"], side, member] += Decimal(row[side][member])
    return without_zeros(found)


def grand_totals(report: Row) -> Sums:
    return Counter({cell: amount for cell, amount in sums(report).items() if cell[0] == "grand"})


def by_hand(invoices: list[Row]) -> Sums:
    """What they come to: totals, groups and payments, in exact decimals, without zeros."""
    found: Sums = Counter()
    for invoice in invoices:
        document = invoice["document"]
        side = "credits" if document["invoice_type"] == "credit_note" else "sales"
        totals = document["totals"]
        for member in ("subtotal", "total_tax", "total"):
            found["grand", totals["currency"], side, member] += Decimal(totals[member])
        for row in document["tax_groups"]:
            cell = ("group", totals["currency"], row["code"], side)
            found[*cell, "base"] += Decimal(row["base_amount"])
            found[*cell, "tax"] += Decimal(row["tax_amount"])
        for payment in document["payments"]:
            cell = ("paid", payment["currency"], payment["method"], side)
            found[cell] += Decimal(payment["amount"])
            found["by", payment["currency"], payment["method"], side] += Decimal(payment["amount"])
        tax = totals.get("tax_in_reporting_currency", totals["total_tax"])
        found["return", side] += Decimal(tax)
    return with_nets(found)


def sums(report: Row) -> Sums:
    """The same cells of a report."""
    found: Sums = Counter()
    for row in report["grand_totals"]:
        for side, member in pairs(row):
            found["grand", row["currency"], side, member] += Decimal(row[side][member])
    for row in report["tax_totals"]:
        for side, member in pairs(row):
            found["group", row["currency"], row["code"], side, member] += Decimal(row[side][member])
    for row in report["payments"]:
        for side, member in pairs(row):
            found["paid", row["currency"], row["method"], side] += Decimal(row[side][member])
    for row in report["payment_totals"]:
        for side in ("sales", "credits", "net"):
            cell = ("by", row["currency"], row["method"], side)
            found[cell] += Decimal(row[side]["total"])
            assert Decimal(row[side]["total_tax"]) >= 0 or side == "net"
    for side in ("sales", "credits", "net"):
        found["return", side] += Decimal(report["tax_return"][side]["tax_as_sealed"])
    return without_zeros(found)


def pairs(row: Row) -> Iterable[tuple[str, str]]:
    return ((side, member) for side in ("sales", "credits", "net") for member in row[side])


def with_nets(found: Sums) -> Sums:
    for cell, amount in list(found.items()):
        at = next(place for place, part in enumerate(cell) if part in ("sales", "credits"))
        net = (*cell[:at], "net", *cell[at + 1 :])
        found[net] += amount if cell[at] == "sales" else -amount
    return without_zeros(found)


def without_zeros(found: Sums) -> Sums:
    return Counter({cell: amount for cell, amount in found.items() if amount})


def total(several: Iterable[Sums]) -> Sums:
    found: Sums = Counter()
    for one in several:
        found.update(one)
    return without_zeros(found)


def for_ever(z: Row) -> dict[Cell, Decimal]:
    """The perpetual totals of a Z as the cells they must equal."""
    found: dict[Cell, Decimal] = {}
    for row in z["perpetual_totals"]:
        for side in ("sales", "credits", "net"):
            found["grand", row["currency"], side, "total"] = Decimal(row[side])
    return {cell: amount for cell, amount in found.items() if amount}


def figures(report: Row) -> Row:
    names = (
        "tax_totals",
        "grand_totals",
        "payments",
        "payment_totals",
        "tax_return",
        "counts_by_type",
    )
    return {name: report[name] for name in names}


def x(till: Till) -> Row:
    """The X of this moment."""
    return till.ask(
        "fiscal.x_report", "fn_reports", outlet_id=till.outlet_id, cashier_id=None,
        pos_terminal_id=None,
    )  # fmt: skip
