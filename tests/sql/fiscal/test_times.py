"""When a document was authored: not ahead of us, and not long before it is sealed."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from tests.sql.reports.till import Till
from tests.support.sql import Books, Refused


def at(**ago: float) -> str:
    """A time so long ago, as documents write it. Not for parameters: workers collect apart."""
    return f"{datetime.now(UTC) - timedelta(**ago):%Y-%m-%dT%H:%M:%SZ}"


@pytest.fixture
def a_week(books: Books) -> Iterator[None]:
    """No document may be older."""
    change = "update public.settings set value = %s::jsonb where key = 'fiscal.document_max_age_s'"
    kept = books.value("select public.setting('fiscal.document_max_age_s')::text")
    books.run(change, "604800")
    yield
    books.run(change, kept)


@pytest.mark.parametrize("ago", [{"minutes": -4}, {"hours": 71}, {"days": 300}], ids=str)
def test_document_may_be_late(till: Till, ago: dict[str, float]) -> None:
    timestamp = at(**ago)

    sealed = till.seal(till.document(timestamp=timestamp))

    assert sealed["document"]["timestamp"] == timestamp


@pytest.mark.usefixtures("a_week")
@pytest.mark.parametrize("ago", [{"days": 7, "minutes": 1}, {"days": 200}], ids=str)
def test_document_from_long_ago_takes_no_number(till: Till, ago: dict[str, float]) -> None:
    timestamp = at(**ago)

    with pytest.raises(Refused, match="before the document is sealed: send the time of s") as late:
        till.seal(till.document(timestamp=timestamp))

    assert late.value.code == "42275"
    assert late.value.message.startswith("timestamp: is more than 168 hours ")
    assert late.value.extras["errors"][0]["pointer"] == "/timestamp"
    assert till.seal()["sequence"] == 1


@pytest.mark.usefixtures("a_week")
def test_what_a_terminal_sealed_goes_by_its_own_time(till: Till) -> None:
    """A terminal that comes back after a month: its documents were new when it sealed them."""
    check = (
        "select fiscal.check_sealable(%s, o, m, %s) from fiscal.outlets as o"
        " inner join fiscal.merchants as m on m.merchant_id = o.merchant_id where o.outlet_id = %s"
    )
    words = till.document(timestamp=at(days=30)).model_dump_json(exclude_none=True)

    till.books.run(check, words, datetime.now(UTC) - timedelta(days=30), till.outlet_id)

    with pytest.raises(Exception, match="timestamp: is more than 168 hours"):
        till.books.run(check, words, datetime.now(UTC) - timedelta(days=20), till.outlet_id)
