"""A shop whose rail reports deposits to it."""

import json
from typing import Any

from tests.sql.payments.shop import Answer, Shop, new_key
from tests.support.sql import Books, Headers, Row, digest


class Till:
    """A shop whose rail reports deposits to it."""

    def __init__(self, shop: Shop, books: Books) -> None:
        self.shop, self.books = shop, books
        self.token = f"deposits-{shop.tenant_id}"
        shop.api.call(
            "fn_transfers",
            shop.headers,
            "rails.open_deposits",
            rail="mpesa",
            token_hash=digest(self.token),
        )

    def confirm(
        self, receipt: str, reference: str, amount_minor: int = 10_000, **changes: Any
    ) -> Row:
        """POST …/c2b/{token}/confirmation: {disposition, reason}."""
        deposit = {
            "receipt": receipt,
            "amount_minor": amount_minor,
            "currency": "KES",
            "paid_to": "600123",
            "account_reference": reference,
            "payer_masked": "2547 ***** 126",
        }
        arguments: Row = {
            "rail": "mpesa",
            "token_hash": digest(self.token),
            "source_address": "196.201.212.69",
            "source_trusted": True,
            "headers": {},
            "body_sealed": "sealed",
            "body_hash": digest(json.dumps(deposit)),
            "deposit": deposit,
            "problem": None,
        }
        return dict(
            self.shop.api.call(
                "fn_momo_callback", {}, "rails.receive_deposit", **arguments | changes
            )
        )

    def deposits(self) -> list[Row]:
        return self.books.rows(
            "select * from payments.transfers where tenant_id = %s and purpose = 'c2b'"
            " order by created_at",
            self.shop.tenant_id,
        )

    def assign(self, transfer_id: str, intent_id: str, who: Headers | None = None) -> Answer:
        """POST /transfers/{id}/assign."""
        return Answer.of(
            self.shop.api.call(
                "fn_transfers",
                who or self.shop.headers,
                "payments.assign_deposit",
                transfer_id=transfer_id,
                idempotency_key=new_key(),
                body_hash="body",
                payment_intent_id=intent_id,
                reason="the payer called",
            )
        )

    def accept(self, callback_id: int) -> Answer:
        """POST /reconcile/parked/{id}/accept."""
        return Answer.of(
            self.shop.api.call(
                "fn_reconcile",
                self.shop.headers,
                "rails.accept_deposit",
                callback_id=callback_id,
                idempotency_key=new_key(),
                body_hash="body",
                reason="line 12 of the statement",
            )
        )
