"""Everything that is not at the authority as CSV: what a person types in by hand when all fails."""

import csv
import io
from typing import Final

from functions.authority_sync.models import Filters, Submission, SubmissionPage
from shared.db import Database
from shared.http.caller import Caller

PAGE: Final = 100
ROWS_MAX: Final = 10_000
COLUMNS: Final = tuple(
    name for name in Submission.model_fields if name not in ("object", "next_attempt_at")
)


async def export_csv(db: Database, filters: Filters, caller: Caller) -> str:
    """The rows as text, oldest first, at most ROWS_MAX: `cursor` goes on after the last `id`."""
    text = io.StringIO()
    out = csv.writer(text)
    out.writerow(COLUMNS)
    written, at = 0, filters.cursor
    while written < ROWS_MAX:
        page_of = filters.model_copy(update={"limit": PAGE, "cursor": at})
        answer = await db.answer("sync.list_open", page_of.arguments(), caller, idempotent=True)
        page = SubmissionPage.model_validate_json(answer.body)
        for row in page.data:
            facts = row.model_dump(mode="json")
            out.writerow([_plain(facts[name]) for name in COLUMNS])
        written += len(page.data)
        if page.pagination.next_cursor is None:
            break
        at = int(page.pagination.next_cursor)
    return text.getvalue()


def _plain(value: object) -> object:
    """No cell is a formula when a spreadsheet opens the file: an authority's text could be one."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
