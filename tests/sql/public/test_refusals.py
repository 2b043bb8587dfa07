"""Refusals: the shape that crosses the Data API, and the catalogue they come from."""

import csv
import io
import re
from pathlib import Path

import pytest

from shared.fiscal.document import refusal as sentence
from tests.sql.public.house import House

ROOT = Path(__file__).parents[3]
SQL = {path: path.read_text() for path in sorted((ROOT / "sql").rglob("*.sql"))}
CATALOGUE = {
    row["code"]: row
    for row in csv.DictReader(io.StringIO((ROOT / "shared/public.error_codes.csv").read_text()))
}
RAISED = re.compile(r"refuse(?:_field)?\(\s*'(\d{5})'")
DEFINED = re.compile(r"function public\.refuse(?:_field|_too_many)?\(|on function public\.refuse")


def test_a_refusal_carries_code_status_message_and_extras(house: House) -> None:
    refusal = house.refused(
        lambda: house.run(
            """select public.refuse('40911', 'No.', '{"current_state": "succeeded"}')"""
        )
    )

    assert (refusal.code, refusal.status, str(refusal)) == ("40911", 409, "No.")
    assert refusal.extras == {"current_state": "succeeded"}


def test_a_message_stays_on_its_line_whatever_a_caller_wrote_into_it(house: House) -> None:
    refusal = house.refused(
        lambda: house.run(r"select public.refuse('40401', E'There is no a\r\nX-Evil: b\t here.')")
    )

    assert str(refusal) == "There is no a X-Evil: b  here."


def test_a_field_is_named_by_its_pointer(house: House) -> None:
    refusal = house.refused(
        lambda: house.run("select public.refuse_field('42262', '/name', 'Too long.')")
    )

    assert refusal.extras == {"errors": [{"pointer": "/name", "detail": "Too long."}]}


@pytest.mark.parametrize(
    "pointer",
    ["/items/0/quantity", "/items/11/specific_tax/amount", "/items", "/totals/total", "/items/x"],
)
def test_the_sentence_for_a_field_of_an_invoice_is_pythons(house: House, pointer: str) -> None:
    refusal = house.refused(
        lambda: house.run("select public.refuse_field('42275', %s, 'is wrong')", pointer)
    )

    assert str(refusal) == sentence(pointer, "is wrong")
    assert refusal.extras == {"errors": [{"pointer": pointer, "detail": "is wrong"}]}


def test_every_code_that_sql_raises_is_in_the_catalogue() -> None:
    raised = {code for text in SQL.values() for code in RAISED.findall(text)}

    assert len(raised) > 10
    assert raised <= set(CATALOGUE)


def test_every_refusal_names_its_code_where_it_is_made() -> None:
    # A code in a variable would escape the comparison above. The helpers pass theirs on.
    literal = re.compile(r"refuse(_field)?\(\s*('\d{5}'|refuse_field\.code)")
    calls = re.compile(r"public\.refuse(_field)?\(")

    unclear = [
        f"{path.name}: {text[found.start() : found.start() + 60]}"
        for path, text in SQL.items()
        for found in calls.finditer(text)
        if not literal.match(text, found.start() + len("public."))
        and not DEFINED.search(text, max(0, found.start() - 12), found.end())
    ]

    assert unclear == []


def test_the_first_three_digits_of_a_code_are_its_status() -> None:
    assert {code for code, row in CATALOGUE.items() if code[:3] != row["status"]} == set()


def test_the_database_holds_the_catalogue(house: House) -> None:
    stored = {
        row["code"]: row["name"] for row in house.run("select code, name from public.error_codes")
    }

    assert stored == {code: row["name"] for code, row in CATALOGUE.items()}
