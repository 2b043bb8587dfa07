"""Lists of documents: the page that was asked for, at the cost of that page."""

import json
from typing import Any

import pytest

from tests.sql.reports.till import Till
from tests.support.sql import Api, Books

MANY = 5000


@pytest.fixture(scope="module")
def tills(api: Api, books: Books) -> tuple[Till, Till]:
    """One outlet that sealed three documents long ago, and one with thousands."""
    small, large = Till(api, books).open(), Till(api, books).open()
    for till in (small, large):
        sale = till.seal()
        till.seal()
        till.credit(sale)
    with books.connection.transaction():
        books.run("set local session_replication_role = replica")
        # A document is a row of its columns; those of a table made later would be missing here.
        books.run(
            "insert into fiscal.invoices select (jsonb_populate_record(i, jsonb_build_object("
            "'invoice_id', public.new_id('inv'), 'fiscal_number', 'TST-COPY-' || n,"
            "'sequence', n, 'status', 'fiscalized',"
            "'created_at', i.created_at + n * interval '1 ms'))).*"
            " from fiscal.invoices as i, generate_series(100, %s) as n"
            " where i.tenant_id = %s and i.sequence = 1",
            MANY + 99,
            large.tenant_id,
        )
    books.run("analyze fiscal.invoices")
    return small, large


def listed(till: Till, page_after: str | None = None, **filters: Any) -> tuple[Any, int]:
    """A page, and how many documents were read to find it."""
    with till.books.connection.transaction():
        till.books.run("select set_config('request.headers', %s, true)", json.dumps(till.headers))
        before = rows_read(till.books)
        body = till.books.value(
            "select (fiscal.list_invoices(%s, 10, %s)).body", json.dumps(filters), page_after
        )
        return json.loads(body), rows_read(till.books) - before


def rows_read(books: Books) -> int:
    return int(
        books.value(
            "select seq_tup_read + idx_tup_fetch from pg_stat_xact_all_tables"
            " where relid = 'fiscal.invoices'::regclass"
        )
    )


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"status": "pending_signature"},
        {"status": "signing_error"},
        {"status": "fiscalized"},
        {"fiscal_number": "TST-COPY-2000"},
        {"created_after": "2020-01-01T00:00:00Z"},
        {"created_before": "2020-01-01T00:00:00Z"},
        {"original_invoice": "inv_00000000000000000000000000"},
    ],
)
def test_list_reads_its_page_and_not_the_table(
    filters: dict[str, str], tills: tuple[Till, Till]
) -> None:
    reads = [listed(till, **filters)[1] for till in tills]

    assert max(reads) < 150, reads


def test_pages_follow_each_other_to_the_end(tills: tuple[Till, Till]) -> None:
    small, large = tills
    seen: list[str] = []
    after = None
    for _ in range(3):
        page, _reads = listed(large, after)
        seen += [row["id"] for row in page["data"]]
        after = page["pagination"]["next_cursor"]
    newest = "select invoice_id from fiscal.invoices where tenant_id = %s order by created_at desc"

    assert seen == large.books.column(f"{newest} limit 30", large.tenant_id)
    whole, _reads = listed(small)
    assert [row["sequence"] for row in whole["data"]] == [3, 2, 1]
    assert whole["pagination"] == {"limit": 10, "has_more": False, "next_cursor": None}
