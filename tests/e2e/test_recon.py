"""Two independent books: ours, and the statement that the rail's simulator exports."""

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from scripts.stack.daraja.credentials import PAY_BILL
from scripts.stack.stack import Stack
from tests.support.days import begin_in_one_day
from tests.support.house import House, Merchant, living_in, new_key
from tests.support.simulator import Json, new_phone, until

FIRST_COLUMN = "Receipt No."


@pytest.fixture(scope="module")
def house(stack: Stack) -> Iterator[House]:
    with living_in(stack) as house:
        yield house


@pytest.fixture
def merchant(house: House) -> Iterator[Merchant]:
    begin_in_one_day("Africa/Nairobi")
    yield house.merchant()
    house.daraja.disarm()


class Paper:
    """A statement of the simulator, of one merchant's payments, that can be tampered with."""

    def __init__(self, body: bytes, references: set[str]) -> None:
        rows = list(csv.reader(io.StringIO(body.decode(), newline="")))
        start = next(n for n, row in enumerate(rows) if row[:1] == [FIRST_COLUMN])
        self.head, self.columns = rows[:start], rows[start]
        # Other merchants of this stack share the pay bill; their lines are not ours to explain.
        self.rows = [
            row
            for row in rows[start + 1 :]
            if self.cell(row, "A/C No.") in references or self.cell(row, FIRST_COLUMN) in references
        ]

    def cell(self, row: list[str], column: str) -> str:
        return row[self.columns.index(column)]

    def set(self, row: list[str], column: str, value: str) -> list[str]:
        """A copy of `row` with one cell changed."""
        changed = list(row)
        changed[self.columns.index(column)] = value
        return changed

    def file(self) -> bytes:
        """As the portal would export these rows: with totals that fit them."""
        paid_in, withdrawn = (
            sum(Decimal(self.cell(row, column) or 0) for row in self.rows)
            for column in ("Paid In", "Withdrawn")
        )
        totals = {
            "Opening Balance:": "0.00",
            "Total Paid In:": f"{paid_in:.2f}",
            "Total Withdrawn:": f"{withdrawn:.2f}",
            "Closing Balance:": f"{paid_in + withdrawn:.2f}",
        }
        head = [[row[0], totals.get(row[0], row[1])] if len(row) > 1 else row for row in self.head]
        text = io.StringIO(newline="")
        csv.writer(text).writerows([*head, self.columns, *self.rows])
        return text.getvalue().encode()


def statement(house: House, merchant: Merchant) -> Paper:
    """What the simulator exports of today, of this merchant."""
    references = {
        name
        for row in merchant.transfers()
        for name in (str(row["payment_intent_id"])[-12:].upper(), row["receipt"])
        if name
    }
    return Paper(house.daraja.statement(PAY_BILL), references)


def upload(merchant: Merchant, body: bytes, rail: str = "mpesa", **query: str) -> httpx.Response:
    """POST /recon/statements."""
    return merchant.api.post(
        "/recon/statements",
        params={"rail": rail, **query},
        content=body,
        headers={"Content-Type": "text/csv"},
    )


def pay(merchant: Merchant, *amounts: str) -> list[Json]:
    """Payments that succeeded, each with its transfer."""
    intents = [merchant.start(new_phone("00"), amount) for amount in amounts]
    for intent in intents:
        merchant.wait(intent, "succeeded")
    return [transfer(merchant, intent) for intent in intents]


def transfer(merchant: Merchant, intent_id: str) -> Json:
    """The one transfer of an intent."""
    (found,) = [row for row in merchant.transfers() if row["payment_intent_id"] == intent_id]
    return found


def kinds(merchant: Merchant) -> Counter[str]:
    """Open exceptions by kind."""
    answer = merchant.api.get("/recon/exceptions", params={"status": "open", "limit": "100"})
    return Counter(one["kind"] for one in answer.raise_for_status().json()["data"])


def make_due(house: House, merchant: Merchant, days: int = 3) -> Callable[[bytes], bytes]:
    """Bring today's payments `days` back, and what a statement says of today with them."""
    house.books.run(
        "update payments.transfers set created_at = created_at - make_interval(days => %s),"
        " settled_at = settled_at - make_interval(days => %s) where tenant_id = %s",
        days,
        days,
        merchant.tenant_id,
    )
    today, then = house.books.row(
        "select to_char(now() at time zone 'Africa/Nairobi', 'DD-MM-YYYY') as today,"
        " to_char(now() at time zone 'Africa/Nairobi' - make_interval(days => %s), 'DD-MM-YYYY')"
        " as then",
        days,
    ).values()
    return lambda body: body.replace(str(today).encode(), str(then).encode())


def test_every_payment_is_on_the_statement_and_every_line_is_a_payment(
    house: House, merchant: Merchant
) -> None:
    paid = pay(merchant, "100.00", "250.00", "1000.00")

    answer = upload(merchant, statement(house, merchant).file(), name="today.txt")

    assert answer.status_code == 201, answer.text
    body = answer.json()
    assert (body["statement"]["lines"], body["statement"]["account"]) == (3, PAY_BILL.short_code)
    (session,) = body["sessions"]
    (figures,) = session["figures"]
    assert figures["lines"] == {
        "count": 3, "matched": 3, "marked": 0, "exceptions": 0,
        "in": "1350.00", "out": "0.00", "unmatched": "0.00",
    }  # fmt: skip
    assert figures["transfers"]["matched"] == len(paid)
    assert kinds(merchant) == {}


def test_refunds_payouts_and_charges_are_on_the_statement_too(
    house: House, merchant: Merchant
) -> None:
    house.daraja.settings(payout_charge=9)
    (paid,) = pay(merchant, "1000.00")
    refund = merchant.post("/refunds", {"payment_intent": paid["payment_intent_id"]})
    destination = {"type": "mpesa", "phone": new_phone("30")}
    wanted = {"amount": "1500.00", "currency": "KES", "destination": destination}
    payout = merchant.post("/payouts", wanted)
    for kind, answer in (("refunds", refund), ("payouts", payout)):
        succeeded(merchant, kind, answer.raise_for_status().json()["id"])

    answer = upload(merchant, statement(house, merchant).file()).raise_for_status()

    (figures,) = answer.json()["sessions"][0]["figures"]
    assert (figures["transfers"]["count"], figures["transfers"]["matched"]) == (3, 3)
    assert (figures["lines"]["matched"], figures["lines"]["exceptions"]) == (3, 0)
    assert figures["lines"]["marked"] == 1  # what M-Pesa charges for the payout
    assert (figures["transfers"]["in"], figures["transfers"]["out"]) == ("1000.00", "2500.00")
    assert kinds(merchant) == {}


def succeeded(merchant: Merchant, kind: str, move_id: str) -> Json:
    """The refund or payout, once it went through."""

    def look() -> Json | None:
        found = dict(merchant.api.get(f"/{kind}/{move_id}").raise_for_status().json())
        return found if found["status"] == "succeeded" else None

    return until(look, f"{move_id} succeeded")


def test_the_same_file_again_is_harmless(house: House, merchant: Merchant) -> None:
    pay(merchant, "100.00")
    body = statement(house, merchant).file()

    first, again = upload(merchant, body), upload(merchant, body)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["statement"]["already_imported"] is True
    assert again.json()["statement"]["id"] == first.json()["statement"]["id"]
    assert again.json()["sessions"] == first.json()["sessions"]


def test_planted_breaks_give_exact_exceptions_twice_the_same(house: House) -> None:
    found = [breaks(house, house.merchant()) for _ in range(2)]

    assert found[0] == found[1] == {
        "MISSING_LINE": 1, "DUPLICATE_LINE": 1, "AMOUNT_MISMATCH": 1, "UNMATCHED_LINE": 1,
        "STATE_CONFLICT": 1,
    }  # fmt: skip


def breaks(house: House, merchant: Merchant) -> Counter[str]:
    """The exceptions of a statement with one break of each kind."""
    pay(merchant, "100.00", "200.00", "300.00", "400.00")
    # The payer cancels in our books and pays in theirs: success after a failure.
    house.daraja.settings(mode="manual")
    late = merchant.start(phone := new_phone(), "500.00")
    house.daraja.act(phone, "cancel")
    merchant.wait(late, "requires_payment_method")
    paper = statement(house, merchant)
    by_amount = {paper.cell(row, "Paid In"): row for row in paper.rows}
    reference = late[-12:].upper()
    template = by_amount["100.00"]
    paper.rows = [
        template,  # 200.00 is missing
        paper.set(by_amount["300.00"], "Paid In", "301.00"),
        by_amount["400.00"],
        by_amount["400.00"],
        paper.set(paper.set(template, FIRST_COLUMN, f"X{reference[-9:]}"), "A/C No.", "rent"),
        paper.set(
            paper.set(
                paper.set(template, FIRST_COLUMN, f"L{reference[-9:]}"), "A/C No.", reference
            ),
            "Paid In",
            "500.00",
        ),
    ]
    aged = make_due(house, merchant)
    upload(merchant, aged(paper.file())).raise_for_status()
    return kinds(merchant)


def test_a_payment_nobody_called_back_settles_through_the_statement(
    house: House, merchant: Merchant
) -> None:
    phone = new_phone("12")
    intent = merchant.start(phone, "700.00")
    row = transfer(merchant, intent)
    paper = statement_once_paid(house, merchant, 1)
    assert row["state"] == "ACCEPTED"

    upload(merchant, paper.file()).raise_for_status()

    settled = merchant.wait(intent, "succeeded")
    assert settled["latest_transfer"]["receipt"] == paper.cell(paper.rows[0], FIRST_COLUMN)
    assert kinds(merchant) == {}
    assert merchant.differences() == []


def statement_once_paid(house: House, merchant: Merchant, rows: int) -> Paper:
    """The statement, once it has so many rows."""

    def look() -> Paper | None:
        paper = statement(house, merchant)
        return paper if len(paper.rows) == rows else None

    return until(look, f"{rows} rows on the statement")


@pytest.mark.parametrize(
    ("old", "new", "kind", "line"),
    [
        ("Total Paid In:,100.00", "Total Paid In:,101.00", "TOTALS_MISMATCH", 8),
        ("Completed,100.00,", "Completed,100.00", "FILE_REJECTED", 13),
    ],
)
def test_a_bad_file_is_refused_whole_with_its_line(
    house: House, merchant: Merchant, old: str, new: str, kind: str, line: int
) -> None:
    pay(merchant, "100.00")
    body = statement(house, merchant).file().replace(old.encode(), new.encode())

    refused = upload(merchant, body)

    problem = refused.json()
    assert (refused.status_code, problem["code"]) == (422, "42270")
    assert (problem["line"], problem["kind"]) == (line, kind)
    assert problem["errors"][0]["pointer"] == f"/lines/{line}"
    imported = "select count(*) from recon.statements where tenant_id = %s"
    assert house.books.value(imported, merchant.tenant_id) == 0
    assert kinds(merchant) == {kind: 1}


def test_exceptions_are_resolved_by_people_and_written_off_by_two(
    house: House, merchant: Merchant
) -> None:
    pay(merchant, "100.00", "200.00")
    paper = statement(house, merchant)
    paper.rows = [row for row in paper.rows if paper.cell(row, "Paid In") == "100.00"]
    aged = make_due(house, merchant)
    upload(merchant, aged(paper.file())).raise_for_status()
    (missing,) = merchant.api.get("/recon/exceptions", params={"status": "open"}).json()["data"]
    first, second = (house.client(merchant.token("finance")) for _ in range(2))

    proposed = post(first, f"{missing['id']}/resolve", action="write_off", reason="never came")
    alone = post(first, f"{missing['id']}/approve", approve=True, reason="I say so")
    approved = post(second, f"{missing['id']}/approve", approve=True, reason="agreed")

    assert proposed.json()["status"] == "pending_approval"
    assert (alone.status_code, alone.json()["code"]) == (403, "40312")
    assert approved.json()["resolution"] == "write_off"
    (session,) = merchant.api.get("/recon/sessions", params={"status": "matched"}).json()["data"]
    assert session["business_date"] == missing["business_date"]


def test_an_api_key_decides_nothing(merchant: Merchant) -> None:
    refused = merchant.post(
        "/recon/exceptions/exc_01kaj3vq1nfr5r3e2n9v4d8yzx/resolve",
        {"action": "write_off", "reason": "because"},
    )

    assert refused.status_code == 403


def post(client: httpx.Client, path: str, **body: Any) -> httpx.Response:
    """POST /recon/exceptions/…."""
    headers = {"Idempotency-Key": new_key()}
    return client.post(f"/recon/exceptions/{path}", json=body, headers=headers)


def test_a_session_is_reported_as_json_csv_and_pdf(house: House, merchant: Merchant) -> None:
    pay(merchant, "100.00", "200.00")
    paper = statement(house, merchant)
    paper.rows[0] = paper.set(paper.rows[0], FIRST_COLUMN, "=CMD()")
    paper.rows[0] = paper.set(paper.rows[0], "A/C No.", "rent")
    (session,) = upload(merchant, paper.file()).raise_for_status().json()["sessions"]
    path = f"/recon/sessions/{session['id']}"

    report = merchant.api.get(f"{path}/report").json()
    table = merchant.api.get(f"{path}/report", params={"format": "csv"})
    pages = merchant.api.get(f"{path}/report", params={"format": "pdf"})

    assert report["session"] == merchant.api.get(path).json()
    assert [(one["rule"], one["lines"]) for one in report["rules"]] == [("rail_reference", 1)]
    assert [one["kind"] for one in report["exceptions"]] == ["UNMATCHED_LINE"]
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert table.headers["content-type"].startswith("text/csv")
    assert [row["receipt"] for row in rows if row["section"] == "exception"] == ["'=CMD()"]
    assert pages.content.startswith(b"%PDF-")
    assert len(pages.content) > 1500
    again = merchant.api.get(f"{path}/report", params={"format": "pdf"})
    assert again.content == pages.content


def test_a_banks_own_csv_is_read_by_a_stored_column_map(merchant: Merchant) -> None:
    columns = {
        "columns": {"date": "Day", "amount": "Amount", "reference": "Ref"},
        "currency": "KES",
        "total_marker": "SUM",
    }
    stored = merchant.api.put("/recon/column-maps/house_bank", json=columns)
    body = b"Day,Amount,Ref\n2026-11-19,10.00,B1\n2026-11-19,-4.00,B2\nSUM,6.00,\n"

    answer = upload(merchant, body, columns="house_bank")
    unknown = upload(merchant, body, columns="other_bank")
    unnamed = upload(merchant, body, format="csv")

    assert stored.status_code == 200, stored.text
    assert (answer.status_code, answer.json()["statement"]["lines"]) == (201, 2)
    assert kinds(merchant) == {"UNMATCHED_LINE": 2}
    assert (unknown.status_code, unnamed.status_code) == (404, 400)


def test_a_rail_without_rules_is_refused_by_name(merchant: Merchant) -> None:
    refused = upload(merchant, b"Day,Amount\n", rail="carrier_pigeon", format="mpesa_csv")

    assert (refused.status_code, refused.json()["code"]) == (422, "42262")
