"""Issues the invoices that payments asked for, once the money is there."""

import asyncio
from typing import Any, Final

from functions.invoices.sealing import Sealer
from shared import log
from shared.clock import utc_now
from shared.db import Database
from shared.errors import Conflict, Missing, Unprocessable
from shared.fiscal.document import Order, Payment
from shared.fiscal.ordering import invoice_of
from shared.http.caller import Caller

BATCH: Final = 20


class Issuer:
    """Lives as long as the app; holds no state of a request."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database, self._sealer = database, sealer

    async def take(self, caller: Caller) -> int:
        """Issue a batch; how many orders there were. What fails for now is tried again."""
        works = await self._database.call("fiscal.take_orders", {"max_rows": BATCH}, caller)
        ends = await asyncio.gather(
            *(self._issue(work, caller) for work in works), return_exceptions=True
        )
        for failed in filter(None, ends):
            raise failed  # what was not answered for is leased again
        return len(works)

    async def _issue(self, work: dict[str, Any], caller: Caller) -> None:
        order = {"order_id": work["order_id"], "outbox_id": work["outbox_id"]}
        try:
            document = invoice_of(
                Order.model_validate(work["document"]),
                [Payment.model_validate(payment) for payment in work["payments"]],
                utc_now(),
            )
            await self._sealer.issue(order, document, caller)
        except (Conflict, Missing, Unprocessable) as refused:
            # The rules say no, and will again: people must know. The money stays where it is.
            log.warning("invoice_not_issued", reason=refused.code, order_id=work["order_id"])
            error = {"code": refused.code, "message": refused.message, "errors": refused.errors}
            await self._database.call(
                "fiscal.fail_order", order | {"error": error}, caller, idempotent=True
            )
