"""What does not depend on how busy the machine is: bytes of log, pages looked at."""

from collections.abc import Iterator

import pytest

from scripts.benchmarks.lists import QUESTIONS, Question, Shelf, shelf
from scripts.benchmarks.place import Place
from scripts.benchmarks.transactions import Statements, measure_wal, prepare
from scripts.stack.database import Databases

INTENTS = 30_000
PAGES = 250  # of 8 kB; about 150 suffice, and a question that lost its index takes more than 300
WAL_BYTES = 3600  # about 330 of them are the outbox row for the webhooks


@pytest.fixture(scope="module")
def full(place: Place) -> Iterator[Shelf]:
    with shelf(Databases(place.stack.cluster), place.stack.keys, INTENTS) as loaded:
        yield loaded


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_question_looks_at_few_pages_of_many(question: Question, full: Shelf) -> None:
    assert full.buffers(question) < PAGES


def test_create_writes_a_short_log(place: Place) -> None:
    prepare(place)

    wal = measure_wal(place, Statements(place.shops), transactions=300)

    assert wal.size < WAL_BYTES
