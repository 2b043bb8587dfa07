"""One payment of the API page: KES 100.00 by M-Pesa, from creation to the receipt."""

from typing import Any, Final

INTENT_ID: Final = "pi_01kaj3v7wvf4fr8mnp5sye2s6k"
_TRANSFER_ID: Final = "tr_01kaj3vq1nfr5r3e2n9v4d8yzx"
_PAYER: Final = "+2547******78"
_TRANSFER: Final = {
    "id": _TRANSFER_ID,
    "rail": "mpesa",
    "state": "ACCEPTED",
    "payer": _PAYER,
    "receipt": None,
    "needs_review": False,
    "late": False,
}

CREATED: Final[dict[str, Any]] = {
    "id": INTENT_ID,
    "object": "payment_intent",
    "status": "requires_payment_method",
    "amount": "100.00",
    "currency": "KES",
    "amount_received": "0.00",
    "amount_refunded": "0.00",
    "account_reference": INTENT_ID[-12:].upper(),
    "payment_method_types": ["mpesa"],
    "description": "Order 20418",
    "customer": {"reference": "C-77", "name": "W*** K***", "email": "w***@mail.example"},
    "metadata": {"order": "20418"},
    "return_url": "https://shop.example/thanks",
    "client_secret": "pics_5dbd4d2389d0abf7b6097930cbd2c0f1bb2cb13462e5a65d1c3a49ad0db632e2",
    "last_error": None,
    "next_action": None,
    "latest_transfer": None,
    "environment": "sandbox",
    "cancellation_reason": None,
    "created_at": "2026-11-21T08:00:00.123456+00:00",
    "expires_at": "2026-11-22T08:00:00.123456+00:00",
    "canceled_at": None,
    "invoice": None,
}
PROCESSING: Final = CREATED | {
    "status": "processing",
    "next_action": {
        "type": "approve_on_phone",
        "rail": "mpesa",
        "phone": _PAYER,
        "expires_at": "2026-11-21T08:01:45.566301+00:00",
    },
    "latest_transfer": _TRANSFER,
}
SUCCEEDED: Final = CREATED | {
    "status": "succeeded",
    "amount_received": "100.00",
    "latest_transfer": _TRANSFER | {"state": "SETTLED", "receipt": "UKL5K3VX1N"},
}
CANCELED: Final = CREATED | {
    "status": "canceled",
    "last_error": {
        "code": "MM_USER_CANCELLED",
        "message": "The payer cancelled the prompt",
        "rail_code": "1032",
        "retryable": True,
        "retry_after": None,
    },
    "latest_transfer": _TRANSFER | {"state": "FAILED"},
    "cancellation_reason": "requested_by_customer",
    "canceled_at": "2026-11-21T08:03:00.706006+00:00",
}
TIMELINE: Final[dict[str, Any]] = {
    "data": [
        {
            "id": "evt_01kaj3v7wvf4fr8mnp5sye2s6m",
            "position": 1041,
            "type": "payment_intent.created",
            "subject": INTENT_ID,
            "seq": 0,
            "data": {"amount": "100.00", "currency": "KES", "status": "requires_payment_method"},
            "occurred_at": "2026-11-21T08:00:00.123456+00:00",
        },
        {
            "id": "evt_01kaj3vxhbfeasgnw4k6x1c2pd",
            "position": 1046,
            "type": "transfer.settled",
            "subject": _TRANSFER_ID,
            "seq": 3,
            "data": {
                "rail": "mpesa",
                "state": "SETTLED",
                "amount": "100.00",
                "currency": "KES",
                "receipt": "UKL5K3VX1N",
                "triggered_by": "callback",
                "payment_intent_id": INTENT_ID,
            },
            "occurred_at": "2026-11-21T08:00:22.735179+00:00",
        },
    ]
}
STREAM: Final = """\
retry: 2000

id: 1047
event: payment_intent.succeeded
data: {"id":"pi_01kaj3v7wvf4fr8mnp5sye2s6k","object":"payment_intent","status":"succeeded",...}

"""
