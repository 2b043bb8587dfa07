"""The wire shapes of /momo-callback."""

from typing import Any, Final, Literal

from pydantic import BaseModel

ANY_BODY: Final[dict[str, Any]] = {
    "description": "Whatever the rail sends is kept as it came, JSON or not.",
    "content": {
        "application/json": {
            "schema": {},
            "example": {
                "Body": {
                    "stkCallback": {
                        "MerchantRequestID": "3c1f-4e0a-9d20-77aa11",
                        "CheckoutRequestID": "ws_CO_21112026080012345712345678",
                        "ResultCode": 0,
                        "ResultDesc": "The service request is processed successfully.",
                        "CallbackMetadata": {
                            "Item": [
                                {"Name": "Amount", "Value": 100.0},
                                {"Name": "MpesaReceiptNumber", "Value": "UKL5K3VX1N"},
                                {"Name": "TransactionDate", "Value": 20261121110022},
                                {"Name": "PhoneNumber", "Value": 254712345678},
                            ]
                        },
                    }
                }
            },
        },
        "*/*": {"schema": {}, "example": "not JSON"},
    },
}


class Acknowledged(BaseModel):
    """What Daraja expects to read: received. It says nothing about what we made of it."""

    ResultCode: Literal[0] = 0
    ResultDesc: Literal["Accepted"] = "Accepted"
