"""A document that nobody could sign at once: shown to whoever had it numbered, and nobody else."""

import pytest

from tests.sql.reports.till import Till
from tests.support.sql import Api, Books, Refused


def test_numbered_document_is_its_callers_alone(till: Till, api: Api, books: Books) -> None:
    number = till.seal()["fiscal_number"]
    stranger = Till(api, books).open()

    with pytest.raises(Refused) as refused:
        stranger.ask("fiscal.numbered_invoice", "fn_invoices", fiscal_number=number)

    assert refused.value.code == "40401"
