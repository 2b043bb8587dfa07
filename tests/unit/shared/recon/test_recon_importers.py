"""shared/recon: every format is read to its end and adds up, or is refused with the line."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from shared.recon import camt053, generic_csv, mpesa_csv, mt940
from shared.recon.base import Direction, LineType, Refusal, StatementFile, StatementRefused
from shared.recon.generic_csv import ColumnMap, Columns
from shared.recon.read import Format, read_statement

FIXTURES = Path(__file__).parents[3] / "fixtures"
MPESA = (FIXTURES / "rails/mpesa_statement.csv").read_bytes()
CAMT = (FIXTURES / "recon/camt053.xml").read_bytes()
MT940 = (FIXTURES / "recon/mt940.sta").read_bytes()
BANK = b"""Bank of Invention
Value date;Bank reference;Narrative;Credit;Debit;Phone
20.11.2026;B1;order 1;1.500,00;;254712345678
20.11.2026;B2;charge;;25,50;
TOTAL;;;1.500,00;25,50;
"""
BANK_MAP = ColumnMap(
    columns=Columns(
        date="Value date",
        credit="Credit",
        debit="Debit",
        reference="Bank reference",
        our_reference="Narrative",
        phone="Phone",
        type="Narrative",
    ),
    currency="KES",
    delimiter=";",
    decimal_mark=",",
    date_format="%d.%m.%Y",
    time_zone="Africa/Nairobi",
    skip_lines=1,
    total_marker="TOTAL",
    types={"charge": "fee"},
)
READ: dict[str, tuple[bytes, Callable[[bytes], StatementFile]]] = {
    "mpesa_csv": (MPESA, mpesa_csv.read),
    "camt053": (CAMT, camt053.read),
    "mt940": (MT940, mt940.read),
    "csv": (BANK, lambda body: generic_csv.read(body, BANK_MAP)),
}


def refusal(name: str, body: bytes) -> StatementRefused:
    with pytest.raises(StatementRefused) as refused:
        READ[name][1](body)
    return refused.value


def changed(body: bytes, old: str, new: str) -> bytes:
    """`body` with one change; the test is wrong when there is nothing to change."""
    assert old.encode() in body
    return body.replace(old.encode(), new.encode(), 1)


# What is read


def test_mpesa_statement_is_read_with_every_kind_of_line() -> None:
    file = mpesa_csv.read(MPESA)

    assert (file.account, file.period_from, file.period_to) == (
        "600174",
        date(2026, 11, 20),
        date(2026, 11, 20),
    )
    assert file.totals() == {"KES": {"in": 1_375_000, "out": 5_400_900}}
    assert [(line.type, line.external_ref) for line in file.lines] == [
        (LineType.INTERNAL, "UKL6R8S9T1"),
        (LineType.PAYMENT, "UKL5N5P6Q7"),
        (LineType.RETURN, "UKL4K2L3M4"),
        (LineType.FEE, "UKL3G8H9J1"),
        (LineType.PAYMENT, "UKL3G8H9J1"),
        (LineType.PAYMENT, "UKL2D5E6F7"),
        (LineType.PAYMENT, "UKL1A2B3C4"),
    ]


def test_mpesa_references_are_taken_from_their_columns_and_details() -> None:
    by_number = {line.number: line for line in mpesa_csv.read(MPESA).lines}

    assert by_number[14].our_ref == "INV-20419"
    assert by_number[15].linked_ref == "UKL1A2B3C4"
    assert by_number[17].acq_ref == "AG_20261120_00004e52a1b3c7d90f12"
    assert by_number[17].direction is Direction.OUT
    assert by_number[19].occurred_at is not None
    assert by_number[19].occurred_at.isoformat() == "2026-11-20T08:15:12+03:00"


def test_mpesa_phone_counts_only_when_it_is_whole() -> None:
    whole = mpesa_csv.read(changed(MPESA, "2547****111 - WANJIKU KAMAU,,INV", "254712345678,,INV"))

    assert [line.party for line in whole.lines if line.party] == ["+254712345678"]


def test_mpesa_line_that_was_not_completed_moved_nothing() -> None:
    pending = MPESA.replace(b"Completed,,-50000.00", b"Declined,,-50000.00")
    pending = changed(pending, "Total Withdrawn:,-54009.00", "Total Withdrawn:,-4009.00")
    pending = changed(pending, "Closing Balance:,59741.00", "Closing Balance:,109741.00")

    (first, *_) = mpesa_csv.read(pending).lines

    assert (first.type, first.amount.minor) == (LineType.VOID, 0)


def test_camt_entries_and_their_details_are_lines() -> None:
    file = camt053.read(CAMT)

    assert [(line.type, line.external_ref, line.amount.wire()) for line in file.lines] == [
        (LineType.PAYMENT, "BK001", "1500.00"),
        (LineType.PAYMENT, "BK002A", "1200.00"),
        (LineType.PAYMENT, "BK002B", "800.00"),
        (LineType.RETURN, "BK003", "850.00"),
        (LineType.VOID, "BK004", "0.00"),
    ]
    assert [line.our_ref for line in file.lines[:3]] == [
        "tn_x:tr_01kaj3vq1nfr5r3e2n9v4d8yzx",
        None,
        "ORDER-8",
    ]
    assert file.lines[1].batch_ref == "RUN-7"


def test_mt940_entries_are_lines_and_balances_are_checked() -> None:
    file = mt940.read(MT940)

    assert (file.period_from, file.period_to) == (date(2026, 11, 20), date(2026, 11, 20))
    assert [(line.number, line.type, line.direction, line.our_ref) for line in file.lines] == [
        (5, LineType.PAYMENT, Direction.IN, "tr_01kaj3vq1nfr"),
        (7, LineType.FEE, Direction.OUT, None),
        (9, LineType.RETURN, Direction.OUT, "ORDER-8"),
    ]


def test_generic_csv_is_read_as_its_owner_says() -> None:
    credit, charge = generic_csv.read(BANK, BANK_MAP).lines

    assert (credit.amount.wire(), credit.direction, credit.party) == (
        "1500.00",
        Direction.IN,
        "+254712345678",
    )
    assert (charge.amount.wire(), charge.type) == ("25.50", LineType.FEE)


@pytest.mark.parametrize("format_", [Format.MPESA_CSV, Format.CAMT053, Format.MT940, Format.CSV])
def test_every_format_is_found_by_its_name(format_: Format) -> None:
    body, _ = READ[format_]

    assert read_statement(format_, body, BANK_MAP).format == format_


@pytest.mark.parametrize("name", READ)
def test_line_hashes_are_the_same_in_every_reading_and_differ_within_a_file(name: str) -> None:
    body, read = READ[name]

    first, again = list(read(body).hashes()), list(read(body).hashes())

    assert first == again
    assert len(set(first)) == len(first)


def test_copies_of_a_line_have_hashes_of_their_own() -> None:
    twice = BANK.replace(
        b"20.11.2026;B2", b"20.11.2026;B1;order 1;1.500,00;;254712345678\n20.11.2026;B2"
    ).replace(b"TOTAL;;;1.500", b"TOTAL;;;3.000")

    hashes = list(generic_csv.read(twice, BANK_MAP).hashes())

    assert len(set(hashes)) == 3


# What is refused, with its line


@pytest.mark.parametrize(
    ("name", "old", "new", "line"),
    [
        ("mpesa_csv", "Total Paid In:,13750.00", "Total Paid In:,13749.00", 8),
        ("mpesa_csv", "Total Withdrawn:,-54009.00", "Total Withdrawn:,-54008.00", 9),
        ("mpesa_csv", "Closing Balance:,59741.00", "Closing Balance:,59742.00", 10),
        ("mpesa_csv", "Completed,250.00", "Completed,251.00", 8),
        ("camt053", "<Sum>3500.00", "<Sum>3500.01", 12),
        ("camt053", '"KES">3650.00', '"KES">3650.50', 10),
        ("camt053", '"KES">800.00', '"KES">801.00', 20),
        ("mt940", ":62F:C261120KES1400,00", ":62F:C261120KES1400,01", 11),
        ("mt940", "C1500,00NTRF", "C1501,00NTRF", 11),
        ("csv", "TOTAL;;;1.500,00", "TOTAL;;;1.500,01", 5),
    ],
)
def test_wrong_totals_refuse_the_whole_file(name: str, old: str, new: str, line: int) -> None:
    refused = refusal(name, changed(READ[name][0], old, new))

    assert (refused.kind, refused.line) == (Refusal.TOTALS_MISMATCH, line)


@pytest.mark.parametrize(
    ("name", "old", "new", "line"),
    [
        ("mpesa_csv", "UKL2D5E6F7,20-11-2026 09:02:40", "UKL2D5E6F7,20-11-2026", 18),
        ("mpesa_csv", "Completed,12000.00,,", "Completed,,,", 18),
        ("mpesa_csv", "Completed,12000.00", "Completed,12000.001", 18),
        ("mpesa_csv", "UKL2D5E6F7,20", ",20", 18),
        ("mpesa_csv", "Paid In,", "Paid,", 12),
        ("mpesa_csv", "Currency:,KES", "Currency:,XXX", 5),
        ("mpesa_csv", "Time Period:,From", "Time Period:,Since", 6),
        ("camt053", "<CdtDbtInd>DBIT", "<CdtDbtInd>DBITS", 29),
        ("camt053", '<Amt Ccy="KES">850.00', '<Amt Ccy="KES">-850.00x', 30),
        ("camt053", "camt.053.001.08", "pain.001.001.03", 1),
        ("mt940", ":61:2611201120D250,00", ":61:2611201120X250,00", 7),
        ("csv", "20.11.2026;B2", "2026-11-20;B2", 4),
        ("csv", "25,50;\n", "25,50\n", 4),
        ("csv", ";25,50;", ";;", 4),
        ("csv", "TOTAL;;;1.500,00;25,50;\n", "", 4),
    ],
)
def test_a_line_that_cannot_be_read_refuses_the_whole_file(
    name: str, old: str, new: str, line: int
) -> None:
    refused = refusal(name, changed(READ[name][0], old, new))

    assert (refused.kind, refused.line) == (Refusal.FILE_REJECTED, line)


def what_is_left(name: str, cut: int) -> dict[str, dict[str, int]] | str:
    """The totals of a file cut there, or `refused`."""
    body, read = READ[name]
    try:
        return read(body[:cut]).totals()
    except StatementRefused:
        return "refused"


@pytest.mark.parametrize("name", READ)
def test_a_file_that_is_cut_off_anywhere_never_says_other_money(name: str) -> None:
    body, read = READ[name]

    left = [what_is_left(name, cut) for cut in range(1, len(body.rstrip()), 3)]

    # Only what carries no money may be lost unseen: the end of the last reference.
    assert [one for one in left if one not in ("refused", read(body).totals())] == []
    assert left.count("refused") > 0.97 * len(left)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe\x00", b"\x00", b"hello\n", b"\n" * 100, b'"', b"<a>" * 1000]
)
def test_what_is_no_statement_is_refused(name: str, body: bytes) -> None:
    assert refusal(name, body).line >= 1


def test_entities_and_document_types_are_refused() -> None:
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>'

    assert refusal("camt053", bomb).reason == "declares a document type or entities"


def test_a_path_is_text_and_no_file_is_opened() -> None:
    assert refusal("mt940", str(FIXTURES / "recon/mt940.sta").encode()).line == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"date": "Date", "amount": "Amount", "credit": "Credit", "debit": "Debit"},
        {"date": "Date", "credit": "Credit"},
        {"date": "Date"},
    ],
)
def test_a_column_map_says_amount_one_way(columns: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either amount, or credit and debit"):
        Columns(**columns)


@pytest.mark.parametrize("form", ["%Y %Y", "%d %", "%H:%M", "%Q", "20%y-%m", "%d.%m"])
def test_a_date_format_tells_day_month_and_year(form: str) -> None:
    with pytest.raises(ValueError, match="must tell day, month and year"):
        ColumnMap(columns=BANK_MAP.columns, currency="KES", date_format=form)


def test_a_statement_of_years_is_refused() -> None:
    ages = changed(MPESA, "From 20-11-2026 00:00:00", "From 20-11-1926 00:00:00")

    assert refusal("mpesa_csv", ages).reason == "covers more than 100 days: export it in parts"
