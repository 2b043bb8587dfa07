"""What reports add up to, for any documents: by hand, X and Z, Zs and periods, and for ever."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.reports.till import Till, line
from tests.support.sql import Api, Books, Row

Cell = tuple[str, ...]
Sums = Counter[Cell]

amounts = st.integers(1, 10**7).map(lambda cents: f"{Decimal(cents).scaleb(-2):f}")
groups = st.sampled_from(["TG01", "TG02", "TG03", "TG04", "TG08"])
methods = st.sampled_from(["cash", "mobile_money", "card"])
documents = st.tuples(
    st.lists(st.tuples(amounts, groups), min_size=1, max_size=3),
    st.sampled_from(["CDF", "USD"]),
    methods,
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
        assert z["invoice_count"] == len(morning + afternoon)

    zs = till.reports()
    period = till.periodic()
    assert sums(period) == by_hand(sealed) == total(sums(z) for z in zs)
    assert period["report_count"] == len(zs)
    assert period["invoice_count"] == len(sealed)
    assert for_ever(zs[-1]) == {
        cell: amount for cell, amount in by_hand(sealed).items() if cell[-1] == "total"
    }


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
    for items, currency, method, is_credited in day:
        lines = [
            line(amount, code=f"C{at}", tax_group=group) for at, (amount, group) in enumerate(items)
        ]
        paid = {
            "method": method,
            "amount": f"{sum(Decimal(amount) for amount, _ in items)}",
            "currency": currency,
        }
        sale = till.seal(till.document(*lines, currency=currency, payments=[paid]))
        made.append(sale)
        if is_credited:
            made.append(till.credit(sale, lines[0]))
    return made


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
    names = ("tax_totals", "grand_totals", "payments", "tax_return", "counts_by_type")
    return {name: report[name] for name in names}


def x(till: Till) -> Row:
    """The X of this moment."""
    return till.ask(
        "fiscal.x_report", "fn_reports", outlet_id=till.outlet_id, cashier_id=None,
        pos_terminal_id=None,
    )  # fmt: skip
