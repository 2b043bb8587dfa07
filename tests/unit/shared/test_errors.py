"""shared/errors.py: the tree, its catalogue, and what SQL refuses."""

import csv
from pathlib import Path

import pytest

from shared import errors
from shared.errors import BY_CODE, InternalError, StalelaError, error_from_sql

CATALOGUE = Path(errors.__file__).with_name("public.error_codes.csv")


def catalogue() -> list[dict[str, str]]:
    with CATALOGUE.open(newline="") as rows:
        return list(csv.DictReader(rows))


def _subclasses(kind: type[StalelaError]) -> list[type[StalelaError]]:
    return [each for sub in kind.__subclasses__() for each in (sub, *_subclasses(sub))]


def test_catalogue_and_classes_say_the_same() -> None:
    written = [
        (row["code"], row["name"], row["status"], row["title"], row["retryable"])
        for row in catalogue()
    ]

    coded = sorted(
        (kind.code, kind.__name__, str(kind.status), kind.title, str(kind.retryable).lower())
        for kind in BY_CODE.values()
    )

    assert written == coded


def test_every_code_starts_with_its_status_and_has_a_remedy() -> None:
    assert all(row["code"].startswith(row["status"]) for row in catalogue())
    assert all(row["remedy"].endswith(".") for row in catalogue())


def test_every_class_with_a_code_is_drawn_in_the_docstring() -> None:
    drawn = set((errors.__doc__ or "").split())

    assert {kind.__name__ for kind in _subclasses(StalelaError)} <= drawn


def test_every_class_is_reachable_by_its_code_once() -> None:
    coded = [kind for kind in _subclasses(StalelaError) if "code" in kind.__dict__]

    assert sorted(BY_CODE) == sorted(kind.code for kind in coded)


def test_sql_refusal_becomes_the_class_of_its_code() -> None:
    error = error_from_sql(
        "40911",
        "a succeeded intent cannot be canceled",
        '{"current_state": "succeeded", "allowed": [], "retry_after": 7,'
        ' "errors": [{"pointer": "/status", "detail": "is succeeded"}]}',
    )

    assert type(error) is errors.InvalidTransition
    assert error.message == "a succeeded intent cannot be canceled"
    assert error.errors == ({"pointer": "/status", "detail": "is succeeded"},)
    assert error.retry_after == 7
    assert error.extras == {"current_state": "succeeded", "allowed": []}


@pytest.mark.parametrize("hint", [None, "", "{}", {}])
def test_sql_refusal_without_extras_has_none(hint: str | dict[str, str] | None) -> None:
    error = error_from_sql("40401", "there is no such intent", hint)

    assert (error.errors, error.retry_after, error.extras) == ((), None, {})


@pytest.mark.parametrize("hint", ["try again", "[1]", '"text"', '{"retry_after": "soon"}'])
def test_sql_refusal_with_a_hint_that_is_no_extras_keeps_its_code(hint: str) -> None:
    error = error_from_sql("40911", "no", hint)

    assert (error.code, error.extras, error.retry_after) == ("40911", {}, None)


@pytest.mark.parametrize("detail", [None, "", "49999", "Key (phone)=(254712345678) exists"])
def test_code_outside_the_catalogue_is_our_defect_and_its_text_is_not_shown(
    detail: str | None,
) -> None:
    error = error_from_sql(detail, "Key (phone)=(254712345678) exists", None)

    assert type(error) is InternalError
    assert "254712345678" not in str(error)
