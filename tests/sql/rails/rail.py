"""The rail's side: what it calls back, and what it answers when the reconciler asks."""

import json
from dataclasses import dataclass
from typing import Any

from tests.sql.payments.shop import Answer, Attempt, Shop, new_key
from tests.support.sql import Api, Row, digest


@dataclass(frozen=True)
class Rail:
    """The rail's side, and what cron and the reconciler do about it."""

    api: Api

    def call_back(self, attempt: Attempt, event: Row, **changes: Any) -> Row:
        """POST /momo-callback/{token}: {disposition, reason, transfer_id}."""
        arguments: Row = {
            "rail": "mpesa",
            "token_hash": digest(attempt.token),
            "source_address": "196.201.212.69",
            "source_trusted": True,
            "headers": {},
            "body_sealed": "sealed",
            "body_hash": digest(json.dumps(event, sort_keys=True)),
            "events": [event],
            "problem": None,
        }
        return dict(
            self.api.call("fn_momo_callback", {}, "rails.receive_callback", **arguments | changes)
        )

    def answer_query(self, attempt: Attempt, event: Row) -> Answer:
        """The reconciler asked and heard `event`."""
        return Answer.of(
            self.api.call(
                "fn_reconcile",
                {},
                "payments.record_query",
                transfer_id=attempt.transfer_id,
                event=event,
            )
        )

    def claim(self, max_rows: int = 100) -> list[Row]:
        """What the reconciler is to ask now."""
        return self.api.call_set("fn_reconcile", {}, "rails.claim_queries", max_rows=max_rows)

    def decide(
        self, shop: Shop, attempt: Attempt, outcome: str, receipt: str | None, **more: Any
    ) -> Answer:
        """POST /reconcile/reviews/{id}/resolve, by somebody of the shop who may."""
        return Answer.of(
            self.api.call(
                "fn_reconcile",
                shop.headers,
                "rails.resolve_review",
                transfer_id=attempt.transfer_id,
                idempotency_key=new_key(),
                body_hash="body",
                outcome=outcome,
                receipt=receipt,
                reason="read the statement",
                **more,
            )
        )
