"""shared/ids.py: the form of ids."""

import re

import pytest

from shared.errors import NotFound
from shared.ids import is_id, new_id, pattern, require_id, uuid7

GOOD = "pi_01jd2y5x7hf6t8m3q0v9r4k2wz"


def test_id_of_the_right_form_is_accepted() -> None:
    assert require_id("pi", GOOD) == GOOD
    assert re.fullmatch(pattern("pi"), GOOD)


@pytest.mark.parametrize(
    "value",
    [
        "tr_01jd2y5x7hf6t8m3q0v9r4k2wz",
        "01jd2y5x7hf6t8m3q0v9r4k2wz",
        "pi_01jd2y5x7hf6t8m3q0v9r4k2w",
        "pi_01jd2y5x7hf6t8m3q0v9r4k2wzz",
        "pi_81jd2y5x7hf6t8m3q0v9r4k2wz",
        "pi_01JD2Y5X7HF6T8M3Q0V9R4K2WZ",
        "pi_01jd2y5x7hf6t8m3q0v9r4k2wu",
        "pi_01jd2y5x7hf6t8m3q0v9r4k2wz\n",
        "pi_' or 1=1 --",
        "",
    ],
)
def test_id_that_cannot_exist_is_not_found(value: str) -> None:
    with pytest.raises(NotFound):
        require_id("pi", value)


def test_new_ids_have_the_form_and_differ() -> None:
    first, second = new_id("req"), new_id("req")

    assert is_id("req", first)
    assert first != second


def test_uuid7_carries_the_time_the_version_and_the_variant() -> None:
    value = uuid7(0x0192F0C1A2B3, b"\xff" * 10)

    assert f"{value:032x}" == "0192f0c1a2b37fffbfffffffffffffff"


def test_a_later_id_sorts_after_an_earlier_one() -> None:
    assert uuid7(1, b"\xff" * 10) < uuid7(2, b"\0" * 10)
