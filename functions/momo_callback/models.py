"""The wire shapes of /momo-callback."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

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
ANY_RESULT: Final[dict[str, Any]] = {
    "description": "Whatever the rail sends is kept, without the credentials some of it echoes.",
    "content": {
        "application/json": {
            "schema": {},
            "example": {
                "Result": {
                    "ResultType": 0,
                    "ResultCode": 0,
                    "ResultDesc": "The service request is processed successfully.",
                    "OriginatorConversationID": "j5d4e9g1z0xys5q7r8t9",
                    "ConversationID": "AG_20261121_1f0e2d3c4b5a69788796",
                    "TransactionID": "UKL7T6ZR3Q",
                    "ResultParameters": {
                        "ResultParameter": [
                            {"Key": "TransactionAmount", "Value": 1500},
                            {"Key": "TransactionReceipt", "Value": "UKL7T6ZR3Q"},
                        ]
                    },
                }
            },
        },
        "*/*": {"schema": {}, "example": "not JSON"},
    },
}
ANY_DEPOSIT: Final[dict[str, Any]] = {
    "description": "Whatever the rail sends is kept as it came, JSON or not.",
    "content": {
        "application/json": {
            "schema": {},
            "example": {
                "TransactionType": "Pay Bill",
                "TransID": "UKL9W0BT5S",
                "TransTime": "20261121122233",
                "TransAmount": "100.00",
                "BusinessShortCode": "600123",
                "BillRefNumber": "P5SYE2S6K",
                "MSISDN": "2547 ***** 126",
                "FirstName": "WANJIRU",
            },
        },
        "*/*": {"schema": {}, "example": "not JSON"},
    },
}


class Answered(BaseModel):
    """What Daraja reads: "0" lets the deposit be made, or says that the report arrived."""

    model_config = ConfigDict(extra="allow")

    ResultCode: Annotated[str, Field(examples=["0"])]
    ResultDesc: Annotated[str, Field(examples=["Accepted"])]


class Acknowledged(BaseModel):
    """What Daraja expects to read: received. It says nothing about what we made of it."""

    ResultCode: Literal[0] = 0
    ResultDesc: Literal["Accepted"] = "Accepted"
