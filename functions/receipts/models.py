"""The wire shapes of /receipts."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field

SIGNED_BODY: Final[dict[str, Any]] = {
    "description": "An event about a mail, as the provider signed it.",
    "content": {
        "application/json": {
            "schema": {"type": "object"},
            "example": {
                "type": "email.delivered",
                "created_at": "2026-11-21T08:00:02.000Z",
                "data": {
                    "email_id": "56761188-7520-42d8-8898-ff6fc54ce618",
                    "created_at": "2026-11-21T08:00:01.000Z",
                    "from": "Stalela <receipts@stalela.example>",
                    "to": ["wanjiru@mail.example"],
                    "subject": "Receipt for KES 100.00 to Acacia Books",
                },
            },
        }
    },
}

_SMS = (
    "Acacia Books: KES 100.00 received by M-Pesa, receipt UKL5K3VX1N, 21/11/2026 11:00."
    " Ref 8MNP5SYE2S6K"
)


class Drained(BaseModel):
    """How much was done: events turned into receipts, and mails tried."""

    done: Annotated[int, Field(examples=[3])]


class Noted(BaseModel):
    """What came of the event: `duplicate`, `noted`, or the state its mail has now."""

    outcome: Annotated[str, Field(examples=["delivered"])]


class Mail(BaseModel):
    """One mail and what became of it."""

    id: Annotated[str, Field(examples=["msg_01kaj3w8q2fk7r5c9v4d8yzx1n"])]
    object: Literal["message"]
    language: Literal["en", "fr", "sw"]
    to: Annotated[str, Field(examples=["w***@mail.example"])]
    status: Literal[
        "queued", "sent", "delayed", "delivered", "failed", "suppressed", "bounced", "complained",
        "expired", "kept", "unknown",
    ]  # fmt: skip
    attempts: Annotated[int, Field(examples=[1])]
    last_error: Annotated[str | None, Field(examples=["rate_limit_exceeded"])]
    environment: Literal["sandbox", "production"]
    created_at: datetime
    updated_at: datetime


class Receipt(Mail):
    """One mail about a payment. `sms_text` says the same in 160 characters, to send yourself."""

    kind: Literal["receipt", "refund_receipt"]
    payment_intent_id: Annotated[str, Field(examples=["pi_01kaj3v7wvf4fr8mnp5sye2s6k"])]
    sms_text: Annotated[str | None, Field(examples=[_SMS])]


class Receipts(BaseModel):
    """Oldest first."""

    data: list[Receipt]


class DocumentMail(Mail):
    """One mail about a fiscal document."""

    kind: Literal["document"]
    invoice_id: Annotated[str, Field(examples=["inv_01kaj3vq1nfr5r3e2n9v4d8yzx"])]
    sms_text: None


class DocumentMails(BaseModel):
    """Oldest first."""

    data: list[DocumentMail]


class RevokedLinks(BaseModel):
    """How many links ended."""

    revoked: Annotated[int, Field(examples=[1])]
